"""Boxes found in overlapping tiles as boxes of the whole picture: each object once, and whole where a tile has it so.

An object that is no longer than the overlap without both margins lies whole, with the margin around it, in at least one
tile. That tile has the say:

1. A box that comes within the margin of an inner end of its tile counts as cut. It is dropped where another tile has
   that place in its interior, and so has seen the object whole, with more around it. Where none has, as of an object
   larger than the overlap, it stays.
2. Boxes of two tiles whose overlap is above the detector's threshold are one object. The one with the higher score is
   kept, unless the other lies in the interior of its own tile alone.

Boxes of one tile are not compared: the detector has suppressed them already, hard or soft.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.large.tiling import Axis, Tiling

Boxes = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TileBoxes:
    """The boxes of one tile, or of a picture.

    Attributes:
        boxes_xyxy: (N, 4) float64, pixels of the picture.
        scores: (N,) float32.
        class_ids: (N,) int64.
    """

    boxes_xyxy: Boxes
    scores: npt.NDArray[np.float32]
    class_ids: Ints

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def none(cls) -> TileBoxes:
        """No boxes."""
        return cls(np.zeros((0, 4)), np.zeros(0, np.float32), np.zeros(0, np.int64))


def merged(
    found: Sequence[TileBoxes], tiling: Tiling, iou_threshold: float, *, class_agnostic: bool = False
) -> TileBoxes:
    """The boxes of a picture, highest score first.

    Args:
        found: the boxes of each tile, in the tiling's order.
        tiling: the tiles, and the margin at their inner ends.
        iou_threshold: overlap above which boxes of two tiles are one object.
        class_agnostic: whether boxes of different classes may be one object.
    """
    boxes = np.concatenate([one.boxes_xyxy for one in found])
    scores = np.concatenate([one.scores for one in found])
    given_ids = np.concatenate([one.class_ids for one in found])
    class_ids = np.zeros_like(given_ids) if class_agnostic else given_ids
    ends = np.concatenate([[0], np.cumsum([len(one) for one in found])])
    dropped = np.zeros(len(boxes), np.bool_)
    doubtful = np.zeros(len(boxes), np.bool_)
    pairs: list[Ints] = []
    limits = _limits(tiling)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    for one, other in _neighbours(tiling):
        rows = [_touching(boxes, ends, here, limits.tiles[there]) for here, there in ((one, other), (other, one))]
        # Of the boxes of each tile: whether they lie in the interior of either.
        inside = [[_inside(boxes[own], limits.inner[tile]) for tile in (one, other)] for own in rows]
        dropped[rows[0][~inside[0][0] & inside[0][1]]] = True
        dropped[rows[1][~inside[1][1] & inside[1][0]]] = True
        shared = _intersections(boxes[rows[0]], boxes[rows[1]])
        match = shared > iou_threshold * (areas[rows[0]][:, None] + areas[rows[1]] - shared)
        match &= class_ids[rows[0]][:, None] == class_ids[rows[1]]
        doubtful[rows[0][(match & (inside[1][1] & ~inside[1][0])).any(1)]] = True
        doubtful[rows[1][(match.T & (inside[0][0] & ~inside[0][1])).any(1)]] = True
        first, second = match.nonzero()
        pairs.append(np.stack([rows[0][first], rows[1][second]], 1))
    kept = _suppressed(dropped, doubtful, scores, np.concatenate(pairs) if pairs else np.zeros((0, 2), np.int64))
    order = kept[np.argsort(-scores[kept], kind="stable")]
    return TileBoxes(boxes[order], scores[order], given_ids[order])


@dataclass(frozen=True, eq=False)
class _Limits:
    """Where the tiles lie, T of them.

    Attributes:
        tiles: (T, 4) left, top, right, bottom in pixels of the picture.
        inner: (T, 4) the same without the margins of inner ends, and without an end where the picture ends.
    """

    tiles: Boxes
    inner: Boxes


def _limits(tiling: Tiling) -> _Limits:
    outer, inner = [], []
    for tile in tiling:
        ends = [(tile.columns, tiling.horizontal), (tile.rows, tiling.vertical)]
        outer.append([span.start for span, _ in ends] + [span.stop for span, _ in ends])
        inner.append([_low(span, axis) for span, axis in ends] + [_high(span, axis) for span, axis in ends])
    return _Limits(np.array(outer, np.float64), np.array(inner, np.float64))


def _low(span: slice, axis: Axis) -> float:
    return -np.inf if span.start == 0 else span.start + axis.margin


def _high(span: slice, axis: Axis) -> float:
    return np.inf if span.stop == axis.length else span.stop - axis.margin


def _neighbours(tiling: Tiling) -> list[tuple[int, int]]:
    """Pairs of tiles that overlap, by their places in the tiling's order."""
    across, count = _overlapping(tiling.horizontal), len(tiling.horizontal)
    pairs = []
    for row, below in enumerate(_overlapping(tiling.vertical)):
        for other in below:
            for column, beside in enumerate(across):
                here = row * count + column
                pairs += [(here, other * count + one) for one in beside if (other, one) > (row, column)]
    return pairs


def _overlapping(axis: Axis) -> list[list[int]]:
    """For each tile along a side those that overlap it, itself included."""
    starts = np.array([span.start for span in axis.spans])
    stops = np.array([span.stop for span in axis.spans])
    return [np.flatnonzero((starts < span.stop) & (stops > span.start)).tolist() for span in axis.spans]


def _touching(boxes: Boxes, ends: Ints, tile: int, area: npt.NDArray[np.float64]) -> Ints:
    """The boxes of a tile that reach into an area, by their places."""
    own = boxes[ends[tile] : ends[tile + 1]]
    touches = (own[:, :2] < area[2:]).all(1) & (own[:, 2:] > area[:2]).all(1)
    found: Ints = np.flatnonzero(touches) + ends[tile]
    return found


def _inside(boxes: Boxes, area: npt.NDArray[np.float64]) -> Flags:
    """Whether boxes lie within an area."""
    flags: Flags = np.logical_and((boxes[:, :2] > area[:2]).all(1), (boxes[:, 2:] < area[2:]).all(1))
    return flags


def _intersections(boxes: Boxes, others: Boxes) -> Boxes:
    """(N, M) square pixels that boxes share."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared: Boxes = np.clip(high - low, 0, None).prod(2)
    return shared


def _suppressed(dropped: Flags, doubtful: Flags, scores: npt.NDArray[np.float32], pairs: Ints) -> Ints:
    """The boxes that are left when those before others take away what they match, in ascending order.

    Greedy suppression, many boxes at a time: a box is kept once all that come before it and match it are gone, and what
    it matches is gone then.
    """
    rank = np.empty(len(scores), np.int64)
    rank[np.lexsort((-scores, doubtful))] = np.arange(len(scores))
    pairs = pairs[~dropped[pairs].any(1)]
    pairs = np.where((rank[pairs[:, 0]] < rank[pairs[:, 1]])[:, None], pairs, pairs[:, ::-1])
    gone = dropped.copy()
    while len(pairs):
        behind = np.zeros(len(scores), np.bool_)
        behind[pairs[:, 1]] = True
        gone[pairs[~behind[pairs[:, 0]], 1]] = True
        pairs = pairs[~gone[pairs].any(1)]
    return np.flatnonzero(~gone)
