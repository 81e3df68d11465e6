"""What a canvas that is not padded to multiples of 128 saves: the same network with and without, steps in turn.

    python benchmarks/canvas_padding.py

Times a training step (forward, loss, backward, AdamW) and a folded forward pass of EfficientDet-Lite0 at its own 320
pixels and on the demo's canvas, `pads_canvas` on (as before) and off (as published), interleaved in one process.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from detection.data.batch import DetectionBatch
from detection.network.loss_settings import DetectionLoss
from detection.network.model import EfficientDet
from engine.hardware.precision import processor_flags

CANVASES = {"Lite0's own": ((320, 320), 0), "the demo's": ((192, 384), 3)}  # with the stages that are frozen
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def make_batch(size: tuple[int, int], count: int) -> DetectionBatch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=generator)
    low = torch.rand(count, 10, 2, generator=generator) * torch.tensor([size[1], size[0]]) * 0.7
    boxes = torch.cat([low, low + 16 + 40 * torch.rand(count, 10, 2, generator=generator)], -1)
    class_ids = torch.randint(0, 7, (count, 10), generator=generator)
    return DetectionBatch(
        images, boxes, class_ids, torch.arange(count), torch.ones(count), torch.tensor([size] * count)
    )


def training(size: tuple[int, int], frozen: int, batch: DetectionBatch, *, pads: bool) -> Callable[[], object]:
    model = EfficientDet("lite0", 7, image_size=size, pads_canvas=pads, frozen_stages=frozen).train()
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    config = DetectionLoss()

    def step() -> None:
        losses = model.losses(batch, config)
        losses.total(losses.positives + 1, config.of_boxes).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def predicting(size: tuple[int, int], batch: DetectionBatch, *, pads: bool) -> Callable[[], object]:
    model = EfficientDet("lite0", 7, image_size=size, pads_canvas=pads).eval().fold()
    return lambda: model.predictions(batch.images)


def timed(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 2):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if turn >= 2:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    has = processor_flags()
    print(f"batch {given.batch}, {given.threads} threads, flags: {' '.join(flag for flag in FLAGS if flag in has)}")
    print("canvas                  what               padded s (min, median)   exact s (min, median)   ratio")
    for name, (size, frozen) in CANVASES.items():
        batch = make_batch(size, given.batch)
        pairs = {
            "training step": {key: training(size, frozen, batch, pads=pads) for key, pads in WAYS.items()},
            "folded forward": {key: predicting(size, batch, pads=pads) for key, pads in WAYS.items()},
        }
        for what, calls in pairs.items():
            with torch.set_grad_enabled(what == "training step"):
                seconds = timed(calls, given.rounds)
            best, usual = (
                {key: reduce(values) for key, values in seconds.items()} for reduce in (min, statistics.median)
            )
            shown = [f"{best[key]:8.3f}, {usual[key]:.3f}" for key in WAYS]
            ratios = f"{best['padded'] / best['exact']:.2f}, {usual['padded'] / usual['exact']:.2f}"
            print(
                f"{name:11} {size[0]} x {size[1]}   {what:16} {shown[0]:>20} {shown[1]:>23}        {ratios}", flush=True
            )


WAYS = {"padded": True, "exact": False}

if __name__ == "__main__":
    main()
