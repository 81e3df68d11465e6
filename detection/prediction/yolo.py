"""Objects as YOLO labels: a line for each, with its class, its box in fractions of the image, and its track."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detection.data.classes import BoxClasses
from detection.prediction.found import Found
from engine.outputs import atomic_path

CLASSES_NAME = "classes.txt"
LABELS_SUFFIX = ".txt"


def yolo_lines(found: Found, classes: BoxClasses) -> list[str]:
    """The lines of an image; boxes are cut at its edges.

    Args:
        found: the objects of the image.
        classes: the detector's class list. A class's number is its place among the rows that have a name.
    """
    numbers = np.cumsum([bool(name) for name in classes.names]) - 1
    height, width = found.size_hw
    sides = np.array([width, height, width, height], np.float64)
    edges = np.clip(found.boxes_xyxy, 0, sides) / sides
    boxes = np.concatenate([(edges[:, :2] + edges[:, 2:]) / 2, edges[:, 2:] - edges[:, :2]], axis=1)
    tracks = [""] * len(found) if found.track_ids is None else [f" {one}" if one > 0 else "" for one in found.track_ids]
    return [
        f"{numbers[row]} {x:.6f} {y:.6f} {w:.6f} {h:.6f}{track}"
        for row, (x, y, w, h), track in zip(found.class_ids.tolist(), boxes.tolist(), tracks, strict=True)
    ]


def write_labels(path: Path, found: Found, classes: BoxClasses) -> None:
    """Write the labels of an image; without objects the file is empty.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in yolo_lines(found, classes)), encoding="utf-8")


def write_classes(path: Path, classes: BoxClasses) -> None:
    """Write the names of the classes, one a line, in the order of their numbers.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{name}\n" for name in classes.names if name), encoding="utf-8")
