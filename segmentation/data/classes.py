"""The class list: which row of the network's output means which value of a mask file, under which name and colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from engine.data.augment import IGNORED as IGNORED
from engine.errors import InputError
from engine.prediction.pictures import Rgb as Rgb
from engine.prediction.pictures import class_color

MOST_CLASSES = 255


class StoredMaskClasses(TypedDict):
    """A class list as a checkpoint stores it; each colour is three numbers."""

    names: Sequence[str]
    label_ids: NotRequired[Sequence[int]]
    colors: NotRequired[Sequence[Sequence[int]]]


@dataclass(frozen=True)
class MaskClasses:
    """Names, mask values and colours by output row.

    Attributes:
        names: K names.
        label_ids: K values from 0 to 255 that mean the classes in index masks, both read and written; by default
            the rows themselves.
        colors: K colours of overlays and colour masks; by default hues that differ clearly.

    Raises:
        InputError: there is no class or more than 255; lengths differ; a name, value or colour is used twice or out
            of range.

    >>> MaskClasses(("background", "thing")).label_ids
    (0, 1)
    """

    names: tuple[str, ...]
    label_ids: tuple[int, ...] = ()
    colors: tuple[Rgb, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.names)
        if not 1 <= count <= MOST_CLASSES:
            msg = f"a class list has {count} names; allowed are 1 to {MOST_CLASSES}."
            raise InputError(msg)
        if not self.label_ids:
            object.__setattr__(self, "label_ids", tuple(range(count)))
        if not self.colors:
            object.__setattr__(self, "colors", tuple(class_color(row) for row in range(count)))
        # A YAML file gives lists, which are not equal to tuples.
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "label_ids", tuple(self.label_ids))
        object.__setattr__(self, "colors", tuple(tuple(color) for color in self.colors))
        for what, values in (("label_ids", self.label_ids), ("colors", self.colors)):
            if len(values) != count:
                msg = f"a class list has {count} names but {len(values)} {what}. Give one for each name."
                raise InputError(msg)
        for what, given in (("name", self.names), ("label id", tuple(map(str, self.label_ids)))):
            twice = sorted({value for value in given if given.count(value) > 1})
            if twice:
                msg = f"the class list has the {what} {', '.join(twice)} more than once. Give every class its own."
                raise InputError(msg)
        if not all(name.strip() for name in self.names):
            place = next(row for row, name in enumerate(self.names) if not name.strip())
            msg = f"the class list has an empty name in row {place}. Give every class a name."
            raise InputError(msg)
        wrong = [value for value in self.label_ids if not 0 <= value <= 255]
        wrong += [value for color in self.colors for value in color if not 0 <= value <= 255]
        if wrong:
            msg = f"the class list has the value {wrong[0]}; allowed are 0 to 255 in label ids and colours."
            raise InputError(msg)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def label_by_class(self) -> npt.NDArray[np.uint8]:
        """(256,) label id by row; rows beyond the classes, including 255, are unchanged."""
        table = np.arange(256, dtype=np.uint8)
        table[: len(self)] = self.label_ids
        return table

    @cached_property
    def class_by_label(self) -> npt.NDArray[np.uint8]:
        """(256,) row by label id; `IGNORED` for values that belong to no class."""
        table = np.full(256, IGNORED, dtype=np.uint8)
        table[list(self.label_ids)] = np.arange(len(self))
        return table

    @cached_property
    def color_by_class(self) -> npt.NDArray[np.uint8]:
        """(256, 3) RGB by row; black beyond the classes."""
        table = np.zeros((256, 3), dtype=np.uint8)
        table[: len(self)] = self.colors
        return table

    def to_dict(self) -> StoredMaskClasses:
        """Plain lists, as a checkpoint stores them."""
        colors: list[Sequence[int]] = [list(color) for color in self.colors]
        return {"names": list(self.names), "label_ids": list(self.label_ids), "colors": colors}

    @classmethod
    def from_dict(cls, stored: StoredMaskClasses) -> MaskClasses:
        """The inverse of `to_dict`."""
        colors = tuple((int(r), int(g), int(b)) for r, g, b in stored.get("colors", ()))
        return cls(tuple(stored["names"]), tuple(stored.get("label_ids", ())), colors)

    @classmethod
    def numbered(cls, count: int) -> MaskClasses:
        """Classes without known names: `class_0` ..., each its own mask value."""
        return cls(tuple(f"class_{row}" for row in range(count)))
