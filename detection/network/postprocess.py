"""From class and box predictions to the final boxes: top candidates, then hard or soft non-maximum suppression.

Sources: google/automl `efficientdet/tf2/postprocess.py` (6a54c87) for the numbers; Bodla et al., "Soft-NMS"
(arXiv 1704.04503, equation 3) for the decay. Checked against effdet 0.4.1.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import nms

from detection.data.batch import Detections
from detection.network.anchors import decode_boxes
from engine.checked import Checked
from engine.numbers import AboveZeroToOne, PositiveFloat, PositiveInt, ZeroToBelowOne

# Devices on which PyTorch has no float64: Apple's GPUs, which Lightning takes by itself.
WITHOUT_FLOAT64 = frozenset({"mps"})


@dataclass(frozen=True)
class Postprocess(Checked):
    """How predictions become detections.

    Attributes:
        nms: `hard` drops overlapping boxes, `soft` lowers their scores (Gaussian).
        iou_threshold: overlap above which hard suppression drops a box.
        soft_sigma: width of the Gaussian decay.
        score_threshold: boxes at or below it are not returned.
        max_candidates: best (anchor, class) pairs per image that enter the suppression.
        max_detections: largest number of boxes returned per image.
        class_agnostic: let boxes of different classes suppress each other.
    """

    nms: Literal["hard", "soft"] = "hard"
    iou_threshold: AboveZeroToOne = 0.5
    soft_sigma: PositiveFloat = 0.5
    score_threshold: ZeroToBelowOne = 0.001
    max_candidates: PositiveInt = 5000
    max_detections: PositiveInt = 100
    class_agnostic: bool = False


def top_candidates(class_logits: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `count` best (anchor, class) pairs of each image.

    This takes two steps and is exact: a pair among the best `count` has an anchor among the `count` anchors with the
    best single class, so the second, finer selection looks at a fraction of the map.

    Args:
        class_logits: (B, R, K).
        count: M, capped at R * K.

    Returns:
        Logits, anchor indices and class ids, each (B, M), best first.
    """
    batch, anchors, classes = class_logits.shape
    kept = min(count, anchors)
    best_anchors = class_logits.amax(dim=2).topk(kept, dim=1).indices
    # Ascending anchors: equal logits are then taken in the order of the map, as a single selection would.
    best_anchors = best_anchors.sort(dim=1).values
    logits = class_logits.gather(1, best_anchors[..., None].expand(-1, -1, classes)).reshape(batch, -1)
    logits, pairs = logits.topk(min(count, logits.shape[1]), dim=1)
    return logits, best_anchors.gather(1, pairs // classes), pairs % classes


@torch.no_grad()
def postprocess(
    class_logits: Tensor,
    box_deltas: Tensor,
    anchors_xyxy: Tensor,
    config: Postprocess,
    limits_hw: Tensor | None = None,
) -> Detections:
    """Detections of a batch in canvas pixels.

    Args:
        class_logits: (B, R, K).
        box_deltas: (B, R, 4).
        anchors_xyxy: (R, 4) canvas pixels.
        config: kind and thresholds.
        limits_hw: (B, 2) height and width of the image on its canvas; boxes are clipped to it before the
            suppression.

    Boxes without area, and boxes that a diverged network gives (NaN or infinity), are dropped.
    """
    logits, anchors, class_ids = top_candidates(class_logits, config.max_candidates)
    scores = logits.float().sigmoid()
    deltas = box_deltas.gather(1, anchors[..., None].expand(-1, -1, 4)).float()
    boxes = decode_boxes(deltas, anchors_xyxy[anchors])
    if limits_hw is not None:
        boxes = clip_boxes(boxes, limits_hw)
    usable = (boxes[..., 2:] > boxes[..., :2]).all(-1) & boxes.isfinite().all(-1) & scores.isfinite()
    scores = scores.masked_fill(~usable, 0.0)
    suppress = hard_nms if config.nms == "hard" else soft_nms
    return suppress(boxes, scores, class_ids, config)


def clip_boxes(boxes_xyxy: Tensor, limits_hw: Tensor) -> Tensor:
    """Boxes (B, M, 4) cut at 0 and at each image's (B, 2) height and width."""
    limit = limits_hw.flip(-1).repeat(1, 2)[:, None].to(boxes_xyxy)
    return torch.minimum(boxes_xyxy.clamp(min=0), limit)


def hard_nms(boxes_xyxy: Tensor, scores: Tensor, class_ids: Tensor, config: Postprocess) -> Detections:
    """Greedy suppression, each image and class separately.

    Args:
        boxes_xyxy: (B, M, 4).
        scores: (B, M), in any order.
        class_ids: (B, M).
        config: thresholds.
    """
    image, slot = (scores > config.score_threshold).nonzero(as_tuple=True)
    boxes, values, ids = boxes_xyxy[image, slot], scores[image, slot], class_ids[image, slot]
    out = _empty(boxes_xyxy, config.max_detections)
    if not len(image):
        return out
    keep = _kept(boxes, values, image, torch.zeros_like(ids) if config.class_agnostic else ids, len(scores), config)
    owner = image[keep]
    first = torch.searchsorted(owner, torch.arange(len(scores), device=owner.device))
    place = torch.arange(len(keep), device=owner.device) - first[owner]
    fits = place < config.max_detections
    keep, owner, place = keep[fits], owner[fits], place[fits]

    out.boxes_xyxy[owner, place] = boxes[keep]
    out.scores[owner, place] = values[keep]
    out.class_ids[owner, place] = ids[keep]
    return out


def _kept(
    boxes_xyxy: Tensor, scores: Tensor, image: Tensor, class_ids: Tensor, batch: int, config: Postprocess
) -> Tensor:
    """The boxes (P, 4) that are kept, as indices by image and then by falling score.

    One call for each image: the time of `nms` rises faster than its boxes, on a GPU too (`benchmarks/on_gpu.py`).
    Classes are kept apart as in torchvision's `batched_nms`, by shifting each beyond the last; `batched_nms` itself
    calls `nms` for each class above 1,000 boxes on a CPU, or 25,000 on a GPU.

    Args:
        boxes_xyxy: (P, 4).
        scores: (P,).
        image: (P,) the image of each, ascending.
        class_ids: (P,).
        batch: number of images.
        config: thresholds.
    """
    device = boxes_xyxy.device
    if device.type in WITHOUT_FLOAT64:
        boxes_xyxy, scores, image, class_ids = (each.cpu() for each in (boxes_xyxy, scores, image, class_ids))
    # In float32 the far classes would lose tenths of a pixel, and below 0 they would overlap.
    shifted, precise = boxes_xyxy.double() - boxes_xyxy.min(), scores.double()
    shifted = shifted + (class_ids * (shifted.max() + 1))[:, None]
    bounds = torch.searchsorted(image, torch.arange(batch + 1, device=image.device)).tolist()
    kept = [
        nms(shifted[start:stop], precise[start:stop], config.iou_threshold) + start
        for start, stop in itertools.pairwise(bounds)
        if start < stop
    ]
    return torch.cat(kept).to(device)


def soft_nms(boxes_xyxy: Tensor, scores: Tensor, class_ids: Tensor, config: Postprocess) -> Detections:
    """Gaussian soft suppression: each chosen box lowers the others of its class by the factor exp(-IoU^2 / sigma).

    Scores never rise, so boxes leave in descending order and the first `max_detections` are exact; one step
    serves all images. Shapes as in `hard_nms`.
    """
    out = _empty(boxes_xyxy, config.max_detections)
    remaining = scores.clone()
    areas = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).prod(-1)
    for place in range(min(config.max_detections, scores.shape[1])):
        best, index = remaining.max(dim=1, keepdim=True)
        alive = best > config.score_threshold
        if not alive.any():
            break
        box = boxes_xyxy.gather(1, index[..., None].expand(-1, -1, 4))
        class_id = class_ids.gather(1, index)
        out.boxes_xyxy[:, place] = torch.where(alive[..., None], box, 0.0)[:, 0]
        out.scores[:, place] = torch.where(alive, best, 0.0)[:, 0]
        out.class_ids[:, place] = torch.where(alive, class_id, -1)[:, 0]

        overlap = _overlap_with_one(box, boxes_xyxy, areas.gather(1, index), areas)
        decay = torch.exp(-overlap.square() / config.soft_sigma)
        if not config.class_agnostic:
            decay = torch.where(class_ids == class_id, decay, 1.0)
        remaining.mul_(decay).scatter_(1, index, -1.0)
    return out


def _overlap_with_one(box: Tensor, boxes: Tensor, area: Tensor, areas: Tensor) -> Tensor:
    low = torch.maximum(box[..., :2], boxes[..., :2])
    high = torch.minimum(box[..., 2:], boxes[..., 2:])
    overlap = (high - low).clamp_(min=0).prod(-1)
    return torch.where(overlap > 0, overlap / (area + areas - overlap), 0.0)


def _empty(boxes: Tensor, count: int) -> Detections:
    batch = len(boxes)
    return Detections(
        boxes.new_zeros(batch, count, 4),
        boxes.new_zeros(batch, count),
        torch.full((batch, count), -1, dtype=torch.int64, device=boxes.device),
    )


def to_original_pixels(found: Detections, scales: Tensor, sizes_hw: Tensor) -> Detections:
    """Detections in canvas pixels to pixels of the original images, clipped to them.

    Args:
        found: in canvas pixels.
        scales: (B,) canvas pixels per original pixel.
        sizes_hw: (B, 2) original height and width.
    """
    boxes = found.boxes_xyxy / scales[:, None, None].to(found.boxes_xyxy)
    return found._replace(boxes_xyxy=clip_boxes(boxes, sizes_hw))
