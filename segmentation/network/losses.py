"""What segmentation minimises: cross-entropy with hard-pixel mining, focal, Dice and Lovász, without ignored pixels.

All work is done in float32 for any precision of the logits, and nothing waits for the device. smp 0.6.0's losses are
not used: its cross-entropy divides by the ignored pixels too, its Dice counts an absent class as found, its Lovász
fails in half precision and on an all-ignored batch (`tests/segmentation/network/test_smp_faults.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.checked import Checked
from engine.errors import InputError
from engine.numbers import AboveZeroToOne, NonNegativeFloat, OpenUnitInterval, ZeroToBelowOne
from segmentation.data.classes import IGNORED

TERMS = ("cross_entropy", "focal", "dice", "lovasz")


@dataclass(frozen=True)
class SegmentationLoss(Checked):
    """What the training minimises; a term of weight 0 is not computed.

    Attributes:
        cross_entropy: weight of the cross-entropy of the kept pixels.
        focal: weight of the softmax focal loss (arXiv 1708.02002 with softmax in place of the sigmoid).
        dice: weight of the Dice loss (arXiv 1606.04797), the mean over the classes present in the batch.
        lovasz: weight of the Lovász-softmax loss (arXiv 1705.08790), the mean over the classes present on a device.
        hard_pixels: share of the valid pixels of a device over which it is the mean, those with the highest
            cross-entropy; 1 takes all, 0.2 is DeepLab's.
        hard_threshold: pixels whose true class has a lower probability than this are kept as well (OHEM).
        class_weights: one weight per class for cross-entropy and focal, which become weighted means.
        label_smoothing: share of the cross-entropy's target spread evenly over the classes.
        focal_gamma: how strongly the focal loss reduces the weight of easy pixels.
        aux_weight: weight of the auxiliary head's plain cross-entropy, if there is such a head.
    """

    cross_entropy: NonNegativeFloat = 1.0
    focal: NonNegativeFloat = 0.0
    dice: NonNegativeFloat = 0.0
    lovasz: NonNegativeFloat = 0.0
    hard_pixels: AboveZeroToOne = 1.0
    hard_threshold: OpenUnitInterval | None = None
    class_weights: tuple[float, ...] | None = None
    label_smoothing: ZeroToBelowOne = 0.0
    focal_gamma: NonNegativeFloat = 2.0
    aux_weight: NonNegativeFloat = 0.4
    group: ClassVar[str] = "loss"

    def terms(self, *, aux: bool) -> tuple[str, ...]:
        """The names of the terms that are computed, in the order of `Losses.terms`.

        Args:
            aux: whether there is an auxiliary head.
        """
        return (*(name for name in TERMS if getattr(self, name)), *(("aux",) if aux else ()))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(getattr(self, field) for field in TERMS):
            msg = f"loss has no term: {', '.join(TERMS)} are all 0. Give one of them a weight above 0."
            raise InputError(msg)
        if self.hard_threshold is not None and self.hard_pixels == 1:
            msg = (
                f"loss.hard_threshold is {self.hard_threshold} while loss.hard_pixels is 1, which keeps every "
                "pixel anyway. Set loss.hard_pixels to the least share to keep, such as 0.1."
            )
            raise InputError(msg)
        weights = self.class_weights
        if weights is not None and not (all(0 <= weight < math.inf for weight in weights) and any(weights)):
            msg = f"loss.class_weights are {list(weights)}; they must be at least 0, finite and not all 0."
            raise InputError(msg)


class Losses(NamedTuple):
    """Sums over one device's pixels, unweighted by the terms' weights and not yet divided.

    Attributes:
        cross_entropy: () sum over the kept pixels.
        focal: () sum over the valid pixels.
        lovasz: () mean over the classes present on this device.
        aux: () the auxiliary head's cross-entropy, summed over the valid pixels; None without such a head.
        overlap: (K,) probability of each class summed over its own pixels; zeros without Dice.
        extent: (K,) probability of each class summed over all valid pixels, plus its own pixels' number.
        shared: (3 + 3 K,) float32 without gradient, to be summed over all devices: weight of the kept pixels, weight
            of the valid pixels, whether any is valid, then overlap, extent and number of pixels of each class.
    """

    cross_entropy: Tensor
    focal: Tensor
    lovasz: Tensor
    aux: Tensor | None
    overlap: Tensor
    extent: Tensor
    shared: Tensor

    def terms(self, config: SegmentationLoss, shared: Tensor | None = None, devices: int = 1) -> dict[str, Tensor]:
        """The weighted terms by name, without those of weight 0; their sum is what to minimise.

        The mean over the devices of the sum's gradient, which DDP takes, is the gradient over all devices' pixels
        as if they were on one, except that hard pixels are picked, and Lovász sorts, on each device separately.

        Args:
            config: as given to `segmentation_losses`.
            shared: `self.shared` summed over all devices; leave it out with one device.
            devices: number of devices.
        """
        counts = self.shared if shared is None else shared
        kept, valid, used, *_ = (devices / torch.where(counts > 0, counts, 1.0)).unbind()
        terms = {
            "cross_entropy": self.cross_entropy * kept,
            "focal": self.focal * valid,
            "dice": self._dice(counts[3:], devices),
            "lovasz": self.lovasz * used,
        }
        weighted = {name: getattr(config, name) * term for name, term in terms.items() if getattr(config, name)}
        if self.aux is not None:
            weighted["aux"] = config.aux_weight * self.aux * valid
        return weighted

    def over_devices(self, sum_up: Callable[[Tensor], Tensor]) -> Losses:
        """The sums over the batches of all devices, without gradient; the `terms` of the result are those to be logged.

        Args:
            sum_up: the element-wise sum of a tensor over the devices; called once.
        """
        return Losses.of_packed(sum_up(self.packed()), aux=self.aux is not None)

    def packed(self) -> Tensor:
        """All sums as one tensor (F,) without gradient, which may be added to others."""
        own = [self.cross_entropy, self.focal, self.lovasz, *([] if self.aux is None else [self.aux])]
        return torch.cat([torch.stack(own), self.shared]).detach()

    @classmethod
    def of_packed(cls, packed: Tensor, *, aux: bool = False) -> Losses:
        """The sums that `packed` gave.

        Args:
            packed: (F,) from one or the sum of several.
            aux: whether the auxiliary head's is among them.
        """
        count = 4 if aux else 3
        (cross_entropy, focal, lovasz), shared = packed[:3].unbind(), packed[count:]
        overlap, extent, _ = shared[3:].chunk(3)
        return cls(cross_entropy, focal, lovasz, packed[3] if aux else None, overlap, extent, shared)

    def total(self, config: SegmentationLoss, shared: Tensor | None = None, devices: int = 1) -> Tensor:
        """The number to minimise: the sum of `terms`."""
        return torch.stack(list(self.terms(config, shared, devices).values())).sum()

    def _dice(self, everywhere: Tensor, devices: int) -> Tensor:
        overlap, extent, pixels = everywhere.chunk(3)
        # The value over all devices, with the gradient of this device's part.
        overlap = overlap + devices * (self.overlap - self.overlap.detach())
        extent = extent + devices * (self.extent - self.extent.detach())
        present = pixels > 0
        loss = 1.0 - 2.0 * overlap / torch.where(present, extent, 1.0)
        return (loss * present).sum() / present.sum().clamp(min=1)


def segmentation_losses(
    logits: Tensor, class_ids: Tensor, config: SegmentationLoss, aux_logits: Tensor | None = None
) -> Losses:
    """Every term of a batch, as sums.

    Args:
        logits: (B, K, H, W) of any floating type.
        class_ids: (B, H, W) integer rows; 255 is not counted.
        config: terms and settings.
        aux_logits: (B, K, H, W) of the auxiliary head, if the network has one.

    Raises:
        InputError: there are fewer than two classes, or the number of class weights is not that of the classes.
    """
    classes = logits.shape[1]
    if classes < 2:
        msg = "the loss is a softmax over classes and needs two at least. Name the background as a class of its own."
        raise InputError(msg)
    if config.class_weights is not None and len(config.class_weights) != classes:
        msg = f"loss.class_weights has {len(config.class_weights)} weights for {classes} classes. Give one for each."
        raise InputError(msg)
    target = class_ids.long()
    valid = target != IGNORED
    log_probs = F.log_softmax(logits.float(), 1)
    weights = (
        None if config.class_weights is None else _on_device(config.class_weights, log_probs.dtype, log_probs.device)
    )
    weight = valid.float() if weights is None else torch.where(valid, weights[target.clamp(max=classes - 1)], 0.0)

    none = log_probs.new_zeros(())
    cross_entropy = focal = lovasz = none
    aux = None
    overlap = extent = log_probs.new_zeros(classes)
    kept, pixels = weight, overlap
    if config.cross_entropy:
        losses = cross_entropy_terms(log_probs, target, weights, config.label_smoothing)
        if config.hard_pixels < 1:
            share = _hard_pixels(losses.detach(), log_probs.detach(), target, valid, config)
            losses, kept = losses * share, weight * share
        cross_entropy = losses.sum()
    if config.focal:
        focal = focal_terms(log_probs, target, weights, config.focal_gamma).sum()
    if config.dice or config.lovasz:
        probs = log_probs.exp()
        own = target.unsqueeze(1) == torch.arange(classes, device=target.device).view(-1, 1, 1)
        if config.dice:
            overlap, extent, pixels = _dice_sums(probs, own, valid)
        if config.lovasz:
            lovasz = lovasz_softmax(probs, own, valid)
    if aux_logits is not None:
        # Also with weight 0: DDP waits for a gradient of every parameter.
        aux_log_probs = F.log_softmax(aux_logits.float(), 1)
        aux = cross_entropy_terms(aux_log_probs, target, weights, config.label_smoothing).sum()
    scalars = torch.stack([kept.sum(), weight.sum(), valid.any().float()])
    shared = torch.cat([scalars, overlap.detach(), extent.detach(), pixels])
    return Losses(cross_entropy, focal, lovasz, aux, overlap, extent, shared)


@lru_cache(maxsize=16)
def _on_device(weights: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The class weights as a tensor that stays on a device: to copy them in each step would wait for it."""
    with torch.inference_mode(False):  # what a validation makes is used in training, too
        return torch.tensor(weights, dtype=dtype, device=device)


