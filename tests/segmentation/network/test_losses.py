"""Losses against PyTorch, smp, NumPy and the gradient's definition; ignored pixels and devices do not change them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.losses import LovaszLoss
from segmentation_models_pytorch.losses._functional import softmax_focal_loss_with_logits
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from engine.errors import InputError
from segmentation.network.losses import Losses, SegmentationLoss, lovasz_softmax, segmentation_losses

K = 4
ONLY = {"cross_entropy": 0.0}
EVERY = SegmentationLoss(focal=0.7, dice=1.3, lovasz=0.9, class_weights=(1.0, 0.5, 2.0, 3.0), label_smoothing=0.1)


def batch(ignored: float = 0.3, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (2, 4, 9, 7) from certain to uncertain, and class ids, a share of them ignored; class 3 is absent."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, K, 9, 7, generator=generator, dtype=dtype)
    class_ids = torch.randint(0, 3, (2, 9, 7), generator=generator).byte()
    class_ids[torch.rand(2, 9, 7, generator=generator) < ignored] = 255
    return logits, class_ids


def total(logits: Tensor, class_ids: Tensor, config: SegmentationLoss, aux: Tensor | None = None) -> Tensor:
    return segmentation_losses(logits, class_ids, config, aux).total(config)


def with_gradient(logits: Tensor, class_ids: Tensor, config: SegmentationLoss) -> tuple[Tensor, Tensor]:
    logits = logits.detach().requires_grad_()
    loss = total(logits, class_ids, config)
    loss.backward()
    assert logits.grad is not None
    return loss.detach(), logits.grad


def by_hand(logits: Tensor, class_ids: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (P, K) and class ids (P,) of the valid pixels in float64."""
    flat = logits.double().numpy().transpose(0, 2, 3, 1).reshape(-1, logits.shape[1])
    ids = class_ids.numpy().reshape(-1)
    flat, ids = flat[ids != 255], ids[ids != 255].astype(int)
    exp = np.exp(flat - flat.max(1, keepdims=True))
    return exp / exp.sum(1, keepdims=True), ids


