"""Why smp 0.6.0's losses and scores are not used: each fault beside what ours gives.

A test that fails here after an update of smp means that one reason no longer holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.losses import DiceLoss, FocalLoss, LovaszLoss, SoftCrossEntropyLoss
from segmentation_models_pytorch.metrics import get_stats, iou_score
from torch import Tensor

from segmentation.network.losses import SegmentationLoss, segmentation_losses

FOCAL = SegmentationLoss(cross_entropy=0.0, focal=1.0)
DICE = SegmentationLoss(cross_entropy=0.0, dice=1.0)
LOVASZ = SegmentationLoss(cross_entropy=0.0, lovasz=1.0)


def batch(classes: int = 3) -> tuple[Tensor, Tensor]:
    """Logits (2, classes, 8, 8) and class ids 0 to 2."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, 8, 8, generator=generator)
    return logits, torch.randint(0, 3, (2, 8, 8), generator=generator)


def ours(logits: Tensor, class_ids: Tensor, config: SegmentationLoss) -> Tensor:
    return segmentation_losses(logits, class_ids, config).total(config)


def test_cross_entropy_fails_with_its_own_defaults() -> None:
    logits, class_ids = batch()
    with pytest.raises(TypeError):
        SoftCrossEntropyLoss()(logits, class_ids)


def test_cross_entropy_counts_ignored_pixels() -> None:
    logits, class_ids = batch()
    class_ids[:, 4:] = 255
    expected = F.cross_entropy(logits[:, :, :4], class_ids[:, :4])
    theirs = SoftCrossEntropyLoss(smooth_factor=0.0, ignore_index=255)(logits, class_ids)
    torch.testing.assert_close(theirs, expected / 2)
    torch.testing.assert_close(ours(logits, class_ids, SegmentationLoss()), expected)


def test_an_all_ignored_batch_gives_nan_or_no_number() -> None:
    logits, class_ids = batch()
    nothing = torch.full_like(class_ids, 255)
    assert math.isnan(FocalLoss("multiclass", ignore_index=255)(logits, nothing))
    assert math.isnan(F.cross_entropy(logits, nothing, ignore_index=255))
    assert LovaszLoss("multiclass", ignore_index=255)(logits, nothing).shape == (0, 3)
    for config in (SegmentationLoss(), FOCAL, DICE, LOVASZ):
        assert ours(logits, nothing, config).item() == 0.0


def test_lovasz_fails_in_half_precision() -> None:
    logits, class_ids = batch()
    logits = logits.bfloat16()
    with pytest.raises(RuntimeError, match="same dtype"):
        LovaszLoss("multiclass")(logits, class_ids)
    expected = LovaszLoss("multiclass")(logits.float(), class_ids)
    torch.testing.assert_close(ours(logits, class_ids, LOVASZ), expected)


def test_dice_counts_an_absent_class_as_found() -> None:
    logits, class_ids = batch(classes=12)  # nine of them absent
    theirs = DiceLoss("multiclass")(logits, class_ids)
    torch.testing.assert_close(theirs, ours(logits, class_ids, DICE) * 3 / 12)


@pytest.mark.slow
def test_lovasz_slopes_lose_their_digits_in_large_batches() -> None:
    count = 2_000_000
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(1, 2, 1, count, generator=generator)
    class_ids = (torch.rand(1, 1, count, generator=generator) < 0.3).long()

    def slopes(loss_of: Callable[[Tensor], Tensor], given: Tensor) -> Tensor:
        given = given.clone().requires_grad_()
        loss_of(given).backward()
        assert given.grad is not None
        return given.grad.double()

    def exact(given: Tensor) -> Tensor:
        p = given.softmax(1)[0, :, 0]
        loss = p.new_zeros(())
        for k in range(2):
            hits = (class_ids[0, 0] == k).double()
            errors, order = (hits - p[k]).abs().sort(descending=True, stable=True)
            ranked = hits[order]
            jaccard = 1 - (ranked.sum() - ranked.cumsum(0)) / (ranked.sum() + (1 - ranked).cumsum(0))
            loss = loss + errors @ jaccard.diff(prepend=jaccard.new_zeros(1)) / 2
        return loss

    expected = slopes(exact, logits.double())
    wrong = (slopes(lambda x: LovaszLoss("multiclass")(x, class_ids), logits) - expected).abs() / expected.abs().mean()
    right = (slopes(lambda x: ours(x, class_ids, LOVASZ), logits) - expected).abs() / expected.abs().mean()
    assert float(wrong.median()) > 0.01
    assert float(right.median()) < 1e-5


def test_macro_iou_counts_an_absent_class_as_found() -> None:
    class_ids = torch.zeros(1, 8, 8, dtype=torch.long)
    predicted = class_ids.clone()
    predicted[:, 4:] = 1
    stats = get_stats(predicted, class_ids, "multiclass", num_classes=19)
    # Half of class 0 was found, class 1 was nowhere, seventeen are in neither.
    assert float(iou_score(*stats, reduction="macro")) == pytest.approx((0.5 + 0 + 17) / 19)
