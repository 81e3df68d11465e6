"""The small sets of the joint tests as data modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from joint.data.files import BoxFiles, MaskFiles
from joint.data.module import JointDataModule

CANVAS_HW = (128, 192)
LOADING: dict[str, Any] = {"canvas_size": CANVAS_HW, "batch_size": 3, "num_workers": 0}
PHOTOS = {
    f"{split}_{kind}": f"{split}{end}"
    for split in ("train", "val")
    for kind, end in (("images", ""), ("annotations", ".json"))
}


def both(root: Path, **options: Any) -> JointDataModule:
    return JointDataModule("both", str(root), **(LOADING | options))


def two(photos: Path, streets: Path, **options: Any) -> JointDataModule:
    files = {"boxes": BoxFiles(str(photos), **PHOTOS), "masks": MaskFiles(str(streets))}
    return JointDataModule("two", **(LOADING | files | options))