@pytest.mark.parametrize("weights", [None, (1.0, 0.5, 2.0, 3.0), (0.0, 1.0, 1.0, 0.0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_and_gradient_are_pytorchs(weights: tuple[float, ...] | None, smoothing: float) -> None:
    logits, class_ids = batch()
    loss, gradient = with_gradient(
        logits, class_ids, SegmentationLoss(class_weights=weights, label_smoothing=smoothing)
    )
    theirs = logits.clone().requires_grad_()
    expected = F.cross_entropy(
        theirs,
        class_ids.long(),
        None if weights is None else torch.tensor(weights),
        ignore_index=255,
        label_smoothing=smoothing,
    )
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient, theirs.grad)


class FromPython(TorchDispatchMode):
    """Counts the tensors that are made of Python's numbers; on a GPU each is a copy that is waited for."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten.lift_fresh.default
        return function(*args, **(kwargs or {}))


def test_class_weights_are_copied_to_a_device_once() -> None:
    logits, class_ids = batch()
    config = SegmentationLoss(class_weights=(0.3, 0.7, 1.1, 1.9))  # as no other test has them
    with torch.inference_mode(), FromPython() as first:
        segmentation_losses(logits, class_ids, config)
    with FromPython() as later:
        with_gradient(logits, class_ids, config)  # what was made in inference mode can be trained with
    assert (first.count, later.count) == (1, 0)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_is_smps_where_nothing_is_ignored(gamma: float) -> None:
    logits, class_ids = batch(0)
    loss, gradient = with_gradient(logits, class_ids, SegmentationLoss(**ONLY, focal=1.0, focal_gamma=gamma))
    theirs = logits.clone().requires_grad_()
    expected = softmax_focal_loss_with_logits(theirs, class_ids.long(), gamma)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient, theirs.grad, rtol=1e-4, atol=1e-6)


def test_focal_is_the_weighted_mean_of_valid_pixels() -> None:
    logits, class_ids = batch()
    weights = (1.0, 0.5, 2.0, 3.0)
    probs, ids = by_hand(logits, class_ids)
    p, w = probs[np.arange(len(ids)), ids], np.array(weights)[ids]
    expected = (w * (1 - p) ** 2 * -np.log(p)).sum() / w.sum()
    found = total(logits, class_ids, SegmentationLoss(**ONLY, focal=2.0, class_weights=weights))
    assert float(found) == pytest.approx(2 * expected, rel=1e-5)


def test_dice_is_the_mean_over_classes_present() -> None:
    logits, class_ids = batch()
    probs, ids = by_hand(logits, class_ids)
    dice = [2 * probs[ids == c, c].sum() / (probs[:, c].sum() + (ids == c).sum()) for c in range(3)]
    assert not (ids == 3).any()
    found = total(logits, class_ids, SegmentationLoss(**ONLY, dice=1.0))
    assert float(found) == pytest.approx(1 - np.mean(dice), rel=1e-5)


def lovasz_by_hand(probs: np.ndarray, ids: np.ndarray) -> float:
    """Equations 8 and 9 of arXiv 1705.08790 with the Jaccard loss of sets of wrong pixels."""

    def jaccard_loss(wrong: set[int], truth: set[int]) -> float:
        return len(wrong) / len(truth | wrong) if truth | wrong else 0.0

    losses = []
    for c in np.unique(ids):
        truth = set(np.flatnonzero(ids == c).tolist())
        errors = np.where(ids == c, 1 - probs[:, c], probs[:, c])
        loss, wrong = 0.0, set()
        for pixel in np.argsort(-errors):
            before = jaccard_loss(wrong, truth)
            wrong = wrong | {int(pixel)}
            loss += errors[pixel] * (jaccard_loss(wrong, truth) - before)
        losses.append(loss)
    return float(np.mean(losses))


def test_lovasz_is_the_definition() -> None:
    logits, class_ids = batch()
    found = total(logits, class_ids, SegmentationLoss(**ONLY, lovasz=1.0))
    assert float(found) == pytest.approx(lovasz_by_hand(*by_hand(logits, class_ids)), rel=1e-5)


def test_lovasz_and_gradient_are_smps_in_float32() -> None:
    logits, class_ids = batch()
    loss, gradient = with_gradient(logits, class_ids, SegmentationLoss(**ONLY, lovasz=1.0))
    theirs = logits.clone().requires_grad_()
    expected = LovaszLoss("multiclass", ignore_index=255)(theirs, class_ids)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient, theirs.grad, rtol=1e-4, atol=1e-6)


def test_lovasz_of_sure_predictions_is_one_minus_the_mean_iou() -> None:
    logits, class_ids = batch()
    predicted, valid = logits.argmax(1), class_ids != 255
    ious = []
    for c in range(3):
        hit, truth = (predicted == c) & valid, class_ids == c
        ious.append(int((hit & truth).sum()) / int((hit | truth).sum()))
    found = total(
        1000 * F.one_hot(predicted, K).movedim(-1, 1).float(), class_ids, SegmentationLoss(**ONLY, lovasz=1.0)
    )
    assert float(found) == pytest.approx(1 - np.mean(ious), rel=1e-5)


def test_lovasz_slopes_of_a_million_pixels_keep_their_digits() -> None:
    generator = torch.Generator().manual_seed(0)
    inside = torch.rand(1, 1, 1000, 1000, generator=generator) < 0.3
    p = torch.rand(1, 1, 1000, 1000, generator=generator)
    probs, own = torch.cat([p, 1 - p], 1).requires_grad_(), torch.cat([inside, ~inside], 1)
    lovasz_softmax(probs, own, torch.ones(1, 1000, 1000, dtype=torch.bool)).backward()
    errors, order = (inside[0, 0].double() - p[0, 0]).abs().flatten().sort(descending=True)
    hits = inside.flatten()[order].double()
    jaccard = 1 - (hits.sum() - hits.cumsum(0)) / (hits.sum() + (1 - hits).cumsum(0))
    slopes = jaccard.diff(prepend=jaccard.new_zeros(1)) * torch.where(hits > 0, -0.5, 0.5)
    assert probs.grad is not None
    distinct = torch.ones_like(hits, dtype=torch.bool)  # ties may be in any order
    distinct[1:] &= errors[1:] < errors[:-1] - 1e-6
    distinct[:-1] &= errors[1:] < errors[:-1] - 1e-6
    found = probs.grad[0, 0].flatten()[order].double()
    assert int(distinct.sum()) > 1000
    torch.testing.assert_close(found[distinct], slopes[distinct], rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "config",
    [
        SegmentationLoss(label_smoothing=0.1),
        EVERY,
        SegmentationLoss(hard_pixels=0.3),
        SegmentationLoss(**ONLY, focal=1.0, focal_gamma=0.5),
    ],
)
def test_gradient(config: SegmentationLoss, monkeypatch: pytest.MonkeyPatch) -> None:
    # The loss itself goes to float32; the check needs the digits of float64.
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self.double())
    logits, class_ids = batch(dtype=torch.float64)
    logits, class_ids = logits[:, :, :3, :4].clone().requires_grad_(), class_ids[:, :3, :4]
    assert torch.autograd.gradcheck(lambda x: total(x, class_ids, config), logits)


CONFIGS = [
    SegmentationLoss(),
    SegmentationLoss(hard_pixels=0.2),
    SegmentationLoss(hard_pixels=0.2, hard_threshold=0.6),
    SegmentationLoss(**ONLY, focal=1.0),
    SegmentationLoss(**ONLY, dice=1.0),
    SegmentationLoss(**ONLY, lovasz=1.0),
    EVERY,
]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_all_ignored_is_zero_with_zero_gradient(config: SegmentationLoss, dtype: torch.dtype) -> None:
    logits, class_ids = batch(dtype=torch.float32)
    logits = logits.to(dtype).requires_grad_()
    loss = total(logits, torch.full_like(class_ids, 255), config, 2 * logits)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert int(logits.grad.count_nonzero()) == 0


@pytest.mark.parametrize("config", CONFIGS)
def test_ignored_pixels_are_as_if_cut_off(config: SegmentationLoss) -> None:
    logits, class_ids = batch(0)
    wide = F.pad(logits, (0, 5, 0, 3), value=9.0)
    wide[:, 1, 9:] = 100.0
    loss, gradient = with_gradient(logits, class_ids, config)
    found, wide_gradient = with_gradient(wide, F.pad(class_ids, (0, 5, 0, 3), value=255), config)
    torch.testing.assert_close(found, loss)
    torch.testing.assert_close(wide_gradient[:, :, :9, :7], gradient)
    assert int(wide_gradient[:, :, 9:].count_nonzero()) == 0
    assert int(wide_gradient[:, :, :, 7:].count_nonzero()) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("config", CONFIGS)
def test_half_precision_is_computed_in_float32(config: SegmentationLoss, dtype: torch.dtype) -> None:
    logits, class_ids = batch()
    logits = logits.to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        found = total(logits, class_ids, config)
    assert float(found) == float(total(logits.float(), class_ids, config))


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("config", [{}, {"hard_pixels": 0.2}, {"dice": 1.0, "lovasz": 1.0, "label_smoothing": 0.1}])
def test_sure_logits_give_finite_loss_and_gradient(gamma: float, config: dict[str, float]) -> None:
    logits, class_ids = batch()
    loss, gradient = with_gradient(1e4 * logits, class_ids, SegmentationLoss(focal=1.0, focal_gamma=gamma, **config))
    assert math.isfinite(float(loss))
    assert bool(gradient.isfinite().all())
    assert float(loss) > 0


def test_hard_pixels_are_detectron2s_where_nothing_is_ignored() -> None:
    # detectron2 projects/DeepLab/deeplab/loss.py, DeepLabCE.
    logits, class_ids = batch(0)
    losses = F.cross_entropy(logits, class_ids.long(), ignore_index=255, reduction="none").flatten()
    expected = losses.topk(int(0.5 * losses.numel())).values.mean()
    torch.testing.assert_close(total(logits, class_ids, SegmentationLoss(hard_pixels=0.5)), expected)


def test_hard_pixels_are_a_share_of_the_valid_ones() -> None:
    logits, class_ids = batch(0.6)
    probs, ids = by_hand(logits, class_ids)
    losses = np.sort(-np.log(probs[np.arange(len(ids)), ids]))[::-1]
    expected = losses[: math.ceil(0.3 * len(ids))].mean()
    assert float(total(logits, class_ids, SegmentationLoss(hard_pixels=0.3))) == pytest.approx(expected, rel=1e-5)


def test_tied_pixels_share_the_last_places() -> None:
    logits = torch.zeros(1, 2, 1, 10)
    logits[0, 0, 0] = torch.tensor([-1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 90.0, 90.0, 90.0, 90.0])
    class_ids = torch.zeros(1, 1, 10, dtype=torch.uint8)
    hard, even = math.log(1 + math.e), math.log(2)
    # Four of ten: both hard ones and two of the four even ones.
    loss, gradient = with_gradient(logits, class_ids, SegmentationLoss(hard_pixels=0.4))
    assert float(loss) == pytest.approx((2 * hard + 2 * even) / 4, rel=1e-6)
    torch.testing.assert_close(gradient[0, 0, 0, 2:6], torch.full((4,), -0.5 * 0.5 / 4))
    # Eight of ten: pixels of loss 0 count as pixels, but only as many as were asked for.
    assert float(total(logits, class_ids, SegmentationLoss(hard_pixels=0.8))) == pytest.approx(
        (2 * hard + 4 * even) / 8
    )


def test_hard_threshold_keeps_every_pixel_below_it() -> None:
    # mmseg's OHEMPixelSampler: at least min_kept, and all whose probability is under the threshold.
    logits, class_ids = batch()
    probs, ids = by_hand(logits, class_ids)
    p = np.sort(probs[np.arange(len(ids)), ids])
    for share, threshold in ((0.1, 0.6), (0.9, 0.2)):
        kept = max(math.ceil(share * len(ids)), int((p < threshold).sum()))
        found = total(logits, class_ids, SegmentationLoss(hard_pixels=share, hard_threshold=threshold))
        assert float(found) == pytest.approx(-np.log(p[:kept]).mean(), rel=1e-5)


def parts(config: SegmentationLoss, logits: Tensor, class_ids: Tensor) -> list[Losses]:
    """Each image as if on a device of its own, with an auxiliary head."""
    return [
        segmentation_losses(logits[i : i + 1], class_ids[i : i + 1], config, logits[i : i + 1].flip(1))
        for i in range(len(logits))
    ]


@pytest.mark.parametrize(
    "config",
    [
        SegmentationLoss(),
        SegmentationLoss(focal=1.0, dice=2.0, class_weights=(1.0, 0.5, 2.0, 3.0), label_smoothing=0.1),
    ],
)
def test_mean_over_devices_is_the_loss_of_all_pixels(config: SegmentationLoss) -> None:
    logits, class_ids = batch()
    more, more_ids = batch(0.9, seed=1)
    logits = torch.cat([logits, more]).requires_grad_()
    class_ids = torch.cat([class_ids, more_ids])
    class_ids[3] = 255  # a device without a single valid pixel
    one = total(logits, class_ids, config, logits.flip(1))
    (expected,) = torch.autograd.grad(one, logits)
    devices = parts(config, logits, class_ids)
    shared = torch.stack([losses.shared for losses in devices]).sum(0)
    assert not shared.requires_grad
    mean = torch.stack([losses.total(config, shared, 4) for losses in devices]).mean()
    (gradient,) = torch.autograd.grad(mean, logits)
    torch.testing.assert_close(mean, one)
    torch.testing.assert_close(gradient, expected)


def test_lovasz_is_the_mean_of_devices_that_see_something() -> None:
    config = SegmentationLoss(**ONLY, lovasz=1.0)
    logits, class_ids = batch()
    logits, class_ids = torch.cat([logits, logits[:1]]), torch.cat([class_ids, torch.full_like(class_ids[:1], 255)])
    devices = parts(config, logits, class_ids)
    shared = torch.stack([losses.shared for losses in devices]).sum(0)
    mean = sum(float(losses.terms(config, shared, 3)["lovasz"]) for losses in devices) / 3
    alone = [float(total(logits[i : i + 1], class_ids[i : i + 1], config)) for i in range(2)]
    assert mean == pytest.approx(sum(alone) / 2, rel=1e-6)


def test_auxiliary_head_is_plain_cross_entropy() -> None:
    logits, class_ids = batch()
    config = SegmentationLoss(hard_pixels=0.2, aux_weight=0.3)
    terms = segmentation_losses(logits, class_ids, config, 2 * logits).terms(config)
    expected = 0.3 * F.cross_entropy(2 * logits, class_ids.long(), ignore_index=255)
    torch.testing.assert_close(terms["aux"], expected)
    assert set(terms) == {"cross_entropy", "aux"}
    aux = logits.detach().requires_grad_()
    total(logits, class_ids, SegmentationLoss(aux_weight=0.0), aux).backward()
    assert aux.grad is not None
    assert not aux.grad.any()
    assert set(segmentation_losses(logits, class_ids, config).terms(config)) == {"cross_entropy"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cross_entropy": -1.0}, "loss.cross_entropy is -1.0"),
        ({"dice": math.inf}, "loss.dice is inf"),
        ({"focal": math.nan}, "loss.focal is nan"),
        ({"aux_weight": -0.1}, "loss.aux_weight is -0.1"),
        ({"focal_gamma": -2.0}, "loss.focal_gamma is -2.0"),
        ({"cross_entropy": 0.0}, "no term"),
        ({"hard_pixels": 0.0}, "loss.hard_pixels is 0.0"),
        ({"hard_pixels": 1.1}, "loss.hard_pixels is 1.1"),
        ({"hard_pixels": 0.5, "hard_threshold": 1.0}, "loss.hard_threshold is 1.0"),
        ({"hard_threshold": 0.7}, "loss.hard_pixels is 1, which keeps every pixel"),
        ({"label_smoothing": 1.0}, "loss.label_smoothing is 1.0"),
        ({"class_weights": (1.0, -1.0)}, "loss.class_weights are"),
        ({"class_weights": (0.0, 0.0)}, "not all 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        SegmentationLoss(**settings)


def test_classes_that_do_not_fit_are_refused() -> None:
    logits, class_ids = batch()
    with pytest.raises(InputError, match="two at least"):
        segmentation_losses(logits[:, :1], class_ids, SegmentationLoss())
    with pytest.raises(InputError, match="3 weights for 4 classes"):
        segmentation_losses(logits, class_ids, SegmentationLoss(class_weights=(1.0, 1.0, 1.0)))
