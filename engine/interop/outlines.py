"""The outlines of masks: polygons along the edges of pixels, from which the same mask can be drawn again."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.int32]


class Polygon(NamedTuple):
    """A connected region of a mask; pixels that touch at a corner are connected.

    Corners are in pixels of the image: the pixel in row y and column x is the square from (x, y) to (x + 1, y + 1).

    Attributes:
        outline: (P, 2) corners x, y around it.
        holes: (P, 2) corners of each hole in it.
    """

    outline: Ring
    holes: tuple[Ring, ...]


def polygons_of(mask: NDArray[np.uint8] | NDArray[np.bool_]) -> list[Polygon]:
    """The regions of a mask (H, W), whose pixels are not 0.

    OpenCV's contours run through the centres of the outermost pixels, which loses half a pixel on every side. In a copy
    of twice the size those centres name the edges: of the two halves of a pixel, the left one has its left edge and the
    right one its right edge.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return []
    top, left = int(rows[0]), int(columns[0])
    part = np.ascontiguousarray(mask[top : rows[-1] + 1, left : columns[-1] + 1] != 0).astype(np.uint8)
    twice = part.repeat(2, 0).repeat(2, 1)
    found, tree = cv2.findContours(twice, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = [_edges(points, left, top) for points in found]
    parents = tree[0, :, 3].tolist()
    holes: dict[int, list[Ring]] = {}
    for ring, parent in zip(rings, parents, strict=True):
        if parent >= 0:
            holes.setdefault(parent, []).append(ring)
    return [Polygon(ring, tuple(holes.get(one, ()))) for one, ring in enumerate(rings) if parents[one] < 0]


def _edges(points: NDArray[np.int32], left: int, top: int) -> Ring:
    """The corners that a contour of the copy names, without those between two others of one line."""
    corners = (points[:, 0] + 1) // 2
    corners = corners[(corners != np.roll(corners, 1, 0)).any(1)]
    before, after = corners - np.roll(corners, 1, 0), np.roll(corners, -1, 0) - corners
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    back = (before * after).sum(1) < 0
    ring: Ring = corners[turns | back] + np.array([left, top], np.int32)
    return ring
