"""Time our detector beside effdet 0.4.1 on this machine: the same member, weights and images, interleaved.

    python benchmarks/beside_effdet.py --member d0 --threads 2

Each round runs every measurement once on either side, ours and effdet's in turn, so that noise affects both equally.
The output is the minimum and the median of all rounds, the ratio effdet / ours (above 1: ours is faster), and the peak
memory of a training step in a process of its own. Targets are the anchors of the boxes of a batch, which every step
looks for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import effdet
import torch
from effdet.bench import DetBenchPredict, DetBenchTrain
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from detection.data.batch import DetectionBatch
from detection.network.loss_settings import DetectionLoss
from detection.network.matching import match_anchors
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess
from detection.weights.effdet_layout import export_effdet
from detection.weights.published import PUBLISHED
from engine.hardware.machine import in_words, machine
from engine.hardware.memory import keep_freed_memory

SIDES = ("ours", "effdet")


def measurements(member: str, size: int, batch: int) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """Pairs of (ours, effdet's) by name."""
    name = f"tf_efficientdet_{member}"
    config = effdet.get_efficientdet_config(name)
    config.image_size = (size, size)
    ours = EfficientDet(member, image_size=size, **PUBLISHED[name].overrides).eval()
    theirs = effdet.EfficientDet(config, pretrained_backbone=False).eval()
    theirs.load_state_dict(export_effdet(ours, redundant_bias=PUBLISHED[name].redundant_bias))
    ours = ours.to(memory_format=torch.channels_last)

    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8, generator=generator)
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, generator=generator)
    low = torch.rand(batch, 20, 2, generator=generator) * size * 0.7
    boxes = torch.cat([low, low + 8 + torch.rand(batch, 20, 2, generator=generator) * size * 0.25], -1)
    class_ids = torch.randint(0, 90, (batch, 20), generator=generator)

    def as_batch(pixels: torch.Tensor) -> DetectionBatch:
        count = len(pixels)
        sizes = torch.tensor([[size, size]] * count)
        return DetectionBatch(pixels, boxes[:count], class_ids[:count], torch.arange(count), torch.ones(count), sizes)

    # Most of effdet's configurations leave out what its loader then takes: ImageNet's.
    mean = 255 * torch.tensor(config.get("mean", IMAGENET_DEFAULT_MEAN)).view(3, 1, 1)
    std = 255 * torch.tensor(config.get("std", IMAGENET_DEFAULT_STD)).view(3, 1, 1)
    info = {"img_scale": torch.ones(1), "img_size": torch.tensor([[float(size), float(size)]])}
    target = {"bbox": boxes[..., [1, 0, 3, 2]], "cls": (class_ids + 1).float()}
    predict = DetBenchPredict(theirs).eval()
    bench = DetBenchTrain(theirs)
    loss = DetectionLoss()

    def our_step() -> None:
        ours.train()
        losses = ours.losses(as_batch(images), loss)
        losses.total(losses.positives + 1, loss.of_boxes).backward()
        ours.zero_grad()
        ours.eval()

    def their_step() -> None:
        bench.train()
        bench((images - mean) / std, target)["loss"].backward()
        bench.zero_grad()
        bench.eval()

    def no_grad(call: Callable[[], object]) -> Callable[[], object]:
        return torch.no_grad()(call)

    def soft(on: bool) -> Callable[[], object]:
        def call() -> object:
            predict.soft_nms = on
            return predict((image - mean) / std, info)

        return call

    def our_targets() -> object:
        anchors = ours.anchors((size, size), images.device)
        return match_anchors(boxes, class_ids, anchors, lattice=ours.lattice((size, size)))

    def their_targets() -> object:
        return bench.anchor_labeler.batch_label_anchors(target["bbox"], target["cls"])

    return {
        "network, one image": (no_grad(lambda: ours(image)), no_grad(lambda: theirs((image - mean) / std))),
        "image to boxes, hard NMS": (lambda: ours.detect(as_batch(image), Postprocess()), no_grad(soft(False))),
        "image to boxes, soft NMS": (
            lambda: ours.detect(as_batch(image), Postprocess(nms="soft")),
            no_grad(soft(True)),
        ),
        f"targets, batch {batch}": (our_targets, their_targets),
        f"training step, batch {batch}": (our_step, their_step),
    }


def resident_mib(field: str) -> float:
    """This process's `VmRSS`, or its peak `VmHWM`; getrusage's peak is at least that of the parent process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def peak(side: str) -> tuple[float, float]:
    """Resident MiB before two training steps in a new process, and the peak during them."""
    command = [sys.executable, __file__, "--peak", side, *sys.argv[1:]]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    before, highest = json.loads(printed.splitlines()[-1])
    return before, highest


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--member", default="d0")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--keep-memory", action="store_true", help="both sides keep freed memory, as `fit` does on a processor"
    )
    parser.add_argument("--only", help="measure only what begins so, such as targets, and no memory")
    parser.add_argument("--peak", choices=SIDES, help="only print the memory of this side's training step")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    if given.keep_memory:
        keep_freed_memory()
    memory = {} if given.peak or given.only else {side: peak(side) for side in SIDES}  # first, while nothing else runs
    pairs = measurements(given.member, given.size, given.batch)
    if given.peak:
        before = resident_mib("VmRSS")
        for _ in range(2):
            pairs[f"training step, batch {given.batch}"][SIDES.index(given.peak)]()
        print(json.dumps([before, resident_mib("VmHWM")]))
        return
    pairs = {name: sides for name, sides in pairs.items() if name.startswith(given.only or "")}
    seconds: dict[tuple[str, int], list[float]] = {(name, side): [] for name in pairs for side in (0, 1)}
    for turn in range(given.rounds + 1):
        for name, sides in pairs.items():
            for side, call in enumerate(sides):
                start = time.perf_counter()
                call()
                if turn:  # the first round is for warming up
                    seconds[name, side].append(time.perf_counter() - start)
    print(in_words(machine()))
    print(f"{given.member} at {given.size} px, {given.threads} threads, {given.rounds} rounds; milliseconds")
    print(f"{'':32}{'ours min':>10}{'median':>9}{'effdet min':>12}{'median':>9}{'ratio min':>11}{'median':>8}")
    for name in pairs:
        own, other = seconds[name, 0], seconds[name, 1]
        low, mid = min(own), statistics.median(own)
        their_low, their_mid = min(other), statistics.median(other)
        print(
            f"{name:32}{1e3 * low:10.1f}{1e3 * mid:9.1f}{1e3 * their_low:12.1f}{1e3 * their_mid:9.1f}"
            f"{their_low / low:11.2f}{their_mid / mid:8.2f}"
        )
    for side, (before, highest) in memory.items():
        print(f"training step, {side}: peak {highest:.0f} MiB resident, {highest - before:.0f} above the start")


if __name__ == "__main__":
    main()
