"""Pairs of a picture and its mask: what a set of them offers, and the picture in its mask's frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from engine.errors import InputError, SizeError
from engine.reading.images import UInt8Array
from engine.reading.raster_file import Pixels
from engine.reading.reader import PixelReader
from segmentation.data.classes import MaskClasses


class Pair(NamedTuple):
    """One picture and its ground truth.

    Attributes:
        image: the picture.
        mask: its classes.
        instances: its single objects as in Cityscapes' `_instanceIds.png`, if known.
    """

    image: Path
    mask: Path
    instances: Path | None = None


class MaskSource(Protocol):
    """A set of pictures with masks, as `CityscapesFiles`, `MaskFolder` and `DrawnMasks` find them."""

    @property
    def source(self) -> str:
        """What messages call the set."""

    @property
    def pairs(self) -> Sequence[Pair]:
        """The pictures and masks, in a fixed order."""

    @property
    def classes(self) -> MaskClasses:
        """What the rows of `read_mask` mean."""

    def read_mask(self, path: Path) -> UInt8Array:
        """(H, W) rows of `classes`; `IGNORED` where nothing is counted."""


def read_image_of(mask_hw: tuple[int, int], pair: Pair, read: PixelReader = PixelReader()) -> Pixels:
    """The picture of a mask as (H, W, 3) uint8 RGB, in the mask's frame, and its pixels that have data.

    A picture that its EXIF data rotate is left as it is stored if the mask was drawn on the stored picture.

    Raises:
        InputError: the picture cannot be read, or does not have the mask's size.
    """
    try:
        return read.pixels(pair.image, mask_hw)
    except SizeError as error:
        height, width = error.upright_hw
        msg = (
            f"image '{pair.image}' is {width}x{height} (width x height) but its mask '{pair.mask}' "
            f"is {mask_hw[1]}x{mask_hw[0]}. Give the mask of this image at its full size."
        )
        raise InputError(msg) from error


def check_paired(missing: Sequence[str], images: int, remedy: str, *, leave_out: bool = False) -> None:
    """Do nothing if every picture has its mask, or those without may be left out and others stay.

    Args:
        missing: names of the pictures without one, in order.
        images: how many pictures there are.
        remedy: what to do about it, as a sentence.
        leave_out: whether pictures without a mask are left out.

    Raises:
        InputError: a picture has none; the message has the first such name and the count.
    """
    if missing and not (leave_out and len(missing) < images):
        msg = f"{len(missing):,} of {images:,} images have no mask, the first is '{missing[0]}'. {remedy}"
        raise InputError(msg)
