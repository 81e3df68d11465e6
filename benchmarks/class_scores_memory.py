"""The memory and time of the classes of a large picture, strip by strip and with the scores of all pixels at once.

    python benchmarks/class_scores_memory.py

Random weights, 19 classes. `whole`: a window larger than the picture; `tiles`: as pictures beyond 4K are computed by
default. Memory: growth of the peak of resident memory over that of the loaded network, each in a process of its own.
`--time` compares times at 512 x 1024 and at the given size, interleaved. Linux; 7 GB of memory; a few minutes.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from segmentation.inference.inference import Inference, class_rows, probabilities
from segmentation.network.model import Segmenter

CASES = ("whole", "tiles", "whole at once", "tiles at once")


def peak_mb() -> float:
    """Peak of resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def at_once(network: Segmenter, image: Tensor, config: Inference) -> Tensor:
    """Classes from the scores of all pixels, as they were computed before."""
    if config.window is None and image.shape[1] * image.shape[2] > 3840 * 2160:
        return probabilities(network, image, config).argmax(0).to(torch.uint8)
    with torch.no_grad():
        logits: Tensor = network(image[None])
        assert not logits.sum().isnan()
        return logits.argmax(1).to(torch.uint8)[0]


def compute(case: str, network: Segmenter, image: Tensor) -> Tensor:
    """The classes in one of the ways."""
    config = Inference(window=max(image.shape) if case.startswith("whole") else None)
    return at_once(network, image, config) if case.endswith("at once") else class_rows(network, image, config)


def picture(height: int, width: int) -> Tensor:
    """Seeded noise, smooth in patches."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (3, -(-height // 8), -(-width // 8)), dtype=np.uint8)
    return torch.from_numpy(small.repeat(8, 1).repeat(8, 2)[:, :height, :width].copy())


def timed(network: Segmenter, height: int, width: int, rounds: int) -> None:
    """Print seconds of the whole in both ways, minimum and median."""
    image = picture(height, width)
    seconds: dict[str, list[float]] = {"whole": [], "whole at once": []}
    for _ in range(rounds):
        for case, taken in seconds.items():
            start = time.perf_counter()
            compute(case, network, image)
            taken.append(time.perf_counter() - start)
    for case, taken in seconds.items():
        print(f"{height} x {width} {case}: {min(taken):.3f} s / {statistics.median(taken):.3f} s", flush=True)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--member", default="lite0")
    parser.add_argument("--size", type=int, nargs=2, default=(4000, 5000), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--only", choices=CASES)
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if given.time:
        network = Segmenter(given.member, 19).eval().fold()
        for height, width in ((512, 1024), given.size):
            timed(network, height, width, given.rounds)
        return
    if given.only is None:
        for case in CASES:
            own = ["--member", given.member, "--size", *map(str, given.size), "--only", case]
            subprocess.run([sys.executable, __file__, *own], check=True)
        return
    network = Segmenter(given.member, 19).eval().fold()
    image = picture(*given.size)
    before = peak_mb()
    compute(given.only, network, image)
    print(f"{given.member} {given.size[0]} x {given.size[1]} {given.only}: {peak_mb() - before:.0f} MB")


if __name__ == "__main__":
    main()
