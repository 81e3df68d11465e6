"""Which anchor answers for which box, for a whole batch at once.

Source: the rule of google/automl `efficientdet/object_detection/argmax_matcher.py` (6a54c87): an anchor is
positive from IoU 0.5 on, and every box keeps the anchor that fits it best, even if it fits badly. Checked against
effdet 0.4.1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


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

    >>> box, half, beside = [0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 2.0], [2.0, 0.0, 4.0, 2.0]
    >>> pairwise_iou(torch.tensor([[box]]), torch.tensor([box, half, beside])).tolist()
    [[[1.0, 0.5, 0.0]]]
    """
    # One coordinate at a time, as B * N * R pairs of numbers would be the largest tensors of a training step.
    left, top, right, bottom = boxes_xyxy[..., None, :].unbind(-1)
    anchor_left, anchor_top, anchor_right, anchor_bottom = anchors_xyxy.unbind(-1)
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
    iou = pairwise_iou(boxes_xyxy.float(), anchors_xyxy)
    iou.masked_fill_((class_ids < 0)[..., None], -1.0)

    best_iou, box_of_anchor = iou.max(dim=1)
    box_of_anchor.masked_fill_(best_iou < iou_threshold, -1)

    # The forced matches: each box claims its best anchor, the lowest box index wins a contested one.
    fit, favourite = iou.max(dim=2)
    claims = torch.full((batch, anchors + 1), boxes, device=iou.device, dtype=torch.int64)
    favourite = favourite.masked_fill(fit <= 0, anchors)
    order = torch.arange(boxes, device=iou.device).expand(batch, -1)
    claims.scatter_reduce_(1, favourite, order, reduce="amin")
    claims = claims[:, :anchors]
    box_of_anchor = torch.where(claims < boxes, claims, box_of_anchor)

    image, anchor = (box_of_anchor >= 0).nonzero(as_tuple=True)
    return Matches(image, anchor, box_of_anchor[image, anchor])
