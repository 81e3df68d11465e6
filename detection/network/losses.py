"""The losses of a batch: focal for classes, Huber for boxes (arXiv 1911.09070 section 5.1; automl `train_lib.py`).

Checked against effdet 0.4.1's `DetectionLoss`. Other kinds are chosen by `DetectionLoss`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

from detection.network.anchors import Lattice, decode_boxes, encode_boxes
from detection.network.assignment import (
    ATSS_CELLS,
    DYNAMIC_ANCHORS,
    LARGEST,
    TASK_ALIGNED_ANCHORS,
    Predicted,
    aligned_iou,
    atss,
    dynamic_k,
    task_aligned,
)
from detection.network.loss_settings import DetectionLoss
from detection.network.matching import Matches, match_anchors
from engine.losses.running_mean import RunningMean

_OVERLAP_LOSSES = {
    "giou": generalized_box_iou_loss,
    "diou": distance_box_iou_loss,
    "ciou": complete_box_iou_loss,
}
_PIECE = 2**16  # logits for each thread: a quarter of a megabyte


class Losses(NamedTuple):
    """Sums over the batch, not yet divided by the number of positives.

    Attributes:
        classes: class loss over all anchors and classes.
        boxes: box loss over the positives, unweighted; Huber's over their four deltas is divided by 4.
        positives: how many anchors were positive, float32; with task_aligned the sum of the scores that they learn.
        distribution: distribution focal loss over the positives, unweighted; 0 without one.
    """

    classes: Tensor
    boxes: Tensor
    positives: Tensor
    distribution: Tensor | None = None

    def total(self, normaliser: Tensor, box_weight: float) -> Tensor:
        """The number to minimise: both sums divided by the positives, with the boxes' weight."""
        return (self.classes + box_weight * self.boxes) / normaliser

    def over_devices(self, sum_up: Callable[[Tensor], Tensor]) -> Losses:
        """The sums over the batches of all devices, without gradient.

        Args:
            sum_up: the element-wise sum of a tensor over the devices; called once.
        """
        classes, boxes, positives = sum_up(torch.stack([self.classes, self.boxes, self.positives]).detach()).unbind()
        return Losses(classes, boxes, positives)


def running_count(config: DetectionLoss | None) -> RunningMean | None:
    """The mean of the positives that a training divides by; None where each batch counts its own."""
    if config is None or config.normaliser == "batch":
        return None
    return RunningMean(0.9 if config.momentum is None else config.momentum)


