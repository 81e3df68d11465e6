"""Seconds that the doctor's reading of images takes, beside a plain loop that decodes them, in turns.

    python benchmarks/check_data.py FOLDER [--count 20000] [--rounds 3]

FOLDER holds images; with --count that many are written there first if it does not exist, photographs' sizes and noise
that no format packs well. Both sides use the same number of threads; the doctor hashes and compares besides. At the end
stands the time of what `fit` does by itself: the annotations of as many images with seven boxes each.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from detection.checking.read_set import quick_findings
from detection.data.boxes import box_table
from detection.data.classes import BoxClasses
from detection.network.family import architecture
from engine.checking.image_files import read_all
from engine.checking.twins import find_twins
from engine.reading.listing import find_images
from engine.threads import free_cores

SIZE_HW = (480, 640)  # as most of COCO's
BOXES = 7  # of an image, as in COCO
CLASSES = BoxClasses(("one", "two"), (1, 2))


def _decode(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


def _plain(paths: list[Path]) -> None:
    Image.init()
    with ThreadPoolExecutor(free_cores()) as pool:
        list(pool.map(_decode, paths))


def _doctor(paths: list[Path]) -> None:
    list(find_twins(["all"] * len(paths), read_all(paths)))


def _write(folder: Path, count: int) -> None:
    """JPEGs of smooth noise with grain, about 90 kB each."""
    folder.mkdir(parents=True)
    grain = np.random.default_rng(0).integers(-12, 13, (*SIZE_HW, 1), dtype=np.int16)

    def one(number: int) -> None:
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(SIZE_HW[::-1], Image.Resampling.BICUBIC), np.int16)
        Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(folder / f"{number:06}.jpg", quality=85)

    with ThreadPoolExecutor(free_cores()) as pool:
        list(pool.map(one, range(count)))


def _quick_seconds(paths: list[Path]) -> float:
    rng = np.random.default_rng(0)
    count = BOXES * len(paths)
    sides = rng.uniform(10, 200, (count, 2))
    corners = rng.uniform(0, 1, (count, 2)) * (np.array(SIZE_HW[::-1]) - sides)
    boxes = np.concatenate([corners, sides], axis=1)
    rows = np.repeat(np.arange(len(paths)), BOXES)
    sizes_hw = np.array([SIZE_HW] * len(paths), np.int32)
    table = box_table("all", CLASSES, paths, boxes, rows, rows % 2, sizes_hw=sizes_hw)
    start = time.perf_counter()
    quick_findings({"train": table}, (512, 512), architecture("d0"))
    return time.perf_counter() - start


def main(folder: Path, count: int | None, rounds: int) -> None:
    """Print the best time of each, and their ratio."""
    if count is not None and not folder.exists():
        _write(folder, count)
    paths = find_images(folder)
    ways: dict[str, Callable[[list[Path]], None]] = {"plain": _plain, "doctor": _doctor}
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way(paths)
            best[name] = min(best[name], time.perf_counter() - start)
    speeds = ", ".join(f"{name} {len(paths) / seconds:,.0f} images/s" for name, seconds in best.items())
    sys.stdout.write(f"{len(paths):,} images: {speeds}; doctor/plain time {best['doctor'] / best['plain']:.2f}\n")
    sys.stdout.write(f"annotations alone: {_quick_seconds(paths):.2f} s\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    main(given.folder, given.count, given.rounds)
