"""A clean set of boxes in which faults are planted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from detection.data.boxes import BoxTable, box_table
from detection.data.classes import BoxClasses
from tests.engine.checking.planted import SIZE_HW, pixels

Boxes = Sequence[tuple[float, float, float, float]]
CLASSES = BoxClasses(("bolt", "nut"), (1, 2))
GOOD: Boxes = ((5.0, 5.0, 20.0, 20.0), (30.0, 30.0, 25.0, 20.0))
SEEDS = {"train": range(1, 16), "val": range(21, 36)}


def boxes_of(seed: int) -> Boxes:
    """Four boxes that overlap little and differ from those of other seeds."""
    rng = np.random.default_rng(seed)
    corners = np.array([[4, 4], [52, 4], [4, 36], [52, 36]]) + rng.uniform(0, 8, (4, 2))
    sides = rng.uniform(15, 20, (4, 2))
    return [tuple(box) for box in np.concatenate([corners, sides], axis=1).round(2).tolist()]


def table(folder: Path, boxes: Mapping[int, Boxes], names: Mapping[int, str] | None = None) -> BoxTable:
    """A split with an image of each seed; classes take turns, but equal boxes that follow each other have one."""
    folder.mkdir(exist_ok=True, parents=True)
    rows, corners, paths, class_ids = [], [], [], []
    for place, (seed, own) in enumerate(boxes.items()):
        paths.append(folder / (names or {}).get(seed, f"{seed}.png"))
        Image.fromarray(pixels(seed)).save(paths[-1])
        for count, box in enumerate(own):
            rows.append(place)
            corners.append(box)
            near = count and np.allclose(box, own[count - 1], atol=0.2)
            class_ids.append(class_ids[-1] if near else count % 2)
    image_rows = np.array(rows, np.int64)
    found = box_table(str(folder), CLASSES, paths, np.array(corners, np.float64), image_rows, np.array(class_ids))
    return dataclasses.replace(found, sizes_hw=np.array([SIZE_HW] * len(boxes), np.int32))


def clean_set(
    root: Path,
    train: Mapping[int, Boxes] | None = None,
    val: Mapping[int, Boxes] | None = None,
    renamed: Mapping[int, str] | None = None,
) -> dict[str, BoxTable]:
    """Two splits without a fault; the boxes of some seeds may be given, and the names of their images."""
    given = {"train": train or {}, "val": val or {}}
    return {
        split: table(root / split, {seed: given[split].get(seed, boxes_of(seed)) for seed in seeds}, renamed)
        for split, seeds in SEEDS.items()
    }
