"""Time our DeepLabv3+ beside smp's on this machine: the same weights and images, interleaved, float32.

    python benchmarks/beside_smp.py --threads 2

Each round runs every measurement once on either side, ours and smp's in turn, so that noise affects both equally. Each
side has a process of its own, because how freed memory is kept is a process's: ours keeps it, as all our commands do,
and smp's does with `--keep-memory both`. The output is the minimum and the median of all rounds, the ratio ours / smp
(below 1: ours is faster), and the peak memory of each measurement in a process of its own. Our network predicts folded,
as `segmentation.load` gives it. smp's runs with its defaults, in PyTorch's default memory format; `--channels-last`
gives it ours. The training step has two images, because smp's fails with one.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from sides import Call, add_options, interleaved, peak_of, print_peak
from torch import Tensor, nn

from segmentation.network.losses import SegmentationLoss, segmentation_losses
from segmentation.network.model import Segmenter
from segmentation.weights.smp import load_smp

CLASSES = 19
SIDES = ("ours", "smp")
MEASURES = ("inference, one image", "training step")


def networks(encoder: str) -> tuple[Segmenter, nn.Module]:
    """Our network and smp's with the same weights; ours has its default alignment."""
    torch.manual_seed(0)
    theirs = smp.DeepLabV3Plus(f"tu-{encoder}", encoder_weights=None, classes=CLASSES).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        same = load_smp(folder)
        ours = load_smp(folder, alignment=Segmenter("b0", CLASSES).config.alignment)
    images = torch.randint(0, 256, (1, 3, 128, 160), dtype=torch.uint8)
    with torch.no_grad():
        expected = theirs(same.normalise(images))
        assert (same(images) - expected).abs().max() < 1e-4 * expected.abs().max(), "the weights do not agree"
    return ours.to(memory_format=torch.channels_last), theirs


def measurements(
    encoder: str, size_hw: tuple[int, int], batch: int, channels_last: bool
) -> dict[str, tuple[Call, Call]]:
    """Pairs of (ours, smp's) by name."""
    ours, theirs = networks(encoder)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    theirs = theirs.to(memory_format=memory_format)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, *size_hw), dtype=torch.uint8, generator=generator)
    class_ids = torch.randint(0, CLASSES, (batch, *size_hw), generator=generator).byte()
    class_ids[:, :32] = 255
    mean, std = ours.mean.clone(), ours.std.clone()
    folded = copy.deepcopy(ours).fold()
    config = SegmentationLoss()

    def normalise(pixels: Tensor) -> Tensor:
        return ((pixels - mean) / std).contiguous(memory_format=memory_format)

    @torch.inference_mode()
    def our_inference() -> object:
        return folded(images[:1])

    @torch.inference_mode()
    def their_inference() -> object:
        return theirs.eval()(normalise(images[:1]))

    def our_step() -> None:
        logits, aux_logits = ours.train().outputs(images)
        segmentation_losses(logits, class_ids, config, aux_logits).total(config).backward()
        ours.zero_grad()

    def their_step() -> None:
        logits = theirs.train()(normalise(images))
        F.cross_entropy(logits, class_ids.long(), ignore_index=255).backward()
        theirs.zero_grad()

    return {MEASURES[0]: (our_inference, their_inference), MEASURES[1]: (our_step, their_step)}


def calls_of(given: argparse.Namespace, side: str) -> dict[str, Call]:
    """The measurements of a side by name."""
    torch.set_num_threads(given.threads)
    pairs = measurements(given.encoder, (given.size[0], given.size[1]), given.batch, given.channels_last)
    return {name: pair[SIDES.index(side)] for name, pair in pairs.items()}


def print_table(given: argparse.Namespace, seconds: dict[tuple[str, int], list[float]]) -> None:
    height, width = given.size
    print(f"{given.encoder} at {height}x{width}, {given.threads} threads, {given.rounds} rounds; milliseconds")
    print(f"{'':24}{'ours min':>10}{'median':>9}{'smp min':>10}{'median':>9}{'ratio min':>11}{'median':>8}")
    for name in MEASURES:
        (low, mid), (their_low, their_mid) = (
            (min(s), statistics.median(s)) for s in (seconds[name, 0], seconds[name, 1])
        )
        print(
            f"{name:24}{1e3 * low:10.0f}{1e3 * mid:9.0f}{1e3 * their_low:10.0f}{1e3 * their_mid:9.0f}"
            f"{low / their_low:11.2f}{mid / their_mid:8.2f}"
        )


def main() -> None:
    """Run the rounds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="tf_efficientnet_b0", help="timm's name")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 1024), help="height and width")
    parser.add_argument("--batch", type=int, default=2, help="images of a training step")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--channels-last", action="store_true", help="smp in our memory format")
    add_options(parser)
    given = parser.parse_args()
    if given.peak:
        print_peak(calls_of, given)
        return
    memory = {(name, side): peak_of(__file__, name, side) for name in MEASURES for side in SIDES}  # nothing else runs
    seconds = interleaved(calls_of, given, SIDES, MEASURES)
    print_table(given, seconds)
    print(f"\n{'resident MiB':24}{'ours peak':>10}{'above start':>13}{'smp peak':>10}{'above start':>13}")
    for name in MEASURES:
        figures = [value for before, peak in (memory[name, side] for side in SIDES) for value in (peak, peak - before)]
        print(f"{name:24}{figures[0]:10.0f}{figures[1]:13.0f}{figures[2]:10.0f}{figures[3]:13.0f}")


if __name__ == "__main__":
    main()
