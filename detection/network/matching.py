"""Which anchor answers for which box, for a whole batch at once.

Source: the rule of google/automl `efficientdet/object_detection/argmax_matcher.py` (6a54c87): an anchor is
positive from IoU 0.5 on, and every box keeps the anchor that fits it best, even if it fits badly. Checked against
effdet 0.4.1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

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
    boxes_xyxy: Tensor, class_ids: Tensor, anchors_xyxy: Tensor, *, iou_threshold: float = 0.5
) -> Matches:
    """Assign anchors to boxes.

    Where two boxes share their best anchor, the first of them gets it. A box that touches no anchor has none.

    Args:
        boxes_xyxy: (B, N, 4) canvas pixels.
        class_ids: (B, N); boxes with -1 are padding.
        anchors_xyxy: (R, 4) canvas pixels.
        iou_threshold: smallest IoU of a positive anchor.
    """
    batch, boxes = class_ids.shape
    anchors = len(anchors_xyxy)
    if boxes == 0:
        none = class_ids.new_zeros(0)
        return Matches(none, none, none)
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
