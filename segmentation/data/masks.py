"""Mask files as rows of the class list, and what is wrong with files that are not masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from engine.errors import MOST_LISTED, InputError, check_choice
from engine.reading.images import UInt8Array, opened
from segmentation.data.classes import IGNORED, MaskClasses, Rgb

MaskFormat = Literal["index", "color", "binary"]
MaskFault = Literal["jpeg", "mode", "transparent", "values", "meaning"]
_FORMATS = ("index", "color", "binary")
_ONE_VALUE = frozenset(("1", "L", "P", "I"))
# Pillow spreads grey of two and four bits over 0 to 255; these factors undo that.
_SPREAD = {"L;2": 85, "L;4": 17}
_MOST_NAMED = 4  # most wrong values in one message


class MaskError(InputError):
    """A file can be read, but is no mask of its format.

    Args:
        message: what the user reads.
        fault: what is wrong: saved with loss, not one value or not colours, transparent, values of no class, or values
            that may mean two things.
        wrong: how many different values or colours belong to no class.
    """

    def __init__(self, message: str, fault: MaskFault, wrong: int = 0) -> None:
        super().__init__(message)
        self.fault: MaskFault = fault
        self.wrong = wrong


@dataclass(frozen=True)
class MaskReader:
    """Reads mask files of one format.

    Attributes:
        classes: the classes.
        mask_format: "index": a pixel's value is a label id (8 or 16 bits, or the index of a palette image);
            "color": its RGB is a class's colour; "binary": 0 is the first class, any other value the second.
        ignore_values: values of pixels that are not counted; by default 255 in index masks, unless a class has it.
        ignore_colors: the same for colour masks.
        lenient: whether pixels of no class are not counted, where they else are an error.

    Raises:
        InputError: the format is unknown or does not fit the classes, or an ignored value belongs to a class.
    """

    classes: MaskClasses
    mask_format: MaskFormat = "index"
    ignore_values: tuple[int, ...] | None = None
    ignore_colors: tuple[Rgb, ...] = ()
    lenient: bool = False

    def __post_init__(self) -> None:
        check_choice("mask_format", self.mask_format, _FORMATS)
        if self.mask_format == "binary" and len(self.classes) != 2:
            msg = (
                f"mask_format is binary but the class list has {len(self.classes)} names. "
                "Give two: the background's and the object's."
            )
            raise InputError(msg)
        taken: list[str] = []
        if self.mask_format == "index":
            taken = [str(value) for value in sorted(set(self.classes.label_ids) & set(self.ignore_values or ()))]
        elif self.mask_format == "color":
            _check_colors(self.classes)
            ignored = {tuple(color) for color in self.ignore_colors}
            taken = [str(color) for color in sorted(set(self.classes.colors) & ignored)]
        if taken:
            msg = f"{taken[0]} is both ignored and a class's. Take it from the ignored values or from the class list."
            raise InputError(msg)

    def __call__(self, path: Path) -> UInt8Array:
        """Read one file as (H, W) rows.

        Raises:
            InputError: the file is missing, not a mask of this format, or has values that belong to no class.
        """
        if self.mask_format == "color":
            return self._rows_of_colors(_read_colors(path), path)
        values = read_values(path, self.mask_format)
        rows: UInt8Array
        if self.mask_format == "binary":
            rows = (values != 0).astype(np.uint8)
            if self.ignore_values:
                rows[np.isin(values, self.ignore_values)] = IGNORED
            return rows
        if not self.lenient:
            self._check_values(values, path)
        rows = self.classes.class_by_label[np.clip(values, 0, 255)]
        if values.dtype != np.uint8:
            # A value above 8 bits that has passed the check is an ignored value, or else one of no class.
            rows[(values < 0) | (values > 255)] = IGNORED
        return rows

    @cached_property
    def _ignored(self) -> tuple[int, ...]:
        if self.ignore_values is not None:
            return self.ignore_values
        return () if IGNORED in self.classes.label_ids else (IGNORED,)

    def _check_values(self, values: npt.NDArray[np.integer], path: Path) -> None:
        known = {*self.classes.label_ids, *self._ignored}
        if values.dtype == np.uint8:
            counts = np.bincount(values.ravel(), minlength=256)
            found = np.flatnonzero(counts)
            counts = counts[found]
        else:
            found, counts = np.unique(values, return_counts=True)
        wrong = [(str(v), int(n)) for v, n in zip(found.tolist(), counts.tolist(), strict=True) if v not in known]
        if wrong:
            names = zip(self.classes.label_ids, self.classes.names, strict=True)
            allowed = _listed([f"{value} {name}" for value, name in names])
            ignored = f"; ignored: {', '.join(map(str, self._ignored))}" if self._ignored else ""
            hint = (
                " or, where every value but 0 is one class, give mask_format binary" if len(self.classes) == 2 else ""
            )
            msg = (
                f"mask '{path}' has {_counted(wrong)}, which the class list does not know ({allowed}{ignored}). "
                f"Correct the mask, add the value to label_ids or ignore_values{hint}."
            )
            raise MaskError(msg, "values", len(wrong))
        self._check_meaning(set(found.tolist()), path)

    def _check_meaning(self, values: set[int], path: Path) -> None:
        """Refuse 0 and 255 alone, which most programs use for two classes, unless the user said what 255 means."""
        unasked = self.ignore_values is None and IGNORED not in self.classes.label_ids
        if unasked and len(self.classes) == 2 and values == {self.classes.label_ids[0], IGNORED}:
            name, first = self.classes.names[1], self.classes.label_ids[0]
            msg = (
                f"mask '{path}' has the values {first} and {IGNORED} alone, and {IGNORED} is not counted. Where it "
                f"means '{name}', give label_ids [{first}, {IGNORED}]; where not, ignore_values [{IGNORED}]."
            )
            raise MaskError(msg, "meaning")

    @cached_property
    def _rows_by_color(self) -> tuple[npt.NDArray[np.uint32], UInt8Array]:
        """Colour codes in ascending order, and the row of each."""
        ignored = [tuple(color) for color in self.ignore_colors]
        codes = _codes(np.array([*self.classes.colors, *ignored], dtype=np.uint8))
        rows = np.array([*range(len(self.classes)), *[IGNORED] * len(ignored)], dtype=np.uint8)
        order = np.argsort(codes)
        return codes[order], rows[order]

    def _rows_of_colors(self, colors: UInt8Array, path: Path) -> UInt8Array:
        known, rows = self._rows_by_color
        codes = _codes(colors)
        places = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        strange = known[places] != codes
        if strange.any() and not self.lenient:
            found, counts = np.unique(codes[strange], return_counts=True)
            most = np.argsort(-counts, kind="stable")
            colors_found = [(code >> 16, code >> 8 & 255, code & 255) for code in found[most].tolist()]
            wrong = list(zip(map(str, colors_found), counts[most].tolist(), strict=True))
            named = [f"{color} {name}" for color, name in zip(self.classes.colors, self.classes.names, strict=True)]
            msg = (
                f"mask '{path}' has the colours {_counted(wrong)}, which the class list does not know "
                f"({_listed(named)}). Correct the mask, or add the colour to colors or ignore_colors."
            )
            raise MaskError(msg, "values", len(wrong))
        return np.where(strange, np.uint8(IGNORED), rows[places])


def read_values(path: Path, mask_format: str = "index") -> npt.NDArray[np.integer]:
    """The (H, W) values of a mask with one value per pixel: uint8, or wider for masks of 16 bits.

    Raises:
        InputError: the file is missing, cannot be decoded, was compressed with loss, or has colours.
    """
    with _opened(path) as image:
        if image.mode not in _ONE_VALUE and not image.mode.startswith("I;16"):
            what = "RGB" if image.mode in ("RGB", "RGBA") else f"of Pillow's mode {image.mode}"
            msg = (
                f"mask '{path}' is {what}, where mask_format '{mask_format}' means one value a pixel. Save it as a PNG "
                "with one channel, or give mask_format color and the classes' colours."
            )
            raise MaskError(msg, "mode")
        spread = _SPREAD.get(_raw_mode(image), 1)
        values = np.array(image)
    return (values // spread).astype(np.uint8) if values.dtype == bool or spread > 1 else values


def _read_colors(path: Path) -> UInt8Array:
    with _opened(path) as image:
        if image.mode not in ("RGB", "RGBA", "P"):
            msg = (
                f"mask '{path}' has one value a pixel, where mask_format 'color' means RGB. "
                "Give mask_format index or binary, or the colour masks."
            )
            raise MaskError(msg, "mode")
        colors = np.array(image.convert("RGB"))
        if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
            msg = f"mask '{path}' has transparent pixels, which are no class. Save it without transparency."
            raise MaskError(msg, "transparent")
    return colors


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    with opened(path, "mask") as image:
        if image.format in ("JPEG", "MPO") or str(image.info.get("compression")).endswith("jpeg"):
            msg = (
                f"mask '{path}' is saved as JPEG, which changes its values. Save the mask as PNG from its source; "
                "one converted from the JPEG keeps the wrong values."
            )
            raise MaskError(msg, "jpeg")
        yield image


def _raw_mode(image: Image.Image) -> str:
    """How the file stores its pixels, such as "L;4" for grey of four bits."""
    arguments = image.tile[0][3] if isinstance(image, ImageFile.ImageFile) and image.tile else ""
    return str(arguments if isinstance(arguments, str) else next(iter(arguments or ()), ""))


def _codes(colors: UInt8Array) -> npt.NDArray[np.uint32]:
    """RGB (..., 3) as one number each."""
    wide = colors.astype(np.uint32)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2], dtype=np.uint32)


def _check_colors(classes: MaskClasses) -> None:
    twice = sorted({color for color in classes.colors if classes.colors.count(color) > 1})
    if twice:
        msg = f"the class list has the colour {twice[0]} more than once. Give each class a colour of its own."
        raise InputError(msg)


def _counted(wrong: Sequence[tuple[str, int]]) -> str:
    named = [f"{value} ({count} pixel{'s' * (count > 1)})" for value, count in wrong[:_MOST_NAMED]]
    return ", ".join(named) + (f" and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else "")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names if len(names) <= MOST_LISTED else [*names[:5], f"... ({len(names)} in all)"])
