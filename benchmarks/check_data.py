"""Seconds that the doctor's reading of images takes, beside a plain loop that decodes them, in turns.

    python benchmarks/check_data.py FOLDER

Both use the same number of threads; the doctor hashes and compares besides.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from engine.checking.image_files import read_all
from engine.checking.twins import twins
from engine.reading.listing import find_images
from engine.threads import free_cores

ROUNDS = 3


def _decode(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


def _plain(paths: list[Path]) -> None:
    Image.init()
    with ThreadPoolExecutor(free_cores()) as pool:
        list(pool.map(_decode, paths))


def _doctor(paths: list[Path]) -> None:
    list(twins([str(path) for path in paths], ["all"] * len(paths), read_all(paths)))


def main(folder: str) -> None:
    """Print the best time of each, and their ratio."""
    paths = find_images(folder)
    ways: dict[str, Callable[[list[Path]], None]] = {"plain": _plain, "doctor": _doctor}
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way(paths)
            best[name] = min(best[name], time.perf_counter() - start)
    speeds = ", ".join(f"{name} {len(paths) / seconds:,.0f} images/s" for name, seconds in best.items())
    sys.stdout.write(f"{len(paths):,} images: {speeds}; doctor/plain time {best['doctor'] / best['plain']:.2f}\n")


if __name__ == "__main__":
    main(sys.argv[1])
