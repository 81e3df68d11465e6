"""Losses against torchvision, NumPy and the definition of a gradient; what DDP relies on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from detection.data.batch import DetectionBatch
from detection.network.anchors import decode_boxes, encode_boxes, make_anchors
from detection.network.family import architecture
from detection.network.loss_settings import DetectionLoss
from detection.network.losses import box_loss, class_loss, detection_losses
from detection.network.matching import match_anchors
from detection.network.model import EfficientDet
from engine.errors import InputError

ANCHORS = make_anchors((128, 128), architecture("lite0"))


def focal_loss(logits: torch.Tensor, positive: torch.Tensor, config: DetectionLoss) -> torch.Tensor:
    """The class loss with targets of 1 where the mask says so."""
    return class_loss(logits, positive.nonzero(as_tuple=True), logits.new_ones(int(positive.sum())), config)


def random_logits(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B, R, K) from certain to uncertain, and a target map with a few positives."""
    generator = torch.Generator().manual_seed(0)
    logits = 6 * torch.randn(2, 50, 4, generator=generator, dtype=dtype)
    targets = (torch.rand(2, 50, 4, generator=generator) < 0.05).to(dtype)
    assert targets.sum() > 5
    return logits, targets


@pytest.mark.parametrize("gamma", [2.0, 1.5])
def test_focal_loss_and_gradient_are_torchvisions(gamma: float) -> None:
    logits, targets = random_logits()
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found = focal_loss(ours, targets > 0, DetectionLoss(gamma=gamma))
    expected = sigmoid_focal_loss(theirs, targets, alpha=0.25, gamma=gamma, reduction="sum")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    found.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)


def focal_by_hand(logits: np.ndarray, targets: np.ndarray, config: DetectionLoss) -> float:
    p = 1 / (1 + np.exp(-logits))
    soft = targets * (1 - config.label_smoothing) + 0.5 * config.label_smoothing
    cross_entropy = -soft * np.log(p) - (1 - soft) * np.log(1 - p)
    p_t = np.where(targets > 0, p, 1 - p)
    alpha_t = np.where(targets > 0, config.of_positives, 1 - config.of_positives)
    return float((alpha_t * (1 - p_t) ** config.focusing * cross_entropy).sum())


@pytest.mark.parametrize(
    "config",
    [
        DetectionLoss(),
        DetectionLoss(label_smoothing=0.1),
        DetectionLoss(alpha=0.4, gamma=0.5),
        DetectionLoss(gamma=0.0),
    ],
)
def test_focal_loss_is_the_formula(config: DetectionLoss) -> None:
    logits, targets = random_logits(torch.float64)
    expected = focal_by_hand(logits.numpy(), targets.numpy(), config)
    assert float(focal_loss(logits, targets > 0, config)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 1.5, 2.0])
def test_gradient_of_the_sum_over_negatives(gamma: float, monkeypatch: pytest.MonkeyPatch) -> None:
    # The loss itself goes to float32; the check needs the digits of float64.
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)
    logits, targets = random_logits(torch.float64)
    logits = logits[:, :10].clone().requires_grad_()
    none = torch.zeros_like(targets[:, :10], dtype=torch.bool)
    config = DetectionLoss(gamma=gamma)
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, none, config), logits)
    positive = targets[:, :10] > 0
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, positive, config), logits)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.5])
def test_sure_logits_give_finite_loss_and_gradient(gamma: float) -> None:
    logits = torch.tensor([[[-200.0, -90.0, 0.0, 40.0, 90.0, 200.0]]], requires_grad=True)
    positive = torch.tensor([[[False, True, False, False, True, True]]])
    loss = focal_loss(logits, positive, DetectionLoss(gamma=gamma))
    loss.backward()
    assert bool(loss.isfinite())
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
    # A confident and right positive has no gradient left; that of a confident and wrong one is its whole weight.
    assert abs(float(logits.grad[0, 0, 5])) < 1e-6
    assert float(logits.grad[0, 0, 1]) == pytest.approx(-0.25, rel=1e-5)


