"""The formats that a set of boxes is written in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from detection.formats.writers import coco, labelme, voc, yolo
from detection.formats.writers.parts import SetToWrite

Target: TypeAlias = Literal["coco", "voc", "yolo", "labelme"]
WRITERS: Mapping[Target, Callable[[SetToWrite, Path], dict[str, str]]] = {
    "coco": coco.write,
    "voc": voc.write,
    "yolo": yolo.write,
    "labelme": labelme.write,
}
