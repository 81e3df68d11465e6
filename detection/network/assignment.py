"""Which anchors learn which box by what the network makes of them: ATSS, TOOD's task alignment, and SimOTA.

Sources: Zhang et al., "Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive Training Sample
Selection" (arXiv 1912.02424, algorithm 1); Feng et al., "TOOD: Task-aligned One-stage Object Detection" (arXiv
2108.07755, equation 1 and section 3.2.1); Ge et al., "YOLOX" (arXiv 2107.08430, section 2.1). The anchors of one cell
share their centre, so that ATSS counts cells, as its author does for several anchors at a place.

An anchor that several boxes ask for goes to one of them: the one that it overlaps most, or with SimOTA the cheapest;
of equal ones the first. A box that the first two rules give no anchor, such as one of a few pixels between the centres
of the cells, gets one nevertheless, as the plain rule forces one: else it would be learnt as background.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from detection.network.anchors import Lattice, decode_boxes
from detection.network.matching import Matches, pairwise_iou

ATSS_CELLS = 9  # k of algorithm 1
TASK_ALIGNED_ANCHORS = 13  # of TOOD, section 3.2.1
SCORE_POWER, OVERLAP_POWER = 1.0, 6.0  # alpha and beta of TOOD, section 3.2.1
DYNAMIC_ANCHORS = 10  # of YOLOX, `models/yolo_head.py`, like the next two
CENTRE_STRIDES = 1.5
OVERLAP_COST = 3.0
FAR = 1e6  # cost of an anchor that is no candidate
# torchvision's and detectron2's limit for decoded sides, in sides of the anchor.
LARGEST = 1000 / 16
_LEAST = 1e-9  # of a task alignment: below it only rounding decides
_MOST_PAIRS = 2**23  # (box, anchor) pairs at a time; several tensors of this size live at once


class Assignment(NamedTuple):
    """The positives of a batch with what each is to learn.

    Attributes:
        matches: the positive (image, anchor) pairs, P in all.
        quality: (P,) the score that the anchor should give, in [0, 1].
    """

    matches: Matches
    quality: Tensor


class Predicted(NamedTuple):
    """What the network says of a batch, without gradient.

    Attributes:
        class_logits: (B, R, K).
        box_deltas: (B, R, 4).
        anchors_xyxy: (R, 4) canvas pixels.
    """

    class_logits: Tensor
    box_deltas: Tensor
    anchors_xyxy: Tensor

    def of(self, images: slice) -> Predicted:
        """That of some images."""
        return Predicted(self.class_logits[images], self.box_deltas[images], self.anchors_xyxy)

    def boxes(self) -> Tensor:
        """(B, R, 4) canvas pixels."""
        return decode_boxes(self.box_deltas.float(), self.anchors_xyxy, largest=LARGEST)


class _Claims(NamedTuple):
    """Anchors that boxes ask for, up to M each.

    Attributes:
        anchors: (B, N, M) indices.
        wanted: (B, N, M) whether the box asks for it.
        rank: (B, N, M) by which a contested anchor is given: the highest wins.
    """

    anchors: Tensor
    wanted: Tensor
    rank: Tensor


@torch.no_grad()
def atss(
    boxes_xyxy: Tensor, class_ids: Tensor, anchors_xyxy: Tensor, lattice: Lattice, cells: int = ATSS_CELLS
) -> Matches:
    """Adaptive training sample selection.

    Candidates of a box are the anchors of the nearest cells of each level. Those whose IoU reaches the mean plus the
    standard deviation of all candidates', and whose centre lies in the box, are positive.

    Args:
        boxes_xyxy: (B, N, 4) canvas pixels.
        class_ids: (B, N); boxes with -1 are padding.
        anchors_xyxy: (R, 4) canvas pixels.
        lattice: their order.
        cells: nearest cells of each level.
    """
    parts = [
        _given(_atss_claims(boxes_xyxy[some].float(), anchors_xyxy, lattice, cells), class_ids[some], len(anchors_xyxy))
        for some in _chunks(class_ids, len(anchors_xyxy) // lattice.per_cell)
    ]
    return _matches(parts, class_ids)


def _atss_claims(boxes: Tensor, anchors_xyxy: Tensor, lattice: Lattice, cells: int) -> _Claims:
    centres = _centres(boxes)
    nearest = []
    start = 0
    for count in lattice.counts():
        level = anchors_xyxy[start : start + count : lattice.per_cell]
        apart = (centres[..., None, :] - _centres(level)).square().sum(-1)
        # A stable order, because the nearest cells of a box between them are equally near.
        order = apart.sort(dim=-1, stable=True).indices[..., :cells]
        nearest.append(start + order * lattice.per_cell)
        start += count
    of_cell = torch.arange(lattice.per_cell, device=boxes.device)
    anchors = (torch.cat(nearest, -1)[..., None] + of_cell).flatten(-2)
    candidates = anchors_xyxy[anchors]
    overlap = aligned_iou(boxes[..., None, :], candidates)
    threshold = overlap.mean(-1, keepdim=True) + overlap.std(-1, keepdim=True)
    wanted = (overlap >= threshold) & _inside(_centres(candidates), boxes[..., None, :])
    best = F.one_hot(overlap.argmax(-1), overlap.shape[-1]).bool()
    return _Claims(anchors, wanted | (best & ~wanted.any(-1, keepdim=True)), overlap)


@torch.no_grad()
def task_aligned(
    predicted: Predicted,
    boxes_xyxy: Tensor,
    class_ids: Tensor,
    lattice: Lattice,
    most: int = TASK_ALIGNED_ANCHORS,
    score_power: float = SCORE_POWER,
    overlap_power: float = OVERLAP_POWER,
) -> Assignment:
    """Task-aligned assignment: the anchors that already do both well, score and box.

    The alignment of an anchor with a box is score^a IoU^b of what it predicts; the best of a box, among those with
    their centre in it, are positive. Each learns the score that its alignment is of the box's best, times the best
    IoU (section 3.2.1).

    Args:
        predicted: the network's answers.
        boxes_xyxy: (B, N, 4) canvas pixels.
        class_ids: (B, N); boxes with -1 are padding.
        lattice: the order of the anchors.
        most: the most anchors of a box.
        score_power: a.
        overlap_power: b.
    """
    if class_ids.shape[1] == 0:
        return _nothing(class_ids)
    parts, alignments, overlaps = [], [], []
    total = len(predicted.anchors_xyxy)
    for some in _chunks(class_ids, total):
        given, boxes, ids = predicted.of(some), boxes_xyxy[some].float(), class_ids[some]
        overlap = _of_numbers(pairwise_iou(boxes, given.boxes()))
        scores = _scores_of(given.class_logits, ids)
        alignment = scores.pow(score_power).mul_(overlap.pow(overlap_power))
        inside = _inside(_centres(given.anchors_xyxy), boxes[..., None, :])
        alignment.masked_fill_(~inside, 0)
        values, anchors = alignment.topk(min(most, total), dim=-1)
        claims = _Claims(anchors, values > _LEAST, overlap.gather(-1, anchors))
        owners = _given(_with_nearest(claims, boxes, given.anchors_xyxy, lattice, overlap), ids, total)
        parts.append(owners)
        image, anchor, box = _pairs(owners)
        alignments.append(alignment[image, box, anchor])
        overlaps.append(overlap[image, box, anchor])
    matches = _matches(parts, class_ids)
    aligned, overlap = torch.cat(alignments), torch.cat(overlaps)
    owner = matches.image * class_ids.shape[1] + matches.box
    best_aligned, best_overlap = (_largest(values, owner, class_ids.numel()) for values in (aligned, overlap))
    quality = aligned / (best_aligned[owner] + _LEAST) * best_overlap[owner]
    # An anchor that was forced aligns with nothing yet; it learns the box in full, as under the plain rule.
    return Assignment(matches, torch.where(aligned > _LEAST, quality, 1).clamp_(0, 1))


@torch.no_grad()
def dynamic_k(
    predicted: Predicted, boxes_xyxy: Tensor, class_ids: Tensor, lattice: Lattice, most: int = DYNAMIC_ANCHORS
) -> Assignment:
    """SimOTA: a box gets its cheapest anchors, as many as its best predictions overlap it in sum.

    Candidates have their centre within one and a half strides of the box's; the cost is the cross-entropy of all
    classes and three times that of the IoU. Each learns its IoU as its score.

    Args:
        predicted: the network's answers.
        boxes_xyxy: (B, N, 4) canvas pixels.
        class_ids: (B, N); boxes with -1 are padding.
        lattice: the order of the anchors.
        most: the most anchors of a box.
    """
    if class_ids.shape[1] == 0:
        return _nothing(class_ids)
    parts, qualities = [], []
    total = len(predicted.anchors_xyxy)
    strides = _strides(lattice, predicted.anchors_xyxy)
    for some in _chunks(class_ids, total):
        given, boxes, ids = predicted.of(some), boxes_xyxy[some].float(), class_ids[some]
        apart = (_centres(given.anchors_xyxy) - _centres(boxes)[..., None, :]).abs()
        near = (apart < CENTRE_STRIDES * strides).all(-1)
        overlap = _of_numbers(pairwise_iou(boxes, given.boxes()))
        logits = given.class_logits.float()
        cross_entropy = F.softplus(logits).sum(-1)[:, None] - _logits_of(logits, ids)
        cost = cross_entropy - OVERLAP_COST * (overlap + 1e-8).log()
        cost = torch.where(near, cost, cost + FAR)
        count = min(most, total)
        best = torch.where(near, overlap, 0).topk(count, dim=-1).values
        asked = best.sum(-1).long().clamp_(min=1)
        costs, anchors = cost.topk(count, dim=-1, largest=False)
        wanted = (torch.arange(count, device=ids.device) < asked[..., None]) & (costs < FAR)
        owners = _given(_Claims(anchors, wanted, -costs), ids, total)
        parts.append(owners)
        image, anchor, box = _pairs(owners)
        qualities.append(overlap[image, box, anchor])
    return Assignment(_matches(parts, class_ids), torch.cat(qualities))


def aligned_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU of boxes (..., 4) with others that they broadcast with; boxes without area give 0."""
    low = torch.maximum(boxes[..., :2], others[..., :2])
    high = torch.minimum(boxes[..., 2:], others[..., 2:])
    overlap = (high - low).clamp_(min=0).prod(-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(-1), (others[..., 2:] - others[..., :2]).prod(-1)
    return overlap / (areas[0] + areas[1] - overlap).clamp(min=1e-8)


def _centres(boxes: Tensor) -> Tensor:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Whether points (..., 2) lie more than a hundredth of a pixel inside boxes that they broadcast with."""
    return ((points - boxes[..., :2]).amin(-1) > 0.01) & ((boxes[..., 2:] - points).amin(-1) > 0.01)


def _strides(lattice: Lattice, anchors: Tensor) -> Tensor:
    """(R, 2) width and height of each anchor's cell."""
    values = anchors.new_tensor([(width, height) for height, width in lattice.strides_hw()])
    counts = torch.tensor(lattice.counts(), device=anchors.device)
    return values.repeat_interleave(counts, dim=0, output_size=len(anchors))


def _logits_of(class_logits: Tensor, class_ids: Tensor) -> Tensor:
    """(B, N, R) the logits of each box's class."""
    rows = class_ids.clamp(min=0)[:, None].expand(-1, class_logits.shape[1], -1)
    return class_logits.gather(2, rows).transpose(1, 2)


def _scores_of(class_logits: Tensor, class_ids: Tensor) -> Tensor:
    return _logits_of(class_logits.float(), class_ids).sigmoid()


def _of_numbers(overlap: Tensor) -> Tensor:
    """A network that begins to diverge predicts boxes that overlap nothing, rather than by NaN."""
    return overlap.nan_to_num_(0).clamp_(0, 1)


def _with_nearest(claims: _Claims, boxes: Tensor, anchors_xyxy: Tensor, lattice: Lattice, rank: Tensor) -> _Claims:
    """The claims, and for each box without any one for the first anchor of the nearest cell."""
    centres = _centres(anchors_xyxy[:: lattice.per_cell])
    nearest = (_centres(boxes)[..., None, :] - centres).square().sum(-1).argmin(-1, keepdim=True) * lattice.per_cell
    return _Claims(
        torch.cat([claims.anchors, nearest], -1),
        torch.cat([claims.wanted, ~claims.wanted.any(-1, keepdim=True)], -1),
        torch.cat([claims.rank, rank.gather(-1, nearest)], -1),
    )


def _given(claims: _Claims, class_ids: Tensor, total: int) -> Tensor:
    """(B, R) the box that each anchor is given to, -1 for none."""
    batch, boxes = class_ids.shape
    wanted = claims.wanted & (class_ids >= 0)[..., None]
    # One place more, where the claims end that are none.
    anchors = torch.where(wanted, claims.anchors, total).reshape(batch, -1)
    ranks = claims.rank.reshape(batch, -1)
    best = ranks.new_full((batch, total + 1), -torch.inf).scatter_reduce_(1, anchors, ranks, "amax")
    order = torch.arange(boxes, device=class_ids.device)[:, None].expand(claims.anchors.shape).reshape(batch, -1)
    order = torch.where(ranks == best.gather(1, anchors), order, boxes)
    owners = torch.full((batch, total + 1), boxes, device=class_ids.device, dtype=torch.int64)
    owners = owners.scatter_reduce_(1, anchors, order, "amin")[:, :total]
    return torch.where(owners < boxes, owners, -1)


def _pairs(owners: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    image, anchor = (owners >= 0).nonzero(as_tuple=True)
    return image, anchor, owners[image, anchor]


def _matches(parts: list[Tensor], class_ids: Tensor) -> Matches:
    return Matches(*_pairs(torch.cat(parts))) if parts else Matches(*(class_ids.new_zeros(0) for _ in range(3)))


def _nothing(class_ids: Tensor) -> Assignment:
    return Assignment(_matches([], class_ids), torch.zeros(0, device=class_ids.device))


def _largest(values: Tensor, owner: Tensor, count: int) -> Tensor:
    """The largest value of each owner, (count,); 0 for those without any."""
    return values.new_zeros(count).scatter_reduce_(0, owner, values, "amax")


def _chunks(class_ids: Tensor, others: int) -> Iterator[slice]:
    """Some images at a time, so that no crowd takes gigabytes; none if there are no boxes."""
    batch, boxes = class_ids.shape
    size = max(1, _MOST_PAIRS // max(1, boxes * others))
    return (slice(start, start + size) for start in range(0, batch if boxes else 0, size))
