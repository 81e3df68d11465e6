"""The losses of single images are those of a batch of one, and add up to those of the batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detection.network.anchors import Lattice
from detection.network.loss_settings import DetectionLoss
from detection.network.losses import detection_losses, image_losses

ANCHORS = torch.tensor([[x, y, x + 24.0, y + 24.0] for y in range(0, 64, 8) for x in range(0, 64, 8)])
LATTICE = Lattice(((8, 8),), (64, 64), 1)
CONFIGS = [
    DetectionLoss(),
    DetectionLoss(gamma=2, label_smoothing=0.1, match_iou=0.4),
    DetectionLoss(assigner="atss", classes="varifocal", boxes="giou"),
    DetectionLoss(assigner="task_aligned", classes="quality_focal", boxes="ciou"),
    DetectionLoss(assigner="dynamic_k", classes="quality_focal", boxes="diou", candidates=5),
]


@pytest.mark.by_default("config3")
@pytest.mark.parametrize("config", CONFIGS)
@given(seed=st.integers(0, 999), counts=st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_each_image_alone(config, seed, counts):
    rng = torch.Generator().manual_seed(seed)
    batch, most = len(counts), max(counts)
    low = 50 * torch.rand(batch, most, 2, generator=rng)
    boxes = torch.cat([low, low + 4 + 30 * torch.rand(batch, most, 2, generator=rng)], 2)
    ids = torch.randint(0, 3, (batch, most), generator=rng)
    ids = ids.where(torch.arange(most) < torch.tensor(counts)[:, None], torch.tensor(-1))
    logits, deltas = (torch.randn(batch, len(ANCHORS), size, generator=rng) for size in (3, 4))
    found = image_losses(logits, deltas, ANCHORS, boxes, ids, config, LATTICE)
    assert found.shape == (batch, 3)
    for row in range(batch):
        one = slice(row, row + 1)
        alone = detection_losses(logits[one], deltas[one], ANCHORS, boxes[one], ids[one], config, LATTICE)
        torch.testing.assert_close(found[row], torch.stack(alone[:3]), rtol=1e-5, atol=1e-6)
    together = torch.stack(detection_losses(logits, deltas, ANCHORS, boxes, ids, config, LATTICE)[:3])
    torch.testing.assert_close(found.sum(0), together, rtol=1e-5, atol=1e-6)
