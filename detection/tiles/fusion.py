"""Weighted box fusion: one list of boxes from several passes over the same picture.

Source: Solovyev, Wang and Gabruseva, "Weighted boxes fusion: Ensembling boxes from different object detection models"
(arXiv 1910.13302), with the settings of the authors' ensemble-boxes 1.0.9: an overlap of 0.55, equal weights, the mean
as the score (`conf_type="avg"`, `allows_overflow=False`). The tests hold it against that library's results.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detection.data.batch import Detections

FUSED_ABOVE = 0.55  # overlap above which boxes are one object


def fused(found: list[Detections], iou_threshold: float = FUSED_ABOVE, score_threshold: float = 0.0) -> Detections:
    """Boxes of several passes as one list.

    Boxes are taken by falling score. Each joins the object of its class that it overlaps most, if by more than the
    threshold, or begins one. An object's box is the mean of its boxes weighted by their scores; its score is their mean
    score, times the share of the passes that found it. One step serves all pictures and classes.

    Args:
        found: for each pass (B, M) boxes, in the pixels of the same pictures.
        iou_threshold: overlap above which a box joins an object.
        score_threshold: objects at or below it are left out.

    Returns:
        (B, M') boxes, highest score first, as many as the fullest picture has.
    """
    boxes, scores, class_ids = (torch.cat(parts, 1) for parts in zip(*(one[:3] for one in found), strict=True))
    scores = scores.masked_fill(class_ids < 0, 0.0)
    ranked = _by_class(class_ids, scores)
    groups, depth = ranked.shape
    flat_boxes, flat_scores = boxes.reshape(-1, 4).double(), scores.reshape(-1).double()
    sums = flat_boxes.new_zeros(groups, depth, 4)  # of the boxes of each object, times their scores
    weights, counts = flat_scores.new_zeros(groups, depth), flat_scores.new_zeros(groups, depth)
    row = torch.arange(groups, device=boxes.device)
    begun = torch.zeros(groups, dtype=torch.int64, device=boxes.device)
    for place in ranked.T:
        there = place >= 0
        box, score = flat_boxes[place], flat_scores[place] * there
        overlap = _overlaps(box, sums / weights.clamp(min=torch.finfo(torch.float64).tiny)[..., None])
        best, which = overlap.masked_fill(counts == 0, -1.0).max(1)
        joins = best > iou_threshold
        which = torch.where(joins, which, begun)
        begun = begun + (there & ~joins)
        sums[row, which] += box * score[:, None]
        weights[row, which] += score
        counts[row, which] += there
    passes = len(found)
    score = weights / counts.clamp(min=1) * counts.clamp(max=passes) / passes
    return _as_batch(sums / weights.clamp(min=1e-300)[..., None], score, ranked, class_ids, score_threshold)


def _by_class(class_ids: Tensor, scores: Tensor) -> Tensor:
    """(G, D) places of the boxes of each picture and class among all, by falling score; -1 is padding."""
    batch, count = class_ids.shape
    most = int(class_ids.max()) + 1 if class_ids.numel() else 0
    if most <= 0:
        return torch.full((0, 0), -1, dtype=torch.int64, device=class_ids.device)
    picture = torch.arange(batch, device=class_ids.device)[:, None].expand(-1, count)
    group = torch.where(class_ids < 0, batch * most, picture * most + class_ids).reshape(-1)
    order = scores.reshape(-1).argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]
    order = order[group[order] < batch * most]
    own, sizes = group[order].unique_consecutive(return_counts=True)
    first = sizes.cumsum(0) - sizes
    rank = torch.arange(len(order), device=order.device) - first.repeat_interleave(sizes)
    places = torch.full((len(own), int(sizes.max())), -1, dtype=torch.int64, device=order.device)
    places[torch.arange(len(own), device=order.device).repeat_interleave(sizes), rank] = order
    return places


def _overlaps(box: Tensor, others: Tensor) -> Tensor:
    """(G, D) intersection over union of (G, 4) boxes with (G, D, 4) others."""
    low = torch.maximum(box[:, None, :2], others[..., :2])
    high = torch.minimum(box[:, None, 2:], others[..., 2:])
    shared = (high - low).clamp_(min=0).prod(-1)
    areas = (box[:, 2:] - box[:, :2]).prod(-1)[:, None] + (others[..., 2:] - others[..., :2]).prod(-1)
    return torch.where(shared > 0, shared / (areas - shared), 0.0)


def _as_batch(boxes: Tensor, scores: Tensor, ranked: Tensor, class_ids: Tensor, score_threshold: float) -> Detections:
    """Objects (G, D) by picture and class as one list for each picture."""
    batch, count = class_ids.shape
    firsts = ranked[:, 0] if ranked.numel() else ranked.new_zeros(0)
    group, slot = (scores > score_threshold).nonzero(as_tuple=True)
    picture, values = firsts[group] // max(count, 1), scores[group, slot]
    order = values.argsort(descending=True, stable=True)
    order = order[picture[order].argsort(stable=True)]
    picture, group, slot = picture[order], group[order], slot[order]
    sizes = torch.bincount(picture, minlength=batch)
    place = torch.arange(len(order), device=order.device) - (sizes.cumsum(0) - sizes)[picture]
    most = int(sizes.max()) if len(order) else 0
    out = Detections(
        boxes.new_zeros(batch, most, 4, dtype=torch.float32),
        scores.new_zeros(batch, most, dtype=torch.float32),
        torch.full((batch, most), -1, dtype=torch.int64, device=class_ids.device),
    )
    out.boxes_xyxy[picture, place] = boxes[group, slot].float()
    out.scores[picture, place] = scores[group, slot].float()
    out.class_ids[picture, place] = class_ids.reshape(-1)[firsts[group]]
    return out
