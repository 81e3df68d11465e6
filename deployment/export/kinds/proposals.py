"""Boxes and masks of Faster and Mask R-CNN in a graph: what torchvision's RPN and ROI heads do, without their loops.

Sources: torchvision 0.29, `models/detection/rpn.py` (`filter_proposals`) and `roi_heads.py`
(`postprocess_detections`, `maskrcnn_inference`). Numbers of boxes are fixed: those that are dropped have the score 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.rpn import permute_and_flatten
from torchvision.ops import MultiScaleRoIAlign, roi_align

from deployment.export.kinds.grids import anchors_of_levels
from deployment.export.operators import suppress
from detection.network.heads.kinds.faster_rcnn import POOLED, FasterRcnnHead
from detection.network.postprocess import Postprocess, clip_boxes

_LEAST_SIDE = 1e-2  # of a box in pixels (`RoIHeads.postprocess_detections`)


class ProposedBoxes(nn.Module):
    """The candidates of a head that proposes boxes, and then says what is in them.

    Args:
        head: the head, whose layers are used; in evaluation mode.
        postprocess: the suppression.
        classes: K.
    """

    def __init__(self, head: FasterRcnnHead, postprocess: Postprocess, classes: int) -> None:
        super().__init__()
        self.rpn, self.roi_heads = head.rpn, head.roi_heads
        self.postprocess, self.classes = postprocess, classes
        self.each: int = head.rpn.pre_nms_top_n()  # of a level
        self.most: int = head.rpn.post_nms_top_n()  # of an image

    @property
    def masks(self) -> bool:
        """Whether there is a mask for each box."""
        return bool(self.roi_heads.has_mask())

    def least(self, cells: Sequence[int]) -> int:
        """How many candidates there are of maps with so many cells."""
        per_cell: list[int] = self.rpn.anchor_generator.num_anchors_per_location()
        proposed = sum(min(self.each, count * each) for count, each in zip(cells, per_cell, strict=True))
        return min(self.most, proposed) * self.classes

    def forward(
        self, maps: Sequence[Tensor], canvas_hw: tuple[int, int], sizes_hw: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (B, M, 4), the scores of those that are kept (B, M), and their classes (B, M).

        Args:
            maps: of the pyramid, finest first.
            canvas_hw: height and width of the canvas.
            sizes_hw: (B, 2) height and width of each image on it.
        """
        proposals, real = self._proposals(maps, canvas_hw, sizes_hw)
        heads = self.roi_heads
        features = heads.box_head(pooled(heads.box_roi_pool, maps, proposals))
        logits, codes = heads.box_predictor(features)
        # The background comes first, and is left out; each class has a box of its own.
        shape = (len(proposals), -1, self.classes + 1)
        scores = logits.softmax(-1).reshape(shape)[..., 1:] * real[..., None]
        boxes = heads.box_coder.decode_single(codes, proposals.flatten(0, 1)).reshape(*shape, 4)[:, :, 1:]
        class_ids = torch.arange(self.classes).expand(scores.shape).flatten(1)
        boxes, flat = clip_boxes(boxes.flatten(1, 2), sizes_hw), scores.flatten(1)
        config = self.postprocess
        kept: Tensor = suppress(
            boxes, _large(boxes, flat, _LEAST_SIDE), class_ids, self.classes,
            config.iou_threshold, config.score_threshold, config.max_detections,
        )  # fmt: skip
        return boxes, kept, class_ids

    def masks_of(self, maps: Sequence[Tensor], boxes_xyxy: Tensor, class_ids: Tensor) -> Tensor:
        """(B, N, S, S) probabilities within boxes (B, N, 4) of classes (B, N); 0 where the class is -1."""
        heads = self.roi_heads
        logits = heads.mask_predictor(heads.mask_head(pooled(heads.mask_roi_pool, maps, boxes_xyxy)))
        rows = (class_ids.flatten() + 1).reshape(-1, 1, 1, 1).expand(-1, 1, *logits.shape[2:])
        masks: Tensor = logits.sigmoid().gather(1, rows).reshape(*class_ids.shape, *logits.shape[2:])
        return masks * (class_ids >= 0)[..., None, None]

    def _proposals(self, maps: Sequence[Tensor], canvas_hw: tuple[int, int], sizes_hw: Tensor) -> tuple[Tensor, Tensor]:
        """The best proposals (B, P, 4), and whether each is one (B, P)."""
        boxes, scores, levels = [], [], []
        all_anchors = anchors_of_levels(self.rpn.anchor_generator, maps, canvas_hw)
        for level, (one, anchors) in enumerate(zip(maps, all_anchors, strict=True)):
            (objectness,), (deltas,) = self.rpn.head([one])
            batch, per_cell, height, width = objectness.shape
            logits = permute_and_flatten(objectness, batch, per_cell, 1, height, width).flatten(1)
            codes = permute_and_flatten(deltas, batch, per_cell, 4, height, width)
            best, places = logits.topk(torch.sym_min(self.each, logits.shape[1]), dim=1)
            codes = codes.gather(1, places[..., None].expand(-1, -1, 4))
            decoded = self.rpn.box_coder.decode_single(codes.flatten(0, 1), anchors[places].flatten(0, 1))
            boxes.append(decoded.reshape(codes.shape))
            scores.append(best.sigmoid())
            levels.append(torch.full_like(places, level))
        clipped = clip_boxes(torch.cat(boxes, 1), sizes_hw)
        kept = suppress(
            clipped, _large(clipped, torch.cat(scores, 1), self.rpn.min_size), torch.cat(levels, 1), len(maps),
            self.rpn.nms_thresh, self.rpn.score_thresh, self.most,
        )  # fmt: skip
        best, rows = kept.topk(torch.sym_min(self.most, kept.shape[1]), dim=1)
        return clipped.gather(1, rows[..., None].expand(-1, -1, 4)), best > 0


def pooled(pool: MultiScaleRoIAlign, maps: Sequence[Tensor], boxes_xyxy: Tensor) -> Tensor:
    """What lies in boxes (B, N, 4), (B * N, C, S, S): each cut from the map whose cells suit its size.

    Every box is cut from every map, and one of them is taken, as a graph cannot sort boxes by a number that it finds.
    """
    batch, count = boxes_xyxy.shape[:2]
    images = torch.arange(batch, dtype=boxes_xyxy.dtype)[:, None, None].expand(batch, count, 1)
    rois = torch.cat([images, boxes_xyxy], dim=2).flatten(0, 1)
    levels = pool.map_levels([boxes_xyxy.flatten(0, 1)])[:, None, None, None]
    cut: list[Tensor] = [
        roi_align(one, rois, pool.output_size, scale, pool.sampling_ratio)
        for one, scale in zip(maps[: len(POOLED)], pool.scales, strict=True)
    ]
    found, *others = cut
    for place, other in enumerate(others, 1):
        found = torch.where(levels == place, other, found)
    return found


def _large(boxes_xyxy: Tensor, scores: Tensor, side: float) -> Tensor:
    """The scores of boxes (B, M, 4) whose sides have so many pixels; 0 for others."""
    sides = boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]
    return torch.where((sides >= side).all(-1), scores, torch.zeros_like(scores))
