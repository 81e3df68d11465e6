"""The losses of single images add up to those of the set."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from segmentation.network.losses import Losses, SegmentationLoss, image_losses, segmentation_losses

ADDING = [
    SegmentationLoss(),
    SegmentationLoss(cross_entropy=0, dice=1),
    SegmentationLoss(focal=2, dice=0.5, label_smoothing=0.1, class_weights=(1.0, 0.5, 3.0)),
]


def drawn(seed: int, images: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of three classes, and masks of which the first may be ignored as a whole."""
    rng = torch.Generator().manual_seed(seed)
    class_ids = torch.randint(0, 3, (images, 7, 9), generator=rng)
    ignored = torch.rand(images, 7, 9, generator=rng) < 0.3
    ignored[0] |= bool(seed % 2)
    return 3 * torch.randn(images, 3, 7, 9, generator=rng), class_ids.masked_fill(ignored, 255).to(torch.uint8)


@pytest.mark.parametrize("config", ADDING)
@given(seed=st.integers(0, 999), images=st.integers(1, 4))
def test_what_adds_up_is_the_loss_of_all_images_at_once(config, seed, images):
    logits, class_ids = drawn(seed, images)
    sums = image_losses(logits, class_ids, config)
    assert len(sums) == images
    found = Losses.of_packed(sums.sum(0)).total(config)
    together = segmentation_losses(logits, class_ids, config).total(config)
    torch.testing.assert_close(found, together, rtol=1e-5, atol=1e-6)
    if config == SegmentationLoss() and (class_ids != 255).any():
        torch.testing.assert_close(found, F.cross_entropy(logits, class_ids.long(), ignore_index=255))


@given(seed=st.integers(0, 999), images=st.integers(1, 4))
def test_what_depends_on_a_batch_is_that_of_single_images(seed, images):
    """Lovász is the mean over the images with valid pixels; hard pixels are picked in each image."""
    logits, class_ids = drawn(seed, images)
    lovasz, hard = SegmentationLoss(cross_entropy=0, lovasz=1), SegmentationLoss(hard_pixels=0.25)
    used = [row for row in range(images) if (class_ids[row] != 255).any()]

    def alone(row: int, config: SegmentationLoss) -> float:
        return float(segmentation_losses(logits[row][None], class_ids[row][None], config).total(config))

    found = float(Losses.of_packed(image_losses(logits, class_ids, lovasz).sum(0)).total(lovasz))
    assert found == pytest.approx(sum(alone(row, lovasz) for row in used) / max(1, len(used)), rel=1e-5, abs=1e-6)
    found = float(Losses.of_packed(image_losses(logits, class_ids, hard).sum(0)).total(hard))
    total, count = 0.0, 0
    for row in used:
        losses = F.cross_entropy(logits[row][None], class_ids[row][None].long(), ignore_index=255, reduction="none")
        kept = -(-int((class_ids[row] != 255).sum()) // 4)
        total += float(losses.flatten().topk(kept).values.sum())
        count += kept
    assert found == pytest.approx(total / max(1, count), rel=1e-5, abs=1e-6)
