"""What a detector found as a set that annotation tools open, images and all: COCO, Pascal VOC, YOLO or LabelMe.

`python -m detection fit --data.root` and `convert-data` read such a set as well, once somebody has corrected it.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from detection.data.boxes import BoxTable, box_table
from detection.data.classes import BoxClasses
from detection.formats.writers.choice import WRITERS, Target
from detection.formats.writers.parts import SetToWrite
from engine.annotations.splits import ALL
from engine.errors import OutputError
from engine.outputs import make_folder

PreLabelFormat: TypeAlias = Target
FOLDER = "pre_labels"
# A file that each format has, by which a finished set is known.
_KNOWN_BY: Mapping[PreLabelFormat, str] = {
    "coco": f"{FOLDER}/annotations/instances.json",
    "voc": f"{FOLDER}/classes.txt",
    "yolo": f"{FOLDER}/classes.txt",
    "labelme": f"{FOLDER}/labels.txt",
}
_log = logging.getLogger(__name__)


class FoundBoxes(Protocol):
    """What was found in one image; `detection.prediction.document.BoxEntry` is an example."""

    @property
    def source(self) -> str:
        """Path of the image."""
        ...

    @property
    def size_hw(self) -> tuple[int, int]:
        """Its height and width in pixels."""
        ...

    @property
    def boxes_xyxy(self) -> Sequence[tuple[float, float, float, float]]:
        """N boxes in its pixels."""
        ...

    @property
    def category_ids(self) -> Sequence[int]:
        """One for each box."""
        ...


def known_by(to: PreLabelFormat) -> str:
    """The file by which a finished set is known, relative to the folder of results."""
    return _KNOWN_BY[to]


def write_pre_labels(output: Path, found: Iterable[FoundBoxes], classes: BoxClasses, to: PreLabelFormat) -> None:
    """Write the set to `pre_labels/` below the folder of results, in place of a former one.

    Boxes of classes without a name are left out, and images that are no longer there, which a line tells.

    Args:
        output: the folder of results.
        found: what was found in each image.
        classes: the detector's class list.
        to: the format.

    Raises:
        OutputError: the set cannot be written.
    """
    every = list(found)
    entries = [entry for entry in every if Path(entry.source).is_file()]
    if len(entries) < len(every):
        _log.warning("%s: %d images are no longer there and are left out", FOLDER, len(every) - len(entries))
    table = _table(entries, classes)
    paths = [table.image_path(index) for index in range(len(table))]
    root = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    given = SetToWrite.of({ALL: table}, root, sized=True)
    target, part = output / FOLDER, output / f".{FOLDER}.{os.getpid()}.part"
    try:
        make_folder(part)
        (folder,) = WRITERS[to](given, part).values()
        images = make_folder(part / folder)
        for path, name in zip(paths, given.names[ALL], strict=True):
            shutil.copyfile(path, images / name)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(part, target)
    except OSError as error:
        msg = f"cannot write '{target}': {error.strerror or error}. Make room, or leave --pre_labels out."
        raise OutputError(msg) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _table(entries: Sequence[FoundBoxes], classes: BoxClasses) -> BoxTable:
    """The entries as images with boxes of the detector's classes."""
    row_of = {
        category_id: row
        for row, (category_id, name) in enumerate(zip(classes.category_ids, classes.names, strict=True))
        if name
    }
    known = [
        (index, row_of[category_id], box)
        for index, entry in enumerate(entries)
        for category_id, box in zip(entry.category_ids, entry.boxes_xyxy, strict=True)
        if category_id in row_of
    ]
    boxes = np.array([box for _, _, box in known], np.float64).reshape(-1, 4)
    boxes[:, 2:] -= boxes[:, :2]
    return box_table(
        FOLDER,
        classes,
        [Path(entry.source) for entry in entries],
        boxes,
        np.array([index for index, _, _ in known], np.int64),
        np.array([row for _, row, _ in known], np.int64),
        sizes_hw=np.array([entry.size_hw for entry in entries], np.int32).reshape(-1, 2),
    )
