"""What a training step of `finetune.yaml`'s settings costs in each precision on this machine, steps in turn.

    python benchmarks/precision.py

EfficientDet-D0 and Lite0 at their own sizes with the loss, the optimiser and the clipping of the config, on one batch
of generated pixels. `auto` is what `--trainer.precision auto` takes here. Minimum and median of each.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from canvas_padding import FLAGS, make_batch, timed
from torch import nn

from detection.network.loss_settings import DetectionLoss
from detection.network.model import EfficientDet
from engine.hardware.precision import chosen_precision, processor_flags

PRECISIONS = ("32-true", "bf16-mixed")


def make_step(member: str, precision: str, batch_size: int) -> Callable[[], None]:
    torch.manual_seed(0)
    model = EfficientDet(member, 7, norm_momentum=0.03).train().to(memory_format=torch.channels_last)
    batch = make_batch(model.config.image_size, batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.01)
    config = DetectionLoss()

    def step() -> None:
        # As Lightning's mixed precision: the forward pass and the loss in the context, the backward pass outside.
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            losses = model.losses(batch, config)
            total = losses.total(losses.positives + 1, config.of_boxes)
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    auto, why = chosen_precision("auto", "cpu", training=True)
    flags = " ".join(flag for flag in FLAGS if flag in processor_flags())
    print(f"batch {given.batch}, {given.threads} threads, flags: {flags}; auto: {why}")
    for member in ("lite0", "d0"):
        steps: dict[str, Callable[[], object]] = {
            precision: make_step(member, precision, given.batch) for precision in PRECISIONS
        }
        seconds = timed(steps, given.rounds)
        shown = [f"{name} {min(times):.3f}, {statistics.median(times):.3f}" for name, times in seconds.items()]
        assert auto is not None
        shown.append(f"auto ({auto}) {min(seconds[auto]):.3f}, {statistics.median(seconds[auto]):.3f}")
        print(f"{member:6} s a step (minimum, median): {'; '.join(shown)}", flush=True)


if __name__ == "__main__":
    main()