def test_sum_over_a_large_map_keeps_its_digits() -> None:
    # An untrained network: millions of equal terms, the worst for a sum that is not pairwise.
    one, count = torch.tensor([[[-4.6]]]), 4_000_000
    exact = count * float(sigmoid_focal_loss(one.double(), 0 * one.double(), gamma=1.5, alpha=0.25))
    many = one.expand(1, count, 1).contiguous()
    found = focal_loss(many, torch.zeros_like(many, dtype=torch.bool), DetectionLoss())
    assert float(found) == pytest.approx(exact, rel=2e-6)


def test_huber_loss_by_hand() -> None:
    generator = np.random.default_rng(1)
    deltas = generator.normal(0, 0.2, (40, 4)).astype(np.float32)
    targets = generator.normal(0, 0.2, (40, 4)).astype(np.float32)
    error = np.abs(deltas.astype(np.float64) - targets)
    for joint in (0.1, 1.0):
        expected = np.where(error <= joint, error**2 / 2, joint * error - joint**2 / 2).sum() / 4
        found = box_loss(torch.tensor(deltas), torch.tensor(targets), DetectionLoss(delta=joint)).sum()
        assert float(found) == pytest.approx(expected, rel=1e-5)


def random_boxes(batch: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    low = 90 * torch.rand(batch, count, 2, generator=generator)
    size = 8 + 40 * torch.rand(batch, count, 2, generator=generator)
    return torch.cat([low, low + size], -1), torch.randint(-1, 3, (batch, count), generator=generator)


def test_batch_is_the_losses_of_a_dense_target_map() -> None:
    boxes, class_ids = random_boxes(3, 5)
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(3, len(ANCHORS), 3, generator=generator)
    deltas = torch.randn(3, len(ANCHORS), 4, generator=generator)
    found = detection_losses(logits, deltas, ANCHORS, boxes, class_ids, DetectionLoss())

    targets, box_sum, positives = torch.zeros_like(logits), 0.0, 0
    for image, anchor, box in zip(*match_anchors(boxes, class_ids, ANCHORS), strict=True):
        targets[image, anchor, class_ids[image, box]] = 1
        wanted = encode_boxes(boxes[image, box], ANCHORS[anchor])
        box_sum += float(F.huber_loss(deltas[image, anchor], wanted, delta=0.1, reduction="sum")) / 4
        positives += 1
    expected = sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=1.5, reduction="sum")
    torch.testing.assert_close(found.classes, expected, rtol=1e-5, atol=0)
    assert float(found.boxes) == pytest.approx(box_sum, rel=1e-5)
    assert float(found.positives) == positives > 10
    total = found.total(found.positives + 1, 50.0)
    assert float(total) == pytest.approx((float(expected) + 50 * box_sum) / (positives + 1), rel=1e-5)


@pytest.mark.parametrize("padded", [0, 3])
def test_batch_without_boxes_trains_the_negatives(padded: int) -> None:
    logits = torch.zeros(2, len(ANCHORS), 3, requires_grad=True)
    deltas = torch.zeros(2, len(ANCHORS), 4, requires_grad=True)
    class_ids = torch.full((2, padded), -1)
    found = detection_losses(logits, deltas, ANCHORS, torch.zeros(2, padded, 4), class_ids, DetectionLoss())
    assert float(found.positives) == 0
    assert float(found.boxes.detach()) == 0
    found.total(found.positives + 1, 50.0).backward()
    assert logits.grad is not None
    assert float(logits.grad.min()) > 0
    # DDP waits for a gradient of every parameter, so the box head needs one of zeros.
    assert deltas.grad is not None
    assert not deltas.grad.any()


