"""Which anchor answers for which box, for a whole batch at once.

Source: the rule of google/automl `efficientdet/object_detection/argmax_matcher.py` (6a54c87): an anchor is
positive from IoU 0.5 on, and every box keeps the anchor that fits it best, even if it fits badly. Checked against
effdet 0.4.1.
"""

from __future__ import annotations

import math
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
        box_of_anchor, fit, favourite = _best_nearby(
            boxes_xyxy.float(), class_ids, anchors_xyxy, lattice, iou_threshold
        )
    else:
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


def _best_nearby(
    boxes_xyxy: Tensor, class_ids: Tensor, anchors_xyxy: Tensor, lattice: Lattice, iou_threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What `_best_partners` gives, from the cells around each box.

    Returns:
        (B, R) the box that an anchor overlaps most, -1 below the threshold.
        (B, N) a box's best IoU.
        (B, N) the anchor that has it.
    """
    batch, total = len(class_ids), len(anchors_xyxy)
    box_of_anchor = class_ids.new_full((batch * total,), -1)
    fit, favourite = boxes_xyxy.new_zeros(class_ids.shape), torch.zeros_like(class_ids)
    image, box = (class_ids >= 0).nonzero(as_tuple=True)
    levels = _levels(anchors_xyxy, lattice, iou_threshold)
    size = max(1, _MOST_PAIRS // max(1, sum(math.prod(level.window_hw) for level in levels) * lattice.per_cell))
    overlaps, rows, owners = [], [], []
    for some in torch.arange(len(image)).split(size):
        boxes, at = boxes_xyxy[image[some], box[some]], image[some] * total
        seen = [_seen(level, boxes, iou_threshold) for level in levels]
        of_levels = torch.stack([each.best for each in seen], 1)
        best, level_of = of_levels.max(1)
        nearest = torch.stack([each.nearest for each in seen], 1).gather(1, level_of[:, None])[:, 0]
        # Of a box twice as long as an anchor there may be more, as good, beyond the window, of which the first is due.
        doubtful = (torch.stack([each.contained for each in seen], 1) >= best[:, None] * (1 - 1e-5)).any(1)
        if bool(doubtful.any()):
            best[doubtful], nearest[doubtful] = pairwise_iou(boxes[doubtful], anchors_xyxy).max(1)
        fit[image[some], box[some]], favourite[image[some], box[some]] = best, nearest
        for each in seen:
            overlaps.append(each.overlaps)
            rows.append(at[each.owners] + each.anchors)
            owners.append(box[some][each.owners])
    if overlaps:
        overlap, row, owner = (torch.cat(parts) for parts in (overlaps, rows, owners))
        most = overlap.new_full((batch * total,), -1.0).scatter_reduce_(0, row, overlap, reduce="amax")
        wins = overlap == most[row]
        box_of_anchor.scatter_reduce_(0, row[wins], owner[wins], reduce="amin", include_self=False)
    return box_of_anchor.view(batch, total), fit, favourite


class _Level(NamedTuple):
    """A level of anchors, of h rows and w columns.

    Attributes:
        first: index of its first anchor.
        x: (w, A, 2) left and right of the anchors of a column.
        y: (h, A, 2) top and bottom of the anchors of a row.
        strides_hw: height and width of a cell.
        window_hw: rows and columns that a box is compared with.
        least_wh: (A, 2) the least width and height of its anchors.
    """

    first: int
    x: Tensor
    y: Tensor
    strides_hw: tuple[float, float]
    window_hw: tuple[int, int]
    least_wh: Tensor

    def anchors_at(self, first_rows: Tensor, first_columns: Tensor, places: Tensor) -> Tensor:
        """(P,) indices of anchors by their places in windows of (rows * columns * A), which begin at (P,) cells."""
        per_cell, columns = self.x.shape[1], self.window_hw[1]
        cells = places // per_cell
        row, column = first_rows + cells // columns, first_columns + cells % columns
        return self.first + (row * len(self.x) + column) * per_cell + places % per_cell


class _Seen(NamedTuple):
    """What P boxes find around them in a level.

    Attributes:
        best: (P,) the largest IoU.
        nearest: (P,) the first anchor that has it.
        contained: (P,) the largest IoU with an anchor that the box is twice as long as; -1 where there is none.
        overlaps: (H,) the IoUs that reach the threshold.
        anchors: (H,) with which anchors.
        owners: (H,) and of which boxes.
    """

    best: Tensor
    nearest: Tensor
    contained: Tensor
    overlaps: Tensor
    anchors: Tensor
    owners: Tensor


def _seen(level: _Level, boxes: Tensor, iou_threshold: float) -> _Seen:
    """Compare (P, 4) boxes with the anchors around them.

    The overlap of two boxes is that of their widths times that of their heights, so that only the product is taken for
    each pair; each number is rounded as in `pairwise_iou`.
    """
    rows, columns = (
        _window(boxes[:, axis::2], len(lines), stride, length)
        for axis, lines, stride, length in zip(
            (1, 0), (level.y, level.x), level.strides_hw, level.window_hw, strict=True
        )
    )
    (high, tall), (wide, long) = (
        _shared(boxes[:, axis::2], lines[cells]) for axis, lines, cells in ((1, level.y, rows), (0, level.x, columns))
    )
    overlap = wide[:, None] * high[:, :, None]
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    union = (long[:, None] * tall[:, :, None]).add_((width * height)[:, None, None, None]).sub_(overlap)
    overlap.div_(union.clamp_(min=1e-8))
    longer = (width[:, None] >= 2 * level.least_wh[:, 0]) | (height[:, None] >= 2 * level.least_wh[:, 1])
    contained = overlap.amax((1, 2)).masked_fill_(~longer, -1).amax(1)
    best, place = overlap.flatten(1).max(1)
    owner, hit = (overlap.flatten(1) >= iou_threshold).nonzero(as_tuple=True)
    return _Seen(
        best,
        level.anchors_at(rows[:, 0], columns[:, 0], place),
        contained,
        overlap.flatten(1)[owner, hit],
        level.anchors_at(rows[owner, 0], columns[owner, 0], hit),
        owner,
    )


def _levels(anchors_xyxy: Tensor, lattice: Lattice, iou_threshold: float) -> list[_Level]:
    """The levels, each with a window that holds all anchors that reach the threshold with a box around its middle.

    The nearest cell is up to half a cell off. An IoU of t needs the middles of two sides a and b to be within
    (a + b) / 2 - t max(a, b), where b is between t a and a / t: at most a (1 - t), or a (1 / t - 1) / 2 for t below one
    half. Half of a holds the anchors that are as good as the nearest because they contain the box.
    """
    reach = max(0.5, (1 / max(iou_threshold, 1e-3) - 1) / 2)
    levels, first = [], 0
    for (height, width), strides, count in zip(lattice.cells_hw, lattice.strides_hw(), lattice.counts(), strict=True):
        anchors = anchors_xyxy[first : first + count].view(height, width, lattice.per_cell, 4)
        x, y = anchors[0, :, :, 0::2], anchors[:, 0, :, 1::2]
        wh = torch.stack([(lines[..., 1] - lines[..., 0]).amin(0) for lines in (x, y)], -1)
        longest = wh.amax(0).tolist()
        rows, columns = (
            min(cells, 2 * math.floor(reach * side / stride + 0.51) + 1)
            for cells, side, stride in zip((height, width), reversed(longest), strides, strict=True)
        )
        levels.append(_Level(first, x, y, strides, (rows, columns), wh))
        first += count
    return levels


def _window(sides: Tensor, cells: int, stride: float, length: int) -> Tensor:
    """(P, length) the cells around the middles of (P, 2) sides."""
    middle = (sides.sum(1) / (2 * stride)).floor().clamp_(0, cells - 1).long()
    return (middle - length // 2).clamp_(0, cells - length)[:, None] + torch.arange(length)


def _shared(sides: Tensor, lines: Tensor) -> tuple[Tensor, Tensor]:
    """What (P, 2) sides share with those of (P, cells, A, 2) anchors, and how long the latter are, (P, cells, A)."""
    low, high = sides[:, None, None, 0], sides[:, None, None, 1]
    shared = (torch.minimum(high, lines[..., 1]) - torch.maximum(low, lines[..., 0])).clamp_(min=0)
    return shared, lines[..., 1] - lines[..., 0]
