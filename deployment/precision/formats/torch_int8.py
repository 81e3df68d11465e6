"""Int8 by torchao's PT2E and the quantiser of Inductor, for .pt2 files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

import torch

from deployment.export.formats.torch_file import write_torch
from deployment.precision.formats.executorch_int8 import ExecutorchInt8
from deployment.precision.formats.processor import saturates
from deployment.running.inductor import register_int8
from deployment.setup.environment import tell_user


class TorchInt8(ExecutorchInt8):
    """A network that can be written as a .pt2 file in int8, whole or in parts, without a suppression."""

    # Besides convolutions, what Inductor computes as part of one, or between two of them. Sums with a shortcut, which
    # would be rounded for it, stay in float.
    kinds = frozenset(("conv2d", "hardtanh", "relu", "silu", "cat", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"))

    @property
    def backend(self) -> str:
        """Inductor's quantiser, with seven bits for activations where products of bytes need them."""
        return "x86_narrow" if saturates() else "x86"

    def write(self, path: Path, floats: Collection[str], tell: Callable[[str], None] = tell_user) -> None:
        """Write the file in int8; see `deployment.precision.guard.Int8`."""
        register_int8()
        with tempfile.TemporaryDirectory(dir=self._beside) as folder:
            program = torch.export.load(self.write_program(Path(folder, "int8.pt2"), floats))
            write_torch(program, path, self._about)
