"""Objects as annotation tools draw them: boxes, polygons and masks of one image, in pixels.

Coordinates are edges: 0 is the left edge of the first pixel and 1 its right one. A tool that counts otherwise is turned
into this by its reader.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from engine.errors import InputError

ShapeKind = Literal["box", "turned box", "polygon", "mask"]
Corners = tuple[float, float, float, float]
_ARC = 72  # corners of the polygon that stands for a circle: it keeps 99.9 % of the area
_FARTHEST = 2**31  # no image has as many pixels on a side


@dataclass(frozen=True)
class MaskPart:
    """Pixels of an object within a rectangle of its image.

    Attributes:
        left: column of the rectangle's first pixel.
        top: its row.
        height: of the rectangle.
        width: of it.
        counts: the pixels as COCO's compressed run lengths, column by column.
    """

    left: int
    top: int
    height: int
    width: int
    counts: bytes


@dataclass(frozen=True)
class Shape:
    """One object of an image.

    Attributes:
        label: the name of its class.
        kind: how it was drawn.
        rings: its polygons, each as x0, y0, x1, y1, ...; those of a box are its corners.
        holes: polygons that are cut out of the others.
        masks: its pixels, where they were painted.
        crowd: whether it stands for any number of objects, or for what must not be scored.
    """

    label: str
    kind: ShapeKind
    rings: tuple[tuple[float, ...], ...] = ()
    holes: tuple[tuple[float, ...], ...] = ()
    masks: tuple[MaskPart, ...] = ()
    crowd: bool = False


@dataclass(frozen=True)
class ShapeImage:
    """An image with what was drawn in it.

    Attributes:
        label: the label file, by its name in the set.
        image: the image, by its name in the set.
        split: train, val, test, or `all`.
        size_hw: height and width of what the annotator saw; None where the format does not say.
        shapes: the objects, a later one above an earlier one.
    """

    label: str
    image: str
    split: str
    size_hw: tuple[int, int] | None
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class ShapeSet:
    """The images of a set, read once.

    Attributes:
        names: the classes in the order of the format; empty where it has none.
        images: the images with their objects.
    """

    names: tuple[str, ...]
    images: Iterable[ShapeImage]


def box(label: str, corners_xyxy: Corners, *, crowd: bool = False) -> Shape:
    """An upright box; corners may be swapped."""
    x0, y0, x1, y1 = corners_xyxy
    return Shape(label, "box", ((x0, y0, x1, y0, x1, y1, x0, y1),), crowd=crowd)


def turned_box(label: str, corners_xyxy: Corners, degrees: float, pivot_xy: tuple[float, float]) -> Shape:
    """A box that is turned clockwise, as an image shows it, about a point; upright where the angle is 0."""
    x0, y0, x1, y1 = corners_xyxy
    if not degrees % 360:
        return box(label, corners_xyxy)
    return Shape(label, "turned box", (_turned((x0, y0, x1, y0, x1, y1, x0, y1), degrees, pivot_xy),))


def ellipse(label: str, centre_xy: tuple[float, float], radii_xy: tuple[float, float], degrees: float = 0.0) -> Shape:
    """An ellipse as a polygon with the same extent; it is turned clockwise about its centre."""
    (x, y), (across, along), turn = centre_xy, radii_xy, math.radians(degrees)
    # Where the outline is farthest left, right, up and down, so that the polygon reaches as far.
    ends = (
        math.atan2(-along * math.sin(turn), across * math.cos(turn)),
        math.atan2(along * math.cos(turn), across * math.sin(turn)),
    )
    around = np.linspace(0, 2 * np.pi, _ARC, endpoint=False).tolist()
    angles = sorted([*around, *(angle % (2 * np.pi) for end in ends for angle in (end, end + np.pi))])
    flat = [value for angle in angles for value in (x + across * math.cos(angle), y + along * math.sin(angle))]
    return Shape(label, "polygon", (_turned(tuple(flat), degrees, centre_xy) if degrees else tuple(flat),))


def _turned(ring: tuple[float, ...], degrees: float, pivot_xy: tuple[float, float]) -> tuple[float, ...]:
    (px, py), turn = pivot_xy, math.radians(degrees)
    cos, sin = math.cos(turn), math.sin(turn)
    found = []
    for x, y in zip(ring[0::2], ring[1::2], strict=True):
        found += [px + (x - px) * cos - (y - py) * sin, py + (x - px) * sin + (y - py) * cos]
    return tuple(found)


def ring_of(points: Sequence[Sequence[float]], where: str) -> tuple[float, ...]:
    """A polygon of points as one row of finite numbers.

    Raises:
        InputError: a point has not two numbers, or one of them is none of an image.
    """
    wrong = [point for point in points if len(point) != 2 or not all(abs(value) < _FARTHEST for value in point)]
    if wrong:
        msg = f"{where} has the point {list(wrong[0])[:4]}; allowed are two finite numbers in pixels. Correct it."
        raise InputError(msg)
    return tuple(value for point in points for value in point)


def mask_part(pixels: npt.NDArray[np.bool_], left: int, top: int) -> MaskPart | None:
    """The pixels of an object, (h, w), at a place of its image; None where none is set."""
    from pycocotools import mask

    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    if not len(rows):
        return None
    part = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    encoded = mask.encode(np.asfortranarray(part, np.uint8))
    height, width = part.shape
    return MaskPart(left + int(columns[0]), top + int(rows[0]), height, width, encoded["counts"])


def mask_pixels(part: MaskPart) -> npt.NDArray[np.uint8]:
    """(h, w) the pixels of a part, 1 where the object is."""
    from pycocotools import mask

    pixels: npt.NDArray[np.uint8] = mask.decode({"size": [part.height, part.width], "counts": part.counts})
    return pixels


def extent_xyxy(shape: Shape) -> Corners:
    """The upright box around a shape: left, top, right and bottom."""
    xs = [x for ring in shape.rings for x in ring[0::2]]
    ys = [y for ring in shape.rings for y in ring[1::2]]
    for part in shape.masks:
        xs += [part.left, part.left + part.width]
        ys += [part.top, part.top + part.height]
    return min(xs), min(ys), max(xs), max(ys)


def area_of(shape: Shape) -> float:
    """Square pixels of a shape; where its parts lie on each other, each counts."""
    outlines = sum(_area(ring) for ring in shape.rings) - sum(_area(ring) for ring in shape.holes)
    return outlines + sum(float(mask_pixels(part).sum()) for part in shape.masks)


def _area(ring: tuple[float, ...]) -> float:
    """The area of a polygon, by the shoelace formula."""
    corners = np.array(ring).reshape(-1, 2)
    x, y = (corners - corners[0]).T  # from its own corner, so that digits are not lost far from the origin
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def joined_shapes(parts: Sequence[Shape]) -> Shape:
    """Several shapes of one object as one."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    return Shape(
        first.label,
        "mask" if any(part.masks for part in parts) else "polygon",
        tuple(ring for part in parts for ring in part.rings),
        tuple(ring for part in parts for ring in part.holes),
        tuple(mask for part in parts for mask in part.masks),
        crowd=any(part.crowd for part in parts),
    )
