"""Time our detector beside effdet 0.4.1 on this machine: the same member, weights and images, interleaved.

    python benchmarks/beside_effdet.py --member d0 --threads 2

Each round runs every measurement once on either side, ours and effdet's in turn, so that noise affects both equally.
Each side has a process of its own, because how freed memory is kept is a process's: ours keeps it, as all our commands
do, and effdet's does with `--keep-memory both`. The output is the minimum and the median of all rounds, the ratio
ours / effdet (below 1: ours is faster), and the peak memory of a training step in a process of its own. Targets are
the anchors of the boxes of a batch, which every step looks for.
"""

from __future__ import annotations

import argparse
import statistics

import effdet
import torch
from effdet.bench import DetBenchPredict, DetBenchTrain
from sides import Call, add_options, interleaved, peak_of, print_peak
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from detection.data.batch import DetectionBatch
from detection.network.loss_settings import DetectionLoss
from detection.network.matching import match_anchors
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess
from detection.weights.effdet_layout import export_effdet
from detection.weights.published import PUBLISHED
from engine.hardware.machine import in_words, machine

SIDES = ("ours", "effdet")
MEASURES = (
    "network, one image",
    "image to boxes, hard NMS",
    "image to boxes, soft NMS",
    "targets, batch {batch}",
    "training step, batch {batch}",
)


def measurements(member: str, size: int, batch: int) -> dict[str, tuple[Call, Call]]:
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

    def no_grad(call: Call) -> Call:
        return torch.no_grad()(call)

    def soft(on: bool) -> Call:
        def call() -> object:
            predict.soft_nms = on
            return predict((image - mean) / std, info)

        return call

    def our_targets() -> object:
        anchors = ours.anchors((size, size), images.device)
        return match_anchors(boxes, class_ids, anchors, lattice=ours.lattice((size, size)))

    def their_targets() -> object:
        return bench.anchor_labeler.batch_label_anchors(target["bbox"], target["cls"])

    pairs = (
        (no_grad(lambda: ours(image)), no_grad(lambda: theirs((image - mean) / std))),
        (lambda: ours.detect(as_batch(image), Postprocess()), no_grad(soft(False))),
        (lambda: ours.detect(as_batch(image), Postprocess(nms="soft")), no_grad(soft(True))),
        (our_targets, their_targets),
        (our_step, their_step),
    )
    return dict(zip((name.format(batch=batch) for name in MEASURES), pairs, strict=True))


def calls_of(given: argparse.Namespace, side: str) -> dict[str, Call]:
    """The measurements of a side by name."""
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    pairs = measurements(given.member, given.size, given.batch)
    return {name: pair[SIDES.index(side)] for name, pair in pairs.items()}


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--member", default="d0")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", help="measure only what begins so, such as targets, and no memory")
    add_options(parser)
    given = parser.parse_args()
    if given.peak:
        print_peak(calls_of, given)
        return
    every = [name.format(batch=given.batch) for name in MEASURES]
    measures = [name for name in every if name.startswith(given.only or "")]
    sides = () if given.only else SIDES
    memory = {side: peak_of(__file__, every[-1], side) for side in sides}  # first, while nothing else runs
    seconds = interleaved(calls_of, given, SIDES, measures)
    print(in_words(machine()))
    print(f"{given.member} at {given.size} px, {given.threads} threads, {given.rounds} rounds; milliseconds")
    print(f"{'':32}{'ours min':>10}{'median':>9}{'effdet min':>12}{'median':>9}{'ratio min':>11}{'median':>8}")
    for name in measures:
        own, other = seconds[name, 0], seconds[name, 1]
        low, mid = min(own), statistics.median(own)
        their_low, their_mid = min(other), statistics.median(other)
        print(
            f"{name:32}{1e3 * low:10.1f}{1e3 * mid:9.1f}{1e3 * their_low:12.1f}{1e3 * their_mid:9.1f}"
            f"{low / their_low:11.2f}{mid / their_mid:8.2f}"
        )
    for side, (before, highest) in memory.items():
        print(f"training step, {side}: peak {highest:.0f} MiB resident, {highest - before:.0f} above the start")


if __name__ == "__main__":
    main()