@torch.no_grad()
def image_losses(logits: Tensor, class_ids: Tensor, config: SegmentationLoss) -> Tensor:
    """What `Losses.packed` gives for each image alone, (B, F); one image at a time, so that little memory is taken.

    Of their sum over a set, `Losses.of_packed(...).terms` gives the terms of the set. Where it matters what is in a
    batch together, hard pixels are those of each image, and Lovász is the mean over the images with valid pixels.

    Args:
        logits: (B, K, H, W) of any floating type.
        class_ids: (B, H, W) integer rows; 255 is not counted.
        config: terms and settings.

    Raises:
        InputError: as `segmentation_losses`.
    """
    pairs = zip(logits.split(1), class_ids.split(1), strict=True)
    return torch.stack([segmentation_losses(one, rows, config).packed() for one, rows in pairs])


def cross_entropy_terms(log_probs: Tensor, target: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Cross-entropy of each pixel, weighted by its class, (B, H, W); 0 where ignored. As in PyTorch, also smoothed."""
    hard = F.nll_loss(log_probs, target, weights, ignore_index=IGNORED, reduction="none")
    if not smoothing:
        return hard
    every = log_probs if weights is None else log_probs * weights.view(-1, 1, 1)
    even = -every.mean(1) * (target != IGNORED)
    return (1.0 - smoothing) * hard + smoothing * even


def focal_terms(log_probs: Tensor, target: Tensor, weights: Tensor | None, gamma: float) -> Tensor:
    """Softmax focal loss (1 - p)^gamma * -log p of each pixel's class, weighted by it, (B, H, W); 0 where ignored."""
    loss = F.nll_loss(log_probs, target, ignore_index=IGNORED, reduction="none")
    # The floor is below every 1 - p that float32 can tell from 0; a power below 1 has no gradient at 0.
    loss = (-torch.expm1(-loss)).clamp(min=1e-8).pow(gamma) * loss
    if weights is not None:
        loss = loss * weights[target.clamp(max=len(weights) - 1)]
    return loss


def lovasz_softmax(probs: Tensor, own: Tensor, valid: Tensor) -> Tensor:
    """Lovász-softmax (arXiv 1705.08790, algorithm 1) of a whole batch, the mean over the classes present; scalar.

    Each class's loss is linear in its errors once they are sorted, so the slopes are found without autograd, class
    by class, and one weighted sum of the probabilities remains. The slopes are written as quotients; the usual
    differences of neighbouring Jaccard indices are lost in float32 with a batch of millions of pixels.

    Args:
        probs: (B, K, H, W) probabilities.
        own: (B, K, H, W) whether the pixel is of the class.
        valid: (B, H, W) whether the pixel counts.
    """
    slopes = torch.zeros_like(probs, requires_grad=False)
    with torch.no_grad():
        place = torch.arange(1, valid.numel() + 1, device=probs.device)
        flat_valid = valid.flatten()
        for k in range(probs.shape[1]):
            inside = own[:, k].flatten()
            errors = (inside.float() - probs[:, k].flatten()).abs()
            # Ignored pixels come last, where they change no slope before them.
            order = errors.masked_fill(~flat_valid, -1.0).argsort(descending=True)
            hits = inside[order]
            found = hits.cumsum(0)
            size = inside.sum()
            missed, union = (size - found).float(), (size + place - found).float()
            slope = torch.where(hits, 1.0 / union, missed / (union * (union - 1.0).clamp(min=1.0)))
            unsorted = torch.empty_like(slope).index_copy_(0, order, slope)
            slopes[:, k] = (unsorted * flat_valid).view_as(valid)
        present = own.any(3).any(2).any(0)
        slopes *= (present / present.sum().clamp(min=1)).view(-1, 1, 1)
        # An error is 1 - p inside and p outside; an absent class has no slope.
        inside_slopes = slopes * own
        slopes -= 2.0 * inside_slopes
    return (probs * slopes).sum() + inside_slopes.sum()


def _dice_sums(probs: Tensor, own: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    pixels = own.sum((0, 2, 3)).float()
    overlap = (probs * own).sum((0, 2, 3))
    extent = (probs * valid.unsqueeze(1)).sum((0, 2, 3)) + pixels
    return overlap, extent, pixels


def _hard_pixels(losses: Tensor, log_probs: Tensor, target: Tensor, valid: Tensor, config: SegmentationLoss) -> Tensor:
    """Share of each pixel that is kept, (B, H, W): 1 for the hard ones, 0 for the others.

    Pixels that tie for the last places share them, so that the order of the pixels does not matter: a trained
    network has many losses of exactly 0.
    """
    ranked = losses.masked_fill(~valid, -1.0)
    most = math.ceil(config.hard_pixels * ranked.numel())
    places = torch.ceil(config.hard_pixels * valid.sum()).clamp(1, most)
    hardest = ranked.flatten().topk(most).values
    last = hardest.gather(0, (places.long() - 1).view(1))
    above, tied = valid & (ranked > last), valid & (ranked == last)
    left = (places - above.sum()) / tied.sum().clamp(min=1)
    share = above + tied * left
    if config.hard_threshold is not None:
        missed = F.nll_loss(log_probs, target, ignore_index=IGNORED, reduction="none") > -math.log(
            config.hard_threshold
        )
        share = torch.where(missed, 1.0, share)
    return share
