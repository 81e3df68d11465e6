"""Run in an environment of its own, without this project: a .pt2 file of torch.export to a .tflite file.

    python converting.py IN.pt2 OUT.tflite

The images come in with the colours last, as cameras and TensorFlow have them.
"""

import sys

import litert_torch
import torch
from torch import Tensor, nn


class Program(nn.Module):
    """A loaded program; it has no modes, but the converter asks for one."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.program = torch.export.load(source)
        self.run = self.program.module()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The program's outputs."""
        outputs: tuple[Tensor, ...] = self.run(images)
        return outputs

    def train(self, mode: bool = True) -> "Program":
        """Nothing changes."""
        return self

    def eval(self) -> "Program":
        """Nothing changes."""
        return self


def main(source: str, target: str) -> None:
    """Convert one file to the other."""
    module = Program(source)
    (images,), _ = module.program.example_inputs
    last = litert_torch.to_channel_last_io(module, args=[0])
    litert_torch.convert(last, (images.permute(0, 2, 3, 1).contiguous(),)).export(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
