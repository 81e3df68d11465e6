"""Focal loss for classes, Huber loss for boxes (arXiv 1911.09070 section 5.1; google/automl `train_lib.py`).

Checked against effdet 0.4.1's `DetectionLoss`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from detection.network.anchors import encode_boxes
from detection.network.matching import Matches, match_anchors
from engine.checked import Checked
from engine.numbers import NonNegativeFloat, OpenUnitInterval, PositiveFloat, ZeroToBelowOne

_PIECE = 2**15  # logits: an eighth of a megabyte


@dataclass(frozen=True)
class DetectionLoss(Checked):
    """What the training minimises; the values of google/automl `hparams_config.py`.

    Attributes:
        alpha: weight of positives in the focal loss, negatives have 1 - alpha.
        gamma: how strongly the weight of easy examples is reduced.
        label_smoothing: share by which the target is moved towards one half.
        delta: where Huber turns from square to linear, in anchor sizes.
        box_weight: weight of the box loss.
        match_iou: smallest IoU of a positive anchor.
    """

    alpha: OpenUnitInterval = 0.25
    gamma: NonNegativeFloat = 1.5
    label_smoothing: ZeroToBelowOne = 0.0
    delta: PositiveFloat = 0.1
    box_weight: NonNegativeFloat = 50.0
    match_iou: OpenUnitInterval = 0.5
    group: ClassVar[str] = "loss"


class Losses(NamedTuple):
    """Sums over the batch, not yet divided by the number of positives.

    Attributes:
        classes: focal loss over all anchors and classes.
        boxes: Huber loss over the positives' four deltas, divided by 4 and unweighted.
        positives: how many anchors were positive, float32.
    """

    classes: Tensor
    boxes: Tensor
    positives: Tensor

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


class _FocalSum(torch.autograd.Function):
    """Sum of the focal loss of logits whose target is one constant, with its gradient made in the forward pass.

    Autograd would keep five intermediate maps of B * R * K floats, gigabytes for a D4; this keeps only the gradient.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, logits: Tensor, alpha: float, gamma: float) -> Tensor:
        # For a target of 0: loss = (1 - alpha) p^gamma softplus(x), p = sigmoid(x).
        p = logits.sigmoid()
        cross_entropy = F.softplus(logits)
        # d/dx = (1 - alpha) p^gamma (gamma (1 - p) softplus(x) + p)
        scale = p.sqrt().mul_(p) if gamma == 1.5 else p.pow(gamma)
        scale.mul_(1.0 - alpha)
        # Not torch.dot, which does not sum pairwise: 0.3 % off over 4e6 equal terms on a CPU.
        total = (scale * cross_entropy).sum()
        if logits.requires_grad:
            gradient = cross_entropy.mul_(gamma).mul_(1.0 - p).add_(p).mul_(scale)
            ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * grad, None, None


def focal_terms(logits: Tensor, target: float, alpha_t: float, gamma: float, smoothing: float) -> Tensor:
    """Focal loss of each logit for one hard target, 0 or 1 (arXiv 1708.02002, equation 5), shape as given.

    Smoothing moves the target of the cross-entropy only; the focusing factor uses the hard target.
    """
    log_miss = F.logsigmoid(-logits if target else logits)  # of 1 - p_t; has a gradient where 1 - p_t is 0
    soft = target * (1.0 - smoothing) + 0.5 * smoothing
    cross_entropy = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, soft), reduction="none")
    return alpha_t * (gamma * log_miss).exp() * cross_entropy


def focal_loss(class_logits: Tensor, positive_logits: Tensor, config: DetectionLoss) -> Tensor:
    """Focal loss summed over all anchors and classes.

    Nearly all targets are 0, so the sum is taken as if all were, and corrected at the positives: no target map of
    B * R * K is ever made.

    Args:
        class_logits: (B, R, K).
        positive_logits: (P,) those of them whose target is 1.
        config: alpha, gamma, smoothing.
    """
    return _as_if_negative(class_logits.float(), config) + _corrections(positive_logits.float(), config).sum()


def _as_if_negative(logits: Tensor, config: DetectionLoss) -> Tensor:
    a, g, e = config.alpha, config.gamma, config.label_smoothing
    everywhere: Tensor = _FocalSum.apply(logits, a, g) if e == 0.0 else focal_terms(logits, 0, 1 - a, g, e).sum()
    return everywhere


