"""Which anchor answers for which box, for a whole batch at once.

Source: the rule of google/automl `efficientdet/object_detection/argmax_matcher.py` (6a54c87): an anchor is
positive from IoU 0.5 on, and every box keeps the anchor that fits it best, even if it fits badly. Checked against
effdet 0.4.1.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from detection.network.anchors import Lattice

_MOST_PAIRS = 2**24  # (box, anchor) pairs compared at a time: 64 MB for each of the three tensors that take part


class Matches(NamedTuple):
    """The positive (image, anchor) pairs of a batch, P in all, ordered by image and anchor.

    Attributes:
        image: (P,) index into the batch.
        anchor: (P,) index into the R anchors.
        box: (P,) index into the N boxes of that image.
    """

    image: Tensor
    anchor: Tensor
    box: Tensor


def pairwise_iou(boxes_xyxy: Tensor, anchors_xyxy: Tensor) -> Tensor:
    """IoU of every box with every anchor: (B, N, 4) and (R, 4) to (B, N, R); boxes without area give 0.

    Anchors may also be other boxes of each image, (B, R, 4).

    >>> box, half, beside = [0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 2.0], [2.0, 0.0, 4.0, 2.0]
    >>> pairwise_iou(torch.tensor([[box]]), torch.tensor([box, half, beside])).tolist()
    [[[1.0, 0.5, 0.0]]]
    """
    # One coordinate at a time, as B * N * R pairs of numbers would be the largest tensors of a training step.
    left, top, right, bottom = boxes_xyxy[..., None, :].unbind(-1)
    anchor_left, anchor_top, anchor_right, anchor_bottom = anchors_xyxy[..., None, :, :].unbind(-1)
    overlap = (torch.minimum(right, anchor_right) - torch.maximum(left, anchor_left)).clamp_(min=0)
    overlap *= (torch.minimum(bottom, anchor_bottom) - torch.maximum(top, anchor_top)).clamp_(min=0)
    areas = (right - left) * (bottom - top)
    anchor_areas = (anchor_right - anchor_left) * (anchor_bottom - anchor_top)
    union = (areas + anchor_areas).sub_(overlap)
    return overlap.div_(union.clamp_(min=1e-8))


@torch.no_grad()
def match_anchors(
    boxes_xyxy: Tensor,
    class_ids: Tensor,
    anchors_xyxy: Tensor,
    *,
    iou_threshold: float = 0.5,
    lattice: Lattice | None = None,
) -> Matches:
    """Assign anchors to boxes.

    Where two boxes share their best anchor, the first of them gets it. A box that touches no anchor has none.

    Args:
        boxes_xyxy: (B, N, 4) canvas pixels.
        class_ids: (B, N); boxes with -1 are padding.
        anchors_xyxy: (R, 4) canvas pixels.
        iou_threshold: smallest IoU of a positive anchor.
        lattice: the order of the anchors. With it a processor compares each box with the anchors near it only, which
            gives the same in a tenth of the time.
    """
    batch, boxes = class_ids.shape
    anchors = len(anchors_xyxy)
    if boxes == 0:
        none = class_ids.new_zeros(0)
        return Matches(none, none, none)
    if lattice is not None and boxes_xyxy.device.type == "cpu":
        return _match_nearby(boxes_xyxy.float(), class_ids, anchors_xyxy, lattice, iou_threshold)
    best_iou, box_of_anchor, fit, favourite = _best_partners(boxes_xyxy.float(), class_ids, anchors_xyxy)
    box_of_anchor.masked_fill_(best_iou < iou_threshold, -1)

    # The forced matches: each box claims its best anchor, the lowest box index wins a contested one.
    claims = torch.full((batch, anchors + 1), boxes, device=class_ids.device, dtype=torch.int64)
    favourite = favourite.masked_fill(fit <= 0, anchors)
    order = torch.arange(boxes, device=class_ids.device).expand(batch, -1)
    claims.scatter_reduce_(1, favourite, order, reduce="amin")
    claims = claims[:, :anchors]
    box_of_anchor = torch.where(claims < boxes, claims, box_of_anchor)

    image, anchor = (box_of_anchor >= 0).nonzero(as_tuple=True)
    return Matches(image, anchor, box_of_anchor[image, anchor])


def _best_partners(
    boxes_xyxy: Tensor, class_ids: Tensor, anchors_xyxy: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each anchor its best IoU and box, both (B, R), and for each box its best IoU and anchor, both (B, N).

    Some images at a time, or of a crowded image some boxes, so that no crowd takes gigabytes.
    """
    batch, boxes = class_ids.shape
    pairs = boxes * len(anchors_xyxy)
    images = max(1, _MOST_PAIRS // pairs)
    count = boxes if pairs <= _MOST_PAIRS else max(1, _MOST_PAIRS // len(anchors_xyxy))
    of_images = []
    for start in range(0, batch, images):
        some = slice(start, start + images)
        best_iou, box_of_anchor, of_boxes = torch.empty(0), torch.empty(0), []
        for first in range(0, boxes, count):
            part = slice(first, first + count)
            iou = pairwise_iou(boxes_xyxy[some, part], anchors_xyxy)
            iou.masked_fill_((class_ids[some, part] < 0)[..., None], -1.0)
            of_boxes.append(iou.max(dim=2))
            values, rows = iou.max(dim=1)
            if first == 0:
                best_iou, box_of_anchor = values, rows
            else:
                better = values > best_iou  # of equal boxes the first wins, as in one maximum over all
                best_iou = torch.where(better, values, best_iou)
                box_of_anchor = torch.where(better, rows + first, box_of_anchor)
        fit, favourite = (torch.cat(parts, dim=1) for parts in zip(*of_boxes, strict=True))
        of_images.append((best_iou, box_of_anchor, fit, favourite))
    best_iou, box_of_anchor, fit, favourite = (torch.cat(parts) for parts in zip(*of_images, strict=True))
    return best_iou, box_of_anchor, fit, favourite


def _match_nearby(
    boxes_xyxy: Tensor, class_ids: Tensor, anchors_xyxy: Tensor, lattice: Lattice, iou_threshold: float
) -> Matches:
    """What `match_anchors` gives, from the cells around each box."""
    total, boxes = len(anchors_xyxy), class_ids.shape[1]
    image, box = (class_ids >= 0).nonzero(as_tuple=True)
    levels = _levels(anchors_xyxy, lattice, iou_threshold)
    size = max(1, _MOST_PAIRS // levels.pairs)
    overlaps, rows, owners = [], [], []
    for some in torch.arange(len(image)).split(size):
        at, owner = image[some] * total, box[some]
        seen = _seen(levels, boxes_xyxy[image[some], owner], anchors_xyxy, iou_threshold)
        claimed = seen.best > 0
        # A box's own best anchor is its in any case; of several such boxes the first has it.
        overlaps += [seen.overlaps, seen.best.new_full((len(some),), torch.inf)[claimed]]
        rows += [at[seen.owners] + seen.anchors, (at + seen.nearest)[claimed]]
        owners += [owner[seen.owners], owner[claimed]]
    if not overlaps:
        none = class_ids.new_zeros(0)
        return Matches(none, none, none)
    overlap, row, owner = (torch.cat(parts) for parts in (overlaps, rows, owners))
    taken, place = row.unique(return_inverse=True)
    most = overlap.new_full((len(taken),), -1.0).scatter_reduce_(0, place, overlap, reduce="amax")
    wins = overlap == most[place]
    first = owner.new_full((len(taken),), boxes).scatter_reduce_(0, place[wins], owner[wins], reduce="amin")
    return Matches(taken // total, taken % total, first)


class _Cells(NamedTuple):
    """Where the L levels of a lattice have their anchors; rows and columns beyond a level are its last one again.

    Attributes:
        first: (L,) indices of their first anchors.
        y: (L, most rows * A) indices of the anchors in the first column of each row.
        x: (L, most columns * A) indices of the anchors in the first row of each column.
        count_yx: (2, L) rows and columns.
        stride_yx: (2, L) height and width of a cell.
    """

    first: Tensor
    y: Tensor
    x: Tensor
    count_yx: Tensor
    stride_yx: Tensor


@lru_cache(maxsize=16)
def _cells(lattice: Lattice) -> _Cells:
    with torch.inference_mode(False):  # what is made there could not be used in training
        count_yx = torch.tensor(lattice.cells_hw).T.contiguous()
        ends = torch.tensor(lattice.counts()).cumsum(0)
        first = torch.cat([ends.new_zeros(1), ends[:-1]])
        of_cell = torch.arange(lattice.per_cell)
        rows, columns = (torch.arange(int(counts.max())).minimum(counts[:, None] - 1) for counts in count_yx)
        y, x = (
            (first[:, None, None] + cells[..., None] * lattice.per_cell + of_cell).flatten(1)
            for cells in (rows * count_yx[1][:, None], columns)
        )
        return _Cells(first, y, x, count_yx, torch.tensor(lattice.strides_hw()).T.contiguous())


class _Levels(NamedTuple):
    """The anchors of L levels, and the part of each that a box is compared with.

    Attributes:
        cells: where they are.
        y: (L, most rows, A, 2) top and bottom of the anchors of a row.
        x: (L, most columns, A, 2) left and right of the anchors of a column.
        window_yx: rows and columns that a box is compared with; fewer in a level that has not so many.
        least_yx: (2, L, A) the least height and width of the anchors.
        pairs: anchors that a box is compared with.
    """

    cells: _Cells
    y: Tensor
    x: Tensor
    window_yx: tuple[int, int]
    least_yx: Tensor
    pairs: int

    def anchors_at(self, level: Tensor, kind: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Indices of anchors; all arguments are of one shape."""
        return self.cells.first[level] + (row * self.cells.count_yx[1][level] + column) * self.y.shape[2] + kind


def _levels(anchors_xyxy: Tensor, lattice: Lattice, iou_threshold: float) -> _Levels:
    """The levels, each with a window that holds all anchors that reach the threshold with a box around its middle.

    The nearest cell is up to half a cell off. An IoU of t needs the middles of two sides a and b to be within
    (a + b) / 2 - t max(a, b), where b is between t a and a / t: at most a (1 - t), or a (1 / t - 1) / 2 for t below one
    half. Half of a holds the anchors that are as good as the nearest because they contain the box.
    """
    reach = max(0.5, (1 / max(iou_threshold, 1e-3) - 1) / 2)
    cells, count = _cells(lattice), lattice.per_cell
    y, x = (
        anchors_xyxy[places][..., axis::2].unflatten(1, (-1, count)) for axis, places in ((1, cells.y), (0, cells.x))
    )
    lengths = [lines[..., 1] - lines[..., 0] for lines in (y, x)]
    least = torch.stack([each.amin(1) for each in lengths])
    most = (least.amax(2) / cells.stride_yx).tolist()
    rows, columns = (
        max(
            min(of_level, 2 * math.floor(reach * side + 0.51) + 1) for of_level, side in zip(counts, sides, strict=True)
        )
        for counts, sides in zip(zip(*lattice.cells_hw, strict=True), most, strict=True)
    )
    return _Levels(cells, y, x, (rows, columns), least, len(y) * rows * columns * count)


class _Seen(NamedTuple):
    """What P boxes find around them.

    Attributes:
        best: (P,) the largest IoU.
        nearest: (P,) the first anchor that has it.
        overlaps: (H,) the IoUs that reach the threshold.
        anchors: (H,) with which anchors.
        owners: (H,) and of which boxes.
    """

    best: Tensor
    nearest: Tensor
    overlaps: Tensor
    anchors: Tensor
    owners: Tensor


def _seen(levels: _Levels, boxes: Tensor, anchors_xyxy: Tensor, iou_threshold: float) -> _Seen:
    """Compare (P, 4) boxes with the anchors around them.

    First with those of the nearest cell of each level. Then Q pairs of a box and a kind of anchors are left, of one
    level and one shape, that could give more than that or reach the threshold if their middles were the same.

    The overlap of two boxes is that of their widths times that of their heights, so that only the product is taken for
    each pair; each number is rounded as in `pairwise_iou`.
    """
    cells, window_yx = levels.cells, levels.window_yx
    sides = boxes[:, 1::2], boxes[:, 0::2]
    # (P, L) the nearest cell, and the first of the window.
    middles = [
        (each.sum(1)[:, None] / (2 * strides)).floor().clamp_(min=0).long().minimum(counts - 1)
        for each, strides, counts in zip(sides, cells.stride_yx, cells.count_yx, strict=True)
    ]
    firsts = [
        (middle - length // 2).clamp_(min=0).minimum((counts - length).clamp_(min=0))
        for middle, length, counts in zip(middles, window_yx, cells.count_yx, strict=True)
    ]
    every = torch.arange(len(levels.y))
    nearest_y, nearest_x = (
        _shared(each[:, None, None], lines[every, middle])
        for each, lines, middle in zip(sides, (levels.y, levels.x), middles, strict=True)
    )
    height, width = (each[:, 1] - each[:, 0] for each in sides)
    area = width * height
    least_height, least_width = levels.least_yx
    most_shared = least_height.minimum(height[:, None, None]) * least_width.minimum(width[:, None, None])
    at_most = most_shared / (area[:, None, None] + least_height * least_width - most_shared).clamp_(min=1e-8)
    enough = _iou(*nearest_x, *nearest_y, area[:, None, None]).flatten(1).amax(1).clamp_(max=iou_threshold)
    of_box, level, kind = (at_most * (1 + 1e-3) >= enough[:, None, None]).nonzero(as_tuple=True)  # each (Q,)

    first_row, first_column = (first[of_box, level] for first in firsts)
    pairs = _Pairs(of_box, level, kind)
    overlap = _overlaps(levels, boxes, pairs, (first_row, first_column), window_yx)
    most = overlap.amax((1, 2))
    best = most.new_zeros(len(boxes)).scatter_reduce_(0, of_box, most, reduce="amax")

    # Of a box twice as long as an anchor there may be more, as good, beyond the window, of which the first is due.
    longer = (height[of_box] >= 2 * least_height[level, kind]) | (width[of_box] >= 2 * least_width[level, kind])
    doubtful = (longer & (most >= best[of_box] * (1 - 1e-5))).nonzero()[:, 0]
    far = _Pairs(*(each[doubtful] for each in pairs))
    far_best, far_nearest = _best_of_all_cells(levels, boxes, far)
    best.scatter_reduce_(0, far.box, far_best, reduce="amax")

    pair, row, column = (overlap == best[of_box, None, None]).nonzero(as_tuple=True)
    anchors = levels.anchors_at(level[pair], kind[pair], first_row[pair] + row, first_column[pair] + column)
    nearest = level.new_full((len(boxes),), len(anchors_xyxy)).scatter_reduce_(0, of_box[pair], anchors, reduce="amin")
    as_good = far_best == best[far.box]
    nearest.scatter_reduce_(0, far.box[as_good], far_nearest[as_good], reduce="amin")

    pair, row, column = (overlap >= max(iou_threshold, 1e-9)).nonzero(as_tuple=True)
    anchors = levels.anchors_at(level[pair], kind[pair], first_row[pair] + row, first_column[pair] + column)
    return _Seen(best, nearest, overlap[pair, row, column], anchors, of_box[pair])


class _Pairs(NamedTuple):
    """Q pairs of a box and a kind of anchors.

    Attributes:
        box: (Q,) which of the boxes.
        level: (Q,) the level of the anchors.
        kind: (Q,) their place among the anchors of a cell.
    """

    box: Tensor
    level: Tensor
    kind: Tensor


def _overlaps(
    levels: _Levels, boxes: Tensor, pairs: _Pairs, firsts: tuple[Tensor, Tensor], lengths: tuple[int, int]
) -> Tensor:
    """(Q, rows, columns) the IoU of the boxes of pairs with the anchors in a window, 0 in cells that are not there.

    Args:
        levels: the anchors.
        boxes: (P, 4).
        pairs: boxes and kinds of anchors.
        firsts: (Q,) the first row, and the first column.
        lengths: rows and columns of the window.
    """
    box, level, kind = pairs
    of_pairs, near = boxes[box], []
    for axis, lines, first, length, counts in zip(
        (1, 0), (levels.y, levels.x), firsts, lengths, levels.cells.count_yx, strict=True
    ):
        seen = first[:, None] + torch.arange(length)
        lines_seen = lines[level[:, None], seen.clamp(max=lines.shape[1] - 1), kind[:, None]]
        shared, long = _shared(of_pairs[:, None, axis::2], lines_seen)
        near.append((shared.mul_(seen < counts[level, None]), long))
    (high, tall), (wide, long) = near
    area = (of_pairs[:, 2] - of_pairs[:, 0]) * (of_pairs[:, 3] - of_pairs[:, 1])
    return _iou(wide[:, None], long[:, None], high[..., None], tall[..., None], area[:, None, None])


def _best_of_all_cells(levels: _Levels, boxes: Tensor, pairs: _Pairs) -> tuple[Tensor, Tensor]:
    """(Q,) the largest IoU of pairs in their whole level, and the first anchor that has it."""
    rows, columns = levels.y.shape[1], levels.x.shape[1]
    best, nearest = [boxes.new_zeros(0)], [pairs.box.new_zeros(0)]
    for some in zip(*(each.split(max(1, _MOST_PAIRS // (rows * columns))) for each in pairs), strict=True):
        part = _Pairs(*some)
        start = torch.zeros_like(part.box)
        value, place = _overlaps(levels, boxes, part, (start, start), (rows, columns)).flatten(1).max(1)
        best.append(value)
        nearest.append(levels.anchors_at(part.level, part.kind, place // columns, place % columns))
    return torch.cat(best), torch.cat(nearest)


def _shared(sides: Tensor, lines: Tensor) -> tuple[Tensor, Tensor]:
    """What sides (..., 2) share with those of anchors (..., 2), and how long the latter are."""
    begin, end = lines[..., 0], lines[..., 1]
    return (torch.minimum(sides[..., 1], end) - torch.maximum(sides[..., 0], begin)).clamp_(min=0), end - begin


def _iou(wide: Tensor, long: Tensor, high: Tensor, tall: Tensor, area: Tensor) -> Tensor:
    """The IoU of boxes of an area with anchors of `long` x `tall`, of which they share `wide` x `high`."""
    overlap = wide * high
    union = (long * tall).add_(area).sub_(overlap)
    return overlap.div_(union.clamp_(min=1e-8))
