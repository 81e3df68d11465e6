"""Images and boxes as a reader meets them, split by split, and the tables that they become."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from detection.data.boxes import BoxTable, box_table
from detection.data.classes import BoxClasses
from engine.annotations.files import SetFiles
from engine.annotations.splits import ALL
from engine.errors import InputError, did_you_mean

VocOrigin = Literal["auto", "0", "1"]


@dataclass(frozen=True)
class ReadOptions:
    """What a user says of a set that its files leave open.

    Attributes:
        classes: names of the classes in their order; empty takes those of the files, in theirs.
        voc_origin: number of the first pixel in Pascal VOC's XML.
    """

    classes: tuple[str, ...] = ()
    voc_origin: VocOrigin = "auto"


@dataclass
class _Part:
    names: list[str] = field(default_factory=list)
    sizes: array[int] = field(default_factory=lambda: array("i"))
    places: dict[str, int] = field(default_factory=dict)
    rows: array[int] = field(default_factory=lambda: array("q"))
    class_rows: array[int] = field(default_factory=lambda: array("q"))
    corners: array[float] = field(default_factory=lambda: array("d"))
    crowd: array[int] = field(default_factory=lambda: array("b"))
    areas: array[float] = field(default_factory=lambda: array("d"))


class Collected:
    """What a reader has found so far.

    Args:
        files: the files of the set.
        options: what the user says of it.
        names: class names in the order of the format; a format without an order leaves it out and has them sorted.
    """

    def __init__(self, files: SetFiles, options: ReadOptions, names: Sequence[str] = ()) -> None:
        self.files = files
        self.given = options.classes
        self.ordered = bool(options.classes or names)
        self._rows = {name: row for row, name in enumerate(options.classes or names)}
        self._ignored: list[tuple[str, int, tuple[float, float, float, float]]] = []
        self._parts: dict[str, _Part] = {}

    def image(self, split: str, name: str, size_hw: tuple[int, int] | None = None) -> int:
        """The place of an image in a split, added at its first mention; a size of None or 0 is not known."""
        part = self._parts.setdefault(split, _Part())
        place = part.places.setdefault(name, len(part.names))
        if place == len(part.names):
            part.names.append(name)
            part.sizes.extend(size_hw or (0, 0))
        return place

    def has_image(self, split: str, name: str) -> bool:
        """Whether an image was added."""
        return split in self._parts and name in self._parts[split].places

    def box(
        self,
        split: str,
        image: int,
        name: str,
        corners_xyxy: tuple[float, float, float, float],
        crowd: bool = False,
        area: float | None = None,
    ) -> None:
        """Add a box in pixels, edges; corners that a tool has swapped are turned and counted.

        Args:
            split: where its image is.
            image: the image's place there.
            name: its class.
            corners_xyxy: left, top, right and bottom.
            crowd: whether it stands for any number of objects.
            area: square pixels of the object; by default those of the box.

        Raises:
            InputError: the user's class list lacks the name, or the name is empty.
        """
        left, top, right, bottom = corners_xyxy
        if right < left or bottom < top:
            self.files.note("boxes have their corners swapped and were turned")
            left, right, top, bottom = min(left, right), max(left, right), min(top, bottom), max(top, bottom)
        part = self._parts[split]
        row = self._class_row(name, part.names[image])
        part.rows.append(image)
        part.class_rows.append(row)
        part.corners.extend((left, top, right, bottom))
        part.crowd.append(crowd)
        part.areas.append((right - left) * (bottom - top) if area is None else area)

    def name_class(self, name: str) -> None:
        """Add a class that may have no box."""
        self._rows.setdefault(name, len(self._rows))

    def ignore(self, split: str, image: int, corners_xyxy: tuple[float, float, float, float]) -> None:
        """Add a region in which detections of any class are neither right nor wrong: a crowd of each class."""
        self._ignored.append((split, image, corners_xyxy))

    def tables(self, format_name: str) -> dict[str, BoxTable]:
        """The tables of all splits, with one class list.

        Raises:
            InputError: there is no image or no class.
        """
        names = list(self._rows)
        if not any(part.names for part in self._parts.values()):
            msg = f"'{self.files.root}' is {format_name}, but none of its label files has an image. Export it again."
            raise InputError(msg)
        if not names:
            msg = f"'{self.files.root}' is {format_name}, but it names no class. Give --data.classes '[NAME, ...]'."
            raise InputError(msg)
        for split, image, corners in self._ignored:
            for name in names:
                self.box(split, image, name, corners, crowd=True)
        self._ignored.clear()
        order = list(range(len(names))) if self.ordered else sorted(range(len(names)), key=names.__getitem__)
        classes = BoxClasses(tuple(names[row] for row in order), tuple(range(1, len(names) + 1)))
        new_rows = np.argsort(order)
        return {split: self._table(split, part, classes, new_rows) for split, part in self._parts.items() if part.names}

    def _table(self, split: str, part: _Part, classes: BoxClasses, new_rows: np.ndarray) -> BoxTable:
        corners = np.array(part.corners, np.float64).reshape(-1, 4)
        corners[:, 2:] -= corners[:, :2]
        return box_table(
            f"{self.files.root}" + ("" if split == ALL else f" ({split})"),
            classes,
            [self.files.path(name) for name in part.names],
            corners,
            np.array(part.rows, np.int64),
            new_rows[np.array(part.class_rows, np.int64)],
            sizes_hw=np.array(part.sizes, np.int32).reshape(-1, 2),
            areas=np.array(part.areas, np.float64),
            crowd=np.array(part.crowd, np.bool_),
        )

    def _class_row(self, name: str, image: str) -> int:
        text = name.strip()
        if text in self._rows:
            return self._rows[text]
        if self.given:
            hint = did_you_mean(text, self.given)
            msg = f"a box of '{image}' has the class '{text}', which --data.classes lacks.{hint} Add it there."
            raise InputError(msg)
        if not text:
            msg = f"a box of '{self.files.path(image)}' has no class. Give it one, or remove it."
            raise InputError(msg)
        return self._rows.setdefault(text, len(self._rows))
