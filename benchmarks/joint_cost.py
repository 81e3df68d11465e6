"""The cost of one joint pass compared with the two networks one after the other, and with one head switched off.

    python benchmarks/joint_cost.py --threads 2

All networks are folded, as `load` gives them. Each round runs every measurement once, in turn, so that noise affects
all equally. The output is multiply-accumulates, the minimum and the median of all rounds, and ratios: of the joint
pass to the sum of the two networks alone, and of the joint network with one head switched off to that network alone.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from detection.network.model import EfficientDet
from joint.network.model import JointNetwork
from segmentation.network.model import Segmenter

Call = Callable[[], object]


def calls(detector: str, segmenter: str, output_stride: int, size_hw: tuple[int, int]) -> dict[str, Call]:
    """Measurements by name."""
    torch.manual_seed(0)
    alone = EfficientDet(detector, 90), Segmenter(segmenter, 19, output_stride=output_stride)
    joint = JointNetwork(*copy.deepcopy(alone))
    networks = [network.fold().to(memory_format=torch.channels_last) for network in (*alone, joint)]
    one, other, both = networks
    images = torch.randint(0, 256, (1, 3, *size_hw), dtype=torch.uint8)
    return {
        "detector alone": lambda: one.predictions(images),
        "segmenter alone": lambda: other(images),
        "joint": lambda: both(images),
        "joint, boxes only": lambda: both(images, segment=False),
        "joint, classes only": lambda: both(images, detect=False),
    }


def macs(call: Call) -> float:
    """Multiply-accumulates in 10⁹."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 2e9


@torch.no_grad()
def main() -> None:
    """Print a table for each output stride."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="d0")
    parser.add_argument("--segmenter", default="b0")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 1024), help="height and width")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for output_stride in (16, 32):
        measured = calls(given.detector, given.segmenter, output_stride, (given.size[0], given.size[1]))
        costs = {name: macs(call) for name, call in measured.items()}
        seconds: dict[str, list[float]] = {name: [] for name in measured}
        for turn in range(given.rounds + 1):
            for name, call in measured.items():
                start = time.perf_counter()
                call()
                if turn:  # the first round is for warming up
                    seconds[name].append(time.perf_counter() - start)
        low = {name: min(times) for name, times in seconds.items()}
        mid = {name: statistics.median(times) for name, times in seconds.items()}
        beside = {
            "joint": ("detector alone", "segmenter alone"),
            "joint, boxes only": ("detector alone",),
            "joint, classes only": ("segmenter alone",),
        }
        size = "x".join(map(str, given.size))
        print(f"{given.detector} + {given.segmenter} at {size}, output stride {output_stride}, {given.threads} threads")
        print(f"{'':22}{'GMACs':>8}{'ms min':>9}{'median':>9}{'ratio MACs':>12}{'min':>7}{'median':>8}")
        for name in measured:
            ratios = "".join(
                f"{table[name] / sum(table[other] for other in beside[name]):{width}.3f}"
                for table, width in ((costs, 12), (low, 7), (mid, 8))
                if name in beside
            )
            print(f"{name:22}{costs[name]:8.2f}{1e3 * low[name]:9.0f}{1e3 * mid[name]:9.0f}{ratios}")
        print()


if __name__ == "__main__":
    main()