def test_half_precision_predictions_lose_nothing_but_their_own_digits() -> None:
    boxes, class_ids = random_boxes(2, 5)
    generator = torch.Generator().manual_seed(5)
    logits = (3 * torch.randn(2, len(ANCHORS), 3, generator=generator)).bfloat16()
    deltas = torch.randn(2, len(ANCHORS), 4, generator=generator).bfloat16()
    half, full = logits.clone().requires_grad_(), logits.float().requires_grad_()
    short = detection_losses(half, deltas, ANCHORS, boxes, class_ids, DetectionLoss())
    long = detection_losses(full, deltas.float(), ANCHORS, boxes, class_ids, DetectionLoss())
    assert float(short.classes.detach()) == float(long.classes.detach())
    assert float(short.boxes) == float(long.boxes)
    short.classes.backward()
    long.classes.backward()
    assert half.grad is not None
    assert full.grad is not None
    assert torch.equal(half.grad, full.grad.bfloat16())


def dense_quality_loss(logits: torch.Tensor, quality: torch.Tensor, config: DetectionLoss) -> torch.Tensor:
    """Equation 5 of arXiv 2006.04388 and equation 2 of arXiv 2008.13367, for every logit of a map of targets."""
    p = logits.sigmoid()
    cross_entropy = -quality * p.log() - (1 - quality) * (1 - p).log()
    if config.classes == "quality_focal":
        return ((quality - p).abs() ** config.focusing * cross_entropy).sum()
    weight = torch.where(quality > 0, quality, (1 - config.of_positives) * p**config.focusing)
    return (weight * cross_entropy).sum()


@pytest.mark.parametrize("kind", ["quality_focal", "varifocal"])
@pytest.mark.parametrize("gamma", [None, 1.5])
def test_quality_losses_are_their_formulas(kind: str, gamma: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)
    logits, targets = random_logits(torch.float64)
    quality = targets * torch.rand(targets.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    config = DetectionLoss(classes=kind, gamma=gamma)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found = class_loss(ours, (targets > 0).nonzero(as_tuple=True), quality[targets > 0], config)
    expected = dense_quality_loss(theirs, quality, config)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    found.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-9)


def test_quality_focal_with_hard_targets_is_focal_without_alpha() -> None:
    logits, targets = random_logits()
    found = focal_loss(logits, targets > 0, DetectionLoss(classes="quality_focal"))
    torch.testing.assert_close(found, sigmoid_focal_loss(logits, targets, alpha=-1, gamma=2, reduction="sum"))


def overlap_by_hand(kind: str, box: np.ndarray, truth: np.ndarray) -> float:
    """GIoU (arXiv 1902.09630), DIoU and CIoU (arXiv 1911.08287) of two boxes."""
    low, high = np.maximum(box[:2], truth[:2]), np.minimum(box[2:], truth[2:])
    overlap = np.clip(high - low, 0, None).prod()
    size, true_size = box[2:] - box[:2], truth[2:] - truth[:2]
    union = size.prod() + true_size.prod() - overlap
    hull = np.maximum(box[2:], truth[2:]) - np.minimum(box[:2], truth[:2])
    iou = overlap / union
    if kind == "giou":
        return iou - (hull.prod() - union) / hull.prod()
    distance = ((box[:2] + box[2:] - truth[:2] - truth[2:]) ** 2).sum() / 4 / (hull**2).sum()
    if kind == "diou":
        return iou - distance
    v = 4 / np.pi**2 * (np.arctan(true_size[0] / true_size[1]) - np.arctan(size[0] / size[1])) ** 2
    return iou - distance - v * v / (1 - iou + v)


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
def test_losses_of_boxes_are_their_formulas(kind: str) -> None:
    boxes, class_ids = random_boxes(3, 5)
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(3, len(ANCHORS), 3, generator=generator)
    deltas = 0.3 * torch.randn(3, len(ANCHORS), 4, generator=generator)
    found = detection_losses(logits, deltas, ANCHORS, boxes, class_ids, DetectionLoss(boxes=kind))
    expected, positives = 0.0, 0
    for image, anchor, box in zip(*match_anchors(boxes, class_ids, ANCHORS), strict=True):
        decoded = decode_boxes(deltas[image, anchor].double(), ANCHORS[anchor].double()).numpy()
        expected += 1 - overlap_by_hand(kind, decoded, boxes[image, box].double().numpy())
        positives += 1
    assert positives > 10
    assert float(found.boxes) == pytest.approx(expected, rel=1e-4)
    assert float(found.positives) == positives


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
def test_boxes_that_run_away_have_a_finite_loss(kind: str) -> None:
    boxes, class_ids = random_boxes(2, 5)
    deltas = torch.full((2, len(ANCHORS), 4), 200.0, requires_grad=True)
    logits = torch.zeros(2, len(ANCHORS), 3)
    found = detection_losses(logits, deltas, ANCHORS, boxes, class_ids, DetectionLoss(boxes=kind))
    found.boxes.backward()
    assert bool(found.boxes.isfinite())
    assert bool(deltas.grad.isfinite().all())


