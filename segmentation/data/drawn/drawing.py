"""Objects of annotation tools drawn as the rows of a label map."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from engine.annotations.shapes import MaskPart, Shape, extent_xyxy, mask_pixels
from engine.errors import InputError
from engine.reading.images import UInt8Array
from segmentation.data.classes import IGNORED

_FARTHEST = 1 << 16  # pixels that an outline may reach beyond its image; memory grows with its length


def drawn(shapes: Iterable[Shape], rows: dict[str, int], size_hw: tuple[int, int], unlabelled: int) -> UInt8Array:
    """(H, W) rows of the classes, a later shape above an earlier one; crowds are not counted.

    Polygons are filled as `annToMask` of the COCO API fills them.

    Args:
        shapes: the objects, in pixels of the image.
        rows: the row of each label.
        size_hw: height and width of the image.
        unlabelled: the row of pixels without an object.

    Raises:
        InputError: an outline lies far outside of the image.
    """
    found = np.full(size_hw, unlabelled, np.uint8)
    for shape in shapes:
        row = IGNORED if shape.crowd else rows[shape.label]
        if shape.rings:
            _check_near(shape, size_hw)
            pixels, left, top = _filled(shape, size_hw)
            found[top : top + pixels.shape[0], left : left + pixels.shape[1]][pixels] = row
        for part in shape.masks:
            _paint(found, part, row)
    return found


def _filled(shape: Shape, size_hw: tuple[int, int]) -> tuple[npt.NDArray[np.bool_], int, int]:
    """The pixels of a shape's polygons, and the column and row of the first of them."""
    x0, y0, x1, y1 = extent_xyxy(Shape(shape.label, shape.kind, shape.rings))
    left, right = _range(x0, x1, size_hw[1])
    top, bottom = _range(y0, y1, size_hw[0])
    pixels = _union(shape.rings, left, top, (bottom - top, right - left))
    if shape.holes:
        pixels &= ~_union(shape.holes, left, top, (bottom - top, right - left))
    return pixels, left, top


def _union(
    rings: tuple[tuple[float, ...], ...], left: int, top: int, size_hw: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    from pycocotools import mask

    height, width = size_hw
    moved = [(np.array(ring).reshape(-1, 2) - (left, top)).ravel().tolist() for ring in rings]
    merged = mask.merge(mask.frPyObjects(moved, height, width))
    pixels: npt.NDArray[np.bool_] = mask.decode(merged).astype(np.bool_)
    return pixels


def _range(low: float, high: float, side: int) -> tuple[int, int]:
    """The pixels from `low` to `high` that lie in the image, at least one."""
    first = min(max(math.floor(low), 0), side - 1)
    return first, max(min(math.ceil(high) + 1, side), first + 1)


def _paint(found: UInt8Array, part: MaskPart, row: int) -> None:
    """The part of a painted mask that lies in the image."""
    top, left = max(part.top, 0), max(part.left, 0)
    bottom, right = min(part.top + part.height, found.shape[0]), min(part.left + part.width, found.shape[1])
    if top < bottom and left < right:
        pixels = mask_pixels(part)[top - part.top : bottom - part.top, left - part.left : right - part.left]
        found[top:bottom, left:right][pixels > 0] = row


def _check_near(shape: Shape, size_hw: tuple[int, int]) -> None:
    x0, y0, x1, y1 = extent_xyxy(shape)
    height, width = size_hw
    if min(x0, y0) < -_FARTHEST or x1 > width + _FARTHEST or y1 > height + _FARTHEST:
        msg = (
            f"an object '{shape.label}' reaches from ({x0:g}, {y0:g}) to ({x1:g}, {y1:g}), far outside of its image of "
            f"{width} x {height}. Correct or remove it."
        )
        raise InputError(msg)
