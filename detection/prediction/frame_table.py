"""The table of a video's objects: a row for each object of each frame, written as they come and read back for COCO."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from detection.prediction.found import Found
from engine.outputs import make_folder

ENDING = "_objects.csv"  # of a table's name, behind that of its video
COLUMNS = (
    "frame", "seconds", "track_id", "class", "category_id", "score", "left", "top", "right", "bottom",
)  # fmt: skip


class ObjectTable:
    """Writes the table; after `flush` what was added is on the disk.

    A frame without objects has one row with its number and time only, so that a frame in which nothing was found
    differs from one that was not looked at.

    Args:
        path: the CSV file.
    """

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        self._file = path.open("w", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file)
        self._rows.writerow(COLUMNS)

    def add(self, number: int, seconds: float, found: Found) -> None:
        """Add a frame by its number, from 0, and its time in seconds."""
        about = (number, f"{seconds:.3f}")
        if not len(found):
            self._rows.writerow((*about, *[""] * (len(COLUMNS) - len(about))))
        ids = [""] * len(found) if found.track_ids is None else [one if one > 0 else "" for one in found.track_ids]
        for track_id, label, category_id, score, box in zip(
            ids, found.labels, found.category_ids, found.scores.tolist(), found.boxes_xyxy.tolist(), strict=True
        ):
            sides = (f"{side:.3f}" for side in box)
            self._rows.writerow((*about, track_id, label, category_id, f"{score:.6f}", *sides))

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass(frozen=True)
class FrameObjects:
    """A frame of a table.

    Attributes:
        number: of the frame, from 0.
        seconds: its time.
        boxes_xyxy: left, top, right, bottom of its objects in pixels.
        scores: one for each object.
        category_ids: one for each object.
        track_ids: one for each object; None where it has none.
    """

    number: int
    seconds: float
    boxes_xyxy: list[tuple[float, float, float, float]]
    scores: list[float]
    category_ids: list[int]
    track_ids: list[int | None]


def read_frames(path: Path) -> Iterator[FrameObjects]:
    """The frames of a table, one in memory at a time."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        next(rows, None)
        for (number, seconds), group in groupby(rows, key=itemgetter(0, 1)):
            objects = [row for row in group if row[4]]
            yield FrameObjects(
                int(number),
                float(seconds),
                [(float(row[6]), float(row[7]), float(row[8]), float(row[9])) for row in objects],
                [float(row[5]) for row in objects],
                [int(row[4]) for row in objects],
                [int(row[2]) if row[2] else None for row in objects],
            )