KINDS = [
    DetectionLoss(),
    DetectionLoss(assigner="atss", classes="varifocal", boxes="giou"),
    DetectionLoss(assigner="task_aligned", classes="quality_focal", boxes="ciou"),
    DetectionLoss(assigner="dynamic_k", classes="quality_focal", boxes="diou"),
]


def tiny_batch(count: int) -> tuple[EfficientDet, DetectionBatch]:
    torch.manual_seed(0)
    model = EfficientDet("lite0", 3, image_size=128, fpn_channels=16, fpn_cells=1, head_repeats=1).eval()
    boxes, class_ids = random_boxes(count, 5)
    images = torch.randint(0, 256, (count, 3, 128, 128), dtype=torch.uint8)
    sizes = torch.full((count, 2), 128)
    return model, DetectionBatch(images, boxes, class_ids, torch.arange(count), torch.ones(count), sizes)


@pytest.mark.slow
@pytest.mark.parametrize("config", KINDS)
def test_two_half_batches_with_a_joint_normaliser_are_the_full_batch(config: DetectionLoss) -> None:
    """What makes DDP exact: sums over devices, one number of positives (batch norm in eval mode)."""
    model, batch = tiny_batch(4)
    model = model.double()

    def gradients(parts: list[DetectionBatch]) -> tuple[float, dict[str, torch.Tensor]]:
        model.zero_grad()
        losses = [model.losses(part, config) for part in parts]
        normaliser = torch.stack([one.positives for one in losses]).sum() + 1
        total = torch.stack([one.total(normaliser, config.of_boxes) for one in losses]).sum()
        total.backward()
        return float(total.detach()), {
            name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
        }

    def rows(first: int, last: int) -> DetectionBatch:
        return DetectionBatch(*(None if part is None else part[first:last] for part in batch))

    whole, expected = gradients([batch])
    # The halves differ in their positives, so that a mean of means would be noticed.
    halves, found = gradients([rows(0, 1), rows(1, 4)])
    assert halves == pytest.approx(whole, rel=1e-6)
    assert len(found) == len(list(model.parameters()))
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-6 * float(gradient.abs().max()))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("alpha", 0.0),
        ("alpha", 1.0),
        ("match_iou", 1.5),
        ("label_smoothing", 1.0),
        ("gamma", -1.0),
        ("gamma", float("nan")),
        ("delta", 0.0),
        ("box_weight", -1.0),
    ],
)
def test_setting_out_of_range_names_itself(field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"^loss.{field} is {value}; allowed: a number") as caught:
        dataclasses.replace(DetectionLoss(), **{field: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"candidates": 5}, "loss.candidates is for another assigner than max_iou"),
        ({"assigner": "atss", "match_iou": 0.4}, "loss.match_iou is for assigner max_iou"),
        ({"classes": "quality_focal", "alpha": 0.3}, "loss.alpha is for classes focal or varifocal"),
        ({"classes": "varifocal", "label_smoothing": 0.1}, "loss.label_smoothing is for classes focal"),
        ({"boxes": "giou", "delta": 0.1}, "loss.delta is for boxes huber"),
        ({"assigner": "task_aligned"}, "Take classes quality_focal or varifocal"),
    ],
)
def test_what_does_not_apply_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        DetectionLoss(**given)