class _NegativesAndPicked(torch.autograd.Function):
    """Sum of the focal loss of logits as if all their targets were 0, and some of these logits.

    The gradient of the sum is made in the forward pass: autograd would keep five intermediate maps of B * R * K floats,
    gigabytes for a D4; this keeps only the gradient. The gradient of the picked ones is added to it in its place, as
    it would else come in a map of zeros of that size.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, logits: Tensor, alpha: float, gamma: float, *where: Tensor
    ) -> tuple[Tensor, Tensor]:
        wanted = logits.requires_grad
        gradient = torch.empty_like(logits, memory_format=torch.contiguous_format) if wanted else logits.new_empty(0)
        into = _pieces(gradient) if wanted else itertools.repeat(None)
        # Not torch.dot, which does not sum pairwise: 0.3 % off over 4e6 equal terms on a CPU.
        total = torch.stack(
            [_negative_sum(piece, alpha, gamma, out) for piece, out in zip(_pieces(logits), into, strict=False)]
        ).sum()
        ctx.save_for_backward(gradient, *where)
        return total, logits[where]

    @staticmethod
    @once_differentiable
    def backward(
        ctx: torch.autograd.function.BackwardCFunction, of_sum: Tensor, of_picked: Tensor
    ) -> tuple[Tensor | None, ...]:
        gradient: Tensor = ctx.saved_tensors[0]
        where: tuple[Tensor, ...] = ctx.saved_tensors[1:]
        whole = gradient * of_sum
        whole.index_put_(where, of_picked, accumulate=True)
        return whole, None, None, *[None for _ in where]


def _pieces(logits: Tensor) -> tuple[Tensor, ...]:
    """Logits in a row; on a CPU in pieces that stay in its caches, with work for all threads in each."""
    flat = logits.reshape(-1)
    size = _PIECE * torch.get_num_threads() if flat.device.type == "cpu" else max(1, flat.numel())
    pieces: tuple[Tensor, ...] = flat.split(size)
    return pieces


def _negative_sum(logits: Tensor, alpha: float, gamma: float, gradient: Tensor | None) -> Tensor:
    """Sum of the focal loss with targets of 0; its gradient is written where one is to be."""
    # For a target of 0: loss = (1 - alpha) p^gamma softplus(x), p = sigmoid(x).
    p = logits.sigmoid()
    cross_entropy = F.softplus(logits)
    scale = p.sqrt().mul_(p) if gamma == 1.5 else p.pow(gamma)
    scale.mul_(1.0 - alpha)
    total = (scale * cross_entropy).sum()
    if gradient is not None:
        # d/dx = (1 - alpha) p^gamma (gamma (1 - p) softplus(x) + p)
        torch.mul(cross_entropy.mul_(gamma).mul_(1.0 - p).add_(p), scale, out=gradient)
    return total


def focal_terms(logits: Tensor, target: float, alpha_t: float, gamma: float, smoothing: float) -> Tensor:
    """Focal loss of each logit for one hard target, 0 or 1 (arXiv 1708.02002, equation 5), shape as given.

    Smoothing moves the target of the cross-entropy only; the focusing factor uses the hard target.
    """
    log_miss = F.logsigmoid(-logits if target else logits)  # of 1 - p_t; has a gradient where 1 - p_t is 0
    soft = target * (1.0 - smoothing) + 0.5 * smoothing
    cross_entropy = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, soft), reduction="none")
    return alpha_t * (gamma * log_miss).exp() * cross_entropy


def class_loss(
    class_logits: Tensor,
    where: tuple[Tensor, ...],
    quality: Tensor,
    config: DetectionLoss,
    certainty: Tensor | None = None,
) -> Tensor:
    """Class loss summed over all anchors and classes.

    Nearly all targets are 0, so the sum is taken as if all were, and corrected at the positives: no target map of
    B * R * K is ever made.

    Args:
        class_logits: (B, R, K).
        where: an index of (P,) for each dimension, of the logits whose target is not 0.
        quality: (P,) their targets, which the focal loss takes for 1.
        config: kind, alpha, gamma, smoothing.
        certainty: (P,) how certain their labels are; None where all are.
    """
    # Float before the positives are picked: their two gradients nearly cancel, and would do so in half precision.
    class_logits = class_logits.float()
    if config.label_smoothing == 0.0:
        negative, picked = _NegativesAndPicked.apply(class_logits, config.of_positives, config.focusing, *where)
    else:
        negative, picked = _as_if_negative(class_logits, config), class_logits[where]
    corrections = _corrections(picked, quality, config)
    if certainty is not None:
        corrections = corrections * certainty
    whole: Tensor = negative + corrections.sum()
    return whole


def _as_if_negative(logits: Tensor, config: DetectionLoss) -> Tensor:
    a, g, e = config.of_positives, config.focusing, config.label_smoothing
    if e == 0.0:
        return torch.stack([_negative_sum(piece, a, g, None) for piece in _pieces(logits)]).sum()
    return focal_terms(logits, 0, 1 - a, g, e).sum()


def _corrections(positive: Tensor, quality: Tensor, config: DetectionLoss) -> Tensor:
    a, g, e = config.of_positives, config.focusing, config.label_smoothing
    negative = focal_terms(positive, 0, 1 - a, g, e)
    if config.classes == "focal":
        return focal_terms(positive, 1, a, g, e) - negative
    cross_entropy = F.binary_cross_entropy_with_logits(positive, quality, reduction="none")
    if config.classes == "varifocal":  # arXiv 2008.13367, equation 2
        return quality * cross_entropy - negative
    # Li et al., "Generalized Focal Loss" (arXiv 2006.04388, equation 5); with the targets of TOOD its equation 3.
    return (quality - positive.sigmoid()).abs().pow(g) * cross_entropy - negative


def box_loss(deltas: Tensor, targets: Tensor, config: DetectionLoss) -> Tensor:
    """Huber loss of (P, 4) deltas, divided by 4, (P,); delta^2 / 2 where its parts meet, as in TensorFlow."""
    delta = 0.1 if config.delta is None else config.delta
    return F.huber_loss(deltas.float(), targets, delta=delta, reduction="none").sum(1) / 4


class _Positives(NamedTuple):
    """The positives of a batch.

    Attributes:
        matches: where they are, P in all.
        where: (P,) each, the indices of their true classes' logits.
        quality: (P,) the scores that they should give, in [0, 1].
        weights: (P,) how much each counts in the box loss and in the divisor.
        box_losses: (P,) not weighted.
        certainty: (P,) how certain their labels are; None where all are.
    """

    matches: Matches
    where: tuple[Tensor, Tensor, Tensor]
    quality: Tensor
    weights: Tensor
    box_losses: Tensor
    certainty: Tensor | None = None


def detection_losses(
    class_logits: Tensor,
    box_deltas: Tensor,
    anchors_xyxy: Tensor,
    boxes_xyxy: Tensor,
    class_ids: Tensor,
    config: DetectionLoss,
    lattice: Lattice | None = None,
    certainty: Tensor | None = None,
    distribution: Callable[[Matches, Tensor], Tensor] | None = None,
) -> Losses:
    """Assign anchors, then both losses of a batch.

    Args:
        class_logits: (B, R, K).
        box_deltas: (B, R, 4).
        anchors_xyxy: (R, 4) canvas pixels.
        boxes_xyxy: (B, N, 4) canvas pixels.
        class_ids: (B, N); -1 is padding.
        config: assigner, kinds, weights and thresholds.
        lattice: the order of the anchors; not needed by max_iou.
        certainty: (B, N) how certain each label is, c: its anchors learn the mean of the loss with it and of that
            without it, c * positive + (1 - c) * negative, and its box counts by c, in the divisor too.
        distribution: the distribution focal loss (P,) of the positives with their true deltas (P, 4).
    """
    predicted = Predicted(class_logits, box_deltas, anchors_xyxy)
    found = _positives(predicted, boxes_xyxy, class_ids, config, lattice, certainty)
    # Of the count filled on the device: a number that is copied there makes the step wait.
    count = class_logits.new_full((), len(found.weights), dtype=torch.float32)
    return Losses(
        class_loss(class_logits, found.where, found.quality, config, found.certainty),
        (found.box_losses * found.weights).sum(),
        count if config.assigner != "task_aligned" and certainty is None else found.weights.sum(),
        None
        if distribution is None
        else (distribution(found.matches, _true_deltas(found, predicted, boxes_xyxy)) * found.weights).sum(),
    )


def _true_deltas(found: _Positives, predicted: Predicted, boxes_xyxy: Tensor) -> Tensor:
    """(P, 4) the deltas that give the positives their boxes."""
    image, anchor, box = found.matches
    return encode_boxes(boxes_xyxy[image, box].float(), predicted.anchors_xyxy[anchor])


@torch.no_grad()
def image_losses(
    class_logits: Tensor,
    box_deltas: Tensor,
    anchors_xyxy: Tensor,
    boxes_xyxy: Tensor,
    class_ids: Tensor,
    config: DetectionLoss,
    lattice: Lattice | None = None,
) -> Tensor:
    """The sums of `Losses` for each image alone, (B, 3) float32 in the order of its fields.

    Args:
        class_logits: as for `detection_losses`, like all others.
        box_deltas: see above.
        anchors_xyxy: see above.
        boxes_xyxy: see above.
        class_ids: see above.
        config: see above.
        lattice: see above.
    """
    predicted = Predicted(class_logits, box_deltas, anchors_xyxy)
    found = _positives(predicted, boxes_xyxy, class_ids, config, lattice)
    corrections = _corrections(class_logits[found.where].float(), found.quality, config)
    positives = torch.stack([corrections, found.box_losses * found.weights, found.weights], 1)
    sums = corrections.new_zeros(len(class_logits), 3).index_add_(0, found.matches.image, positives)
    sums[:, 0] += torch.stack([_as_if_negative(logits.float(), config) for logits in class_logits])
    return sums


def _positives(
    predicted: Predicted,
    boxes_xyxy: Tensor,
    class_ids: Tensor,
    config: DetectionLoss,
    lattice: Lattice | None,
    certainty: Tensor | None = None,
) -> _Positives:
    matches, quality = _assigned(predicted, boxes_xyxy, class_ids, config, lattice)
    where = matches.image, matches.anchor, class_ids[matches.image, matches.box]
    deltas = predicted.box_deltas[matches.image, matches.anchor]
    truth, anchors = boxes_xyxy[matches.image, matches.box].float(), predicted.anchors_xyxy[matches.anchor]
    if config.boxes == "huber":
        losses = box_loss(deltas, encode_boxes(truth, anchors), config)
    else:
        boxes = decode_boxes(deltas.float(), anchors, largest=LARGEST)
        losses = _OVERLAP_LOSSES[config.boxes](boxes, truth)
    if config.classes == "focal":
        quality = torch.ones_like(losses)
    elif quality is None:
        fitted = decode_boxes(deltas.detach().float(), anchors, largest=LARGEST)
        quality = aligned_iou(fitted, truth).nan_to_num_(0)
    weights = quality if config.assigner == "task_aligned" else torch.ones_like(quality)
    sure = None if certainty is None else certainty[matches.image, matches.box]
    return _Positives(matches, where, quality, weights if sure is None else weights * sure, losses, sure)


def _assigned(
    predicted: Predicted, boxes_xyxy: Tensor, class_ids: Tensor, config: DetectionLoss, lattice: Lattice | None
) -> tuple[Matches, Tensor | None]:
    """The matches, and the scores that they should give where the assigner says so."""
    given = predicted.anchors_xyxy
    if config.assigner == "max_iou":
        threshold = 0.5 if config.match_iou is None else config.match_iou
        return match_anchors(boxes_xyxy, class_ids, given, iou_threshold=threshold, lattice=lattice), None
    assert lattice is not None
    if config.assigner == "atss":
        return atss(boxes_xyxy, class_ids, given, lattice, config.candidates or ATSS_CELLS), None
    if config.assigner == "task_aligned":
        most = config.candidates or TASK_ALIGNED_ANCHORS
        return task_aligned(predicted, boxes_xyxy, class_ids, lattice, most)
    return dynamic_k(predicted, boxes_xyxy, class_ids, lattice, config.candidates or DYNAMIC_ANCHORS)