def _corrections(positive: Tensor, config: DetectionLoss) -> Tensor:
    a, g, e = config.alpha, config.gamma, config.label_smoothing
    return focal_terms(positive, 1, a, g, e) - focal_terms(positive, 0, 1 - a, g, e)


def box_loss(deltas: Tensor, targets: Tensor, config: DetectionLoss) -> Tensor:
    """Huber loss of (P, 4) deltas, summed and divided by 4; delta^2 / 2 where its parts meet, as in TensorFlow."""
    return F.huber_loss(deltas.float(), targets, delta=config.delta, reduction="sum") / 4


def detection_losses(
    class_logits: Tensor,
    box_deltas: Tensor,
    anchors_xyxy: Tensor,
    boxes_xyxy: Tensor,
    class_ids: Tensor,
    config: DetectionLoss,
) -> Losses:
    """Match, then both losses of a batch.

    Args:
        class_logits: (B, R, K).
        box_deltas: (B, R, 4).
        anchors_xyxy: (R, 4) canvas pixels.
        boxes_xyxy: (B, N, 4) canvas pixels.
        class_ids: (B, N); -1 is padding.
        config: weights and thresholds.
    """
    matches = match_anchors(boxes_xyxy, class_ids, anchors_xyxy, iou_threshold=config.match_iou)
    # Filled on the device: a number that is copied there makes the step wait.
    positives = class_logits.new_full((), len(matches.anchor), dtype=torch.float32)
    # Float before the positives are picked: their two gradients nearly cancel, and would do so in half precision.
    class_logits = class_logits.float()
    found, deltas = _at(matches, class_logits, box_deltas, class_ids)
    targets = _targets(matches, boxes_xyxy, anchors_xyxy)
    return Losses(focal_loss(class_logits, found, config), box_loss(deltas, targets, config), positives)


@torch.no_grad()
def image_losses(
    class_logits: Tensor,
    box_deltas: Tensor,
    anchors_xyxy: Tensor,
    boxes_xyxy: Tensor,
    class_ids: Tensor,
    config: DetectionLoss,
) -> Tensor:
    """The sums of `Losses` for each image alone, (B, 3) float32 in the order of its fields.

    Args:
        class_logits: as for `detection_losses`, like all others.
        box_deltas: see above.
        anchors_xyxy: see above.
        boxes_xyxy: see above.
        class_ids: see above.
        config: see above.
    """
    matches = match_anchors(boxes_xyxy, class_ids, anchors_xyxy, iou_threshold=config.match_iou)
    found, deltas = _at(matches, class_logits, box_deltas, class_ids)
    targets = _targets(matches, boxes_xyxy, anchors_xyxy)
    huber = F.huber_loss(deltas.float(), targets, delta=config.delta, reduction="none").sum(1) / 4
    positives = torch.stack([_corrections(found.float(), config), huber, torch.ones_like(huber)], 1)
    sums = huber.new_zeros(len(class_logits), 3).index_add_(0, matches.image, positives)
    sums[:, 0] += torch.stack([_negatives_of(logits.float(), config) for logits in class_logits])
    return sums


def _negatives_of(logits: Tensor, config: DetectionLoss) -> Tensor:
    """`_as_if_negative` of one image; on a CPU in pieces that stay in its cache."""
    size = _PIECE if logits.device.type == "cpu" else logits.numel()
    return torch.stack([_as_if_negative(piece, config) for piece in logits.flatten().split(size)]).sum()


def _at(matches: Matches, class_logits: Tensor, box_deltas: Tensor, class_ids: Tensor) -> tuple[Tensor, Tensor]:
    """(P,) logits of the true classes and (P, 4) deltas, at the anchors of the positives."""
    found = class_logits[matches.image, matches.anchor, class_ids[matches.image, matches.box]]
    return found, box_deltas[matches.image, matches.anchor]


def _targets(matches: Matches, boxes_xyxy: Tensor, anchors_xyxy: Tensor) -> Tensor:
    return encode_boxes(boxes_xyxy[matches.image, matches.box].float(), anchors_xyxy[matches.anchor])
