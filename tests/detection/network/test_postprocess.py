"""Suppression against loops in NumPy and single calls of torchvision; the treatment of odd boxes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import nms

from detection.data.batch import Detections
from detection.network.anchors import encode_boxes, make_anchors
from detection.network.family import architecture
from detection.network.postprocess import (
    Postprocess,
    clip_boxes,
    hard_nms,
    postprocess,
    soft_nms,
    to_original_pixels,
    top_candidates,
)
from engine.errors import InputError

ANCHORS = make_anchors((128, 128), architecture("lite0", max_level=5))


def iou_by_hand(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    overlap = width * height
    return overlap / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap)


def soft_nms_by_hand(
    boxes: np.ndarray, scores: np.ndarray, class_ids: np.ndarray, config: Postprocess
) -> list[tuple[int, float]]:
    """Bodla et al., figure 2, Gaussian: (index, final score) in the order in which the boxes are taken."""
    remaining = {i: float(score) for i, score in enumerate(scores) if score > config.score_threshold}
    taken: list[tuple[int, float]] = []
    while remaining and len(taken) < config.max_detections:
        best = max(remaining, key=lambda i: remaining[i])
        taken.append((best, remaining.pop(best)))
        for i in list(remaining):
            if config.class_agnostic or class_ids[i] == class_ids[best]:
                remaining[i] *= np.exp(-(iou_by_hand(boxes[best], boxes[i]) ** 2) / config.soft_sigma)
                if remaining[i] <= config.score_threshold:
                    del remaining[i]
    return taken


def clustered(seed: int, batch: int = 1, count: int = 30) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes around few places, so that many overlap; scores and three classes."""
    generator = torch.Generator().manual_seed(seed)
    centres = 100 * torch.rand(batch, 4, 2, generator=generator)
    which = torch.randint(0, 4, (batch, count, 1), generator=generator).expand(-1, -1, 2)
    low = centres.gather(1, which) + 6 * torch.randn(batch, count, 2, generator=generator)
    size = 15 + 15 * torch.rand(batch, count, 2, generator=generator)
    scores = torch.rand(batch, count, generator=generator)
    return torch.cat([low, low + size], -1), scores, torch.randint(0, 3, (batch, count), generator=generator)


def rows(found: Detections, image: int = 0) -> list[tuple[float, ...]]:
    """Box, score, class of an image's detections; checks that empty slots come last and are empty."""
    real = found.class_ids[image] >= 0
    count = int(real.sum())
    assert bool(real[:count].all())
    assert not found.boxes_xyxy[image, count:].any()
    assert not found.scores[image, count:].any()
    assert bool((found.scores[image, :count].diff() <= 0).all())
    assert found.masks is None
    boxes, scores, ids = (part[image, :count].tolist() for part in found[:3])
    return [(*box, score, class_id) for box, score, class_id in zip(boxes, scores, ids, strict=True)]


@pytest.mark.by_default("True")
@pytest.mark.parametrize("class_agnostic", [False, True])
def test_soft_nms_is_bodlas(class_agnostic: bool) -> None:
    suppressed = 0
    for seed in range(150):
        boxes, scores, class_ids = clustered(seed, batch=2, count=5 + seed % 26)
        config = Postprocess(
            nms="soft",
            soft_sigma=(0.3, 0.5, 0.9)[seed % 3],
            score_threshold=(0.001, 0.1)[seed % 2],
            max_detections=(100, 7)[seed // 2 % 2],
            class_agnostic=class_agnostic,
        )
        found = soft_nms(boxes, scores, class_ids, config)
        for image in range(2):
            double = boxes[image].double().numpy()
            taken = soft_nms_by_hand(double, scores[image].numpy(), class_ids[image].numpy(), config)
            expected = [(*boxes[image, i].tolist(), score, int(class_ids[image, i])) for i, score in taken]
            np.testing.assert_allclose(rows(found, image), expected, rtol=1e-5, atol=1e-6)
            suppressed += sum(score < float(scores[image, i]) - 1e-3 for i, score in taken)
    assert suppressed > 500


def hard_nms_by_torchvision(
    boxes: torch.Tensor, scores: torch.Tensor, class_ids: torch.Tensor, config: Postprocess
) -> list[tuple[float, ...]]:
    """The result for one image: each class separately, then the best of all."""
    alive = (scores > config.score_threshold).nonzero()[:, 0]
    kept: list[int] = []
    groups = [alive] if config.class_agnostic else [alive[class_ids[alive] == k] for k in class_ids.unique()]
    for group in groups:
        kept += group[nms(boxes[group], scores[group], config.iou_threshold)].tolist()
    kept.sort(key=lambda i: -float(scores[i]))
    return [(*boxes[i].tolist(), float(scores[i]), int(class_ids[i])) for i in kept[: config.max_detections]]


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_hard_nms_is_torchvisions_per_image_and_class(class_agnostic: bool) -> None:
    for seed in range(60):
        boxes, scores, class_ids = clustered(seed, batch=3, count=40)
        config = Postprocess(
            iou_threshold=(0.3, 0.5, 0.7)[seed % 3],
            score_threshold=(0.0, 0.2)[seed % 2],
            max_detections=(100, 6)[seed // 2 % 2],
            class_agnostic=class_agnostic,
        )
        found = hard_nms(boxes, scores, class_ids, config)
        for image in range(3):
            assert rows(found, image) == hard_nms_by_torchvision(boxes[image], scores[image], class_ids[image], config)


def test_hard_nms_by_hand_at_the_threshold() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 16.0], [4.0, 0.0, 12.0, 8.0]]])  # IoU 0.5, 1/3
    scores, class_ids = torch.tensor([[0.9, 0.8, 0.7]]), torch.zeros(1, 3, dtype=torch.int64)
    kept = [len(rows(hard_nms(boxes, scores, class_ids, Postprocess(iou_threshold=t)))) for t in (0.3, 0.45, 0.5, 1.0)]
    assert kept == [1, 2, 3, 3]  # dropped only above the threshold


def test_far_groups_keep_their_fractions_of_a_pixel() -> None:
    """Pairs of boxes just above and below the threshold, in the last image of a batch and the last of many classes."""
    low = torch.tensor([1200.0, 900.0])
    first = torch.cat([low, low + 30])
    # Shifted by d, two boxes of side 30 overlap by (30 - d) / (30 + d): exactly half at d = 10.
    pairs = [torch.stack([first, first + torch.tensor([d, 0.0, d, 0.0])]) for d in (9.99, 10.01)]
    image = torch.cat(pairs)[None]
    class_ids = torch.tensor([[88, 88, 89, 89]])
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6]])
    alone = hard_nms(image, scores, class_ids, Postprocess())
    assert [row[4] for row in rows(alone)] == pytest.approx([0.9, 0.7, 0.6])
    batch = hard_nms(image.repeat(64, 1, 1), scores.repeat(64, 1), class_ids.repeat(64, 1), Postprocess())
    for i in range(64):
        assert rows(batch, i) == rows(alone)


def test_boxes_beyond_the_origin_stay_in_their_group() -> None:
    # Shifted by the largest coordinate and one, as torchvision does, the second would lie on the first.
    boxes = torch.tensor([[[90.0, 80.0, 100.0, 90.0], [-11.0, -21.0, -1.0, -11.0]]])
    found = hard_nms(boxes, torch.tensor([[0.9, 0.8]]), torch.tensor([[0, 1]]), Postprocess())
    assert len(rows(found)) == 2


def predictions(seed: int, batch: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, len(ANCHORS), classes, generator=generator) * 2 - 3
    return logits, torch.randn(batch, len(ANCHORS), 4, generator=generator) * 0.3


@pytest.mark.parametrize("nms_kind", ["hard", "soft"])
@pytest.mark.parametrize("class_agnostic", [False, True])
def test_batch_is_one_by_one(nms_kind: Any, class_agnostic: bool) -> None:
    logits, deltas = predictions(1, batch=5, classes=3)
    limits = torch.tensor([[128, 128], [100, 60], [37, 128], [128.0, 90.0], [64, 64]])
    config = Postprocess(nms=nms_kind, class_agnostic=class_agnostic, max_candidates=300)
    together = postprocess(logits, deltas, ANCHORS, config, limits)
    for i in range(5):
        alone = postprocess(logits[i : i + 1], deltas[i : i + 1], ANCHORS, config, limits[i : i + 1])
        assert len(rows(alone)) > 20
        assert rows(together, i) == rows(alone)


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("count", [1, 17, 500, 10**6])
def test_top_candidates_are_one_plain_selection(classes: int, count: int) -> None:
    logits, _ = predictions(2, batch=2, classes=classes)
    values, anchors, class_ids = top_candidates(logits, count)
    expected = logits.reshape(2, -1).topk(min(count, len(ANCHORS) * classes))
    assert torch.equal(values, expected.values)
    assert torch.equal(anchors, expected.indices // classes)
    assert torch.equal(class_ids, expected.indices % classes)


def plant(boxes: torch.Tensor, scores: torch.Tensor, class_ids: torch.Tensor, classes: int) -> tuple[torch.Tensor, ...]:
    """Predictions of one image whose first anchors decode to the given boxes."""
    logits = torch.full((1, len(ANCHORS), classes), -30.0)
    logits[0, torch.arange(len(boxes)), class_ids] = scores.logit()
    deltas = torch.zeros(1, len(ANCHORS), 4)
    deltas[0, : len(boxes)] = encode_boxes(boxes, ANCHORS[: len(boxes)])
    return logits, deltas


@pytest.mark.parametrize("nms_kind", ["hard", "soft"])
def test_boxes_are_clipped_before_they_suppress_and_dropped_outside(nms_kind: Any) -> None:
    boxes = torch.tensor(
        [
            [-20.0, 10.0, 30.0, 40.0],
            [70.0, 50.0, 150.0, 90.0],
            [101.0, 5.0, 120.0, 20.0],  # right of the image
            [5.0, -30.0, 20.0, -2.0],  # above it
        ]
    )
    logits, deltas = plant(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([0, 1, 2, 0]), classes=3)
    config = Postprocess(nms=nms_kind, score_threshold=0.05)
    found = rows(postprocess(logits, deltas, ANCHORS, config, torch.tensor([[80, 100]])))
    np.testing.assert_allclose(found, [(0, 10, 30, 40, 0.9, 0), (70, 50, 100, 80, 0.8, 1)], atol=1e-4)
    # Two boxes that differ only outside the image are one.
    twins = torch.tensor([[60.0, 10.0, 100.0, 40.0], [60.0, 10.0, 400.0, 40.0]])
    logits, deltas = plant(twins, torch.tensor([0.9, 0.8]), torch.tensor([0, 0]), classes=3)
    unclipped = rows(postprocess(logits, deltas, ANCHORS, config))
    clipped = rows(postprocess(logits, deltas, ANCHORS, config, torch.tensor([[80, 100]])))
    assert len(unclipped) == 2
    assert unclipped[1][4] == pytest.approx(0.8, abs=0.03)
    if nms_kind == "hard":
        assert len(clipped) == 1
    else:
        assert clipped[1][4] == pytest.approx(0.8 * np.exp(-1 / 0.5), rel=1e-4)


@pytest.mark.parametrize("nms_kind", ["hard", "soft"])
@pytest.mark.parametrize("limits", [None, torch.tensor([[100.0, 100.0]])])
def test_what_a_diverged_network_gives_is_dropped(nms_kind: Any, limits: torch.Tensor | None) -> None:
    good = torch.tensor([[10.0, 10.0, 50.0, 50.0], [12.0, 12.0, 52.0, 52.0], [70.0, 70.0, 90.0, 90.0]])
    logits, deltas = plant(good, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 0]), classes=2)
    config = Postprocess(nms=nms_kind, score_threshold=0.05)
    expected = rows(postprocess(logits, deltas, ANCHORS, config, limits))
    assert len(expected) == 3
    nan, inf = float("nan"), float("inf")
    odd = torch.tensor([[nan, 0, 0, 0], [0, 0, nan, nan], [inf, 0, 0, 0], [0, 0, -200, -200], [inf, inf, inf, inf]])
    deltas[0, 5:10] = odd
    logits[0, 5:10] = torch.tensor([5.0, 4.0])
    logits[0, 20] = nan
    assert rows(postprocess(logits, deltas, ANCHORS, config, limits)) == expected


@pytest.mark.parametrize("nms_kind", ["hard", "soft"])
def test_endless_boxes_are_the_whole_image(nms_kind: Any) -> None:
    logits, deltas = plant(torch.tensor([[0.0, 0.0, 9.0, 9.0]]), torch.tensor([0.9]), torch.tensor([0]), classes=1)
    deltas[0, 0, 2:] = 1000.0
    found = rows(postprocess(logits, deltas, ANCHORS, Postprocess(nms=nms_kind), torch.tensor([[80, 100]])))
    np.testing.assert_allclose(found[0], (0, 0, 100, 80, 0.9, 0), rtol=1e-6)
    unclipped = rows(postprocess(logits, deltas, ANCHORS, Postprocess(nms=nms_kind, score_threshold=0.1)))
    assert unclipped == []


@pytest.mark.parametrize("nms_kind", ["hard", "soft"])
def test_score_at_the_threshold_is_not_returned(nms_kind: Any) -> None:
    boxes = torch.tensor([[[0.0, 0.0, 9.0, 9.0], [20.0, 0.0, 29.0, 9.0], [40.0, 0.0, 49.0, 9.0]]])
    scores, class_ids = torch.tensor([[0.5, 0.25, 0.26]]), torch.zeros(1, 3, dtype=torch.int64)
    suppress = hard_nms if nms_kind == "hard" else soft_nms
    found = suppress(boxes, scores, class_ids, Postprocess(nms=nms_kind, score_threshold=0.25))
    assert [row[4] for row in rows(found)] == pytest.approx([0.5, 0.26])


@pytest.mark.parametrize("nms_kind", ["hard", "soft"])
def test_equal_scores(nms_kind: Any) -> None:
    # Four separate boxes, each given twice, all with one score: each is returned once with its full score.
    corner = torch.tensor([[0.0, 0.0], [30.0, 0.0], [60.0, 0.0], [90.0, 0.0]]).repeat(2, 1)
    boxes = torch.cat([corner, corner + 20], -1)[None]
    scores, class_ids = torch.full((1, 8), 0.6), torch.zeros(1, 8, dtype=torch.int64)
    suppress = hard_nms if nms_kind == "hard" else soft_nms
    found = rows(suppress(boxes, scores, class_ids, Postprocess(nms=nms_kind, max_detections=4)))
    assert sorted(row[0] for row in found) == [0.0, 30.0, 60.0, 90.0]
    assert [row[4] for row in found] == pytest.approx([0.6] * 4)


@pytest.mark.parametrize("nms_kind", ["hard", "soft"])
def test_single_class_single_anchor_and_more_candidates_than_there_are(nms_kind: Any) -> None:
    logits, deltas = torch.tensor([[[2.0]]]), torch.zeros(1, 1, 4)
    found = rows(postprocess(logits, deltas, ANCHORS[:1], Postprocess(nms=nms_kind)))
    np.testing.assert_allclose(found, [(*ANCHORS[0].tolist(), float(torch.tensor(2.0).sigmoid()), 0)], rtol=1e-6)


@pytest.mark.parametrize("nms_kind", ["hard", "soft"])
@pytest.mark.parametrize("batch", [1, 3])
def test_nothing_found(nms_kind: Any, batch: int) -> None:
    logits = torch.full((batch, len(ANCHORS), 2), -20.0)
    found = postprocess(logits, torch.zeros(batch, len(ANCHORS), 4), ANCHORS, Postprocess(nms=nms_kind))
    assert [rows(found, i) for i in range(batch)] == [[]] * batch
    assert found.boxes_xyxy.shape == (batch, 100, 4)
    assert found.class_ids.dtype == torch.int64


def test_half_precision_gives_float32() -> None:
    logits, deltas = predictions(3, batch=1, classes=2)
    for kind in (torch.bfloat16, torch.float16):
        found = postprocess(logits.to(kind), deltas.to(kind), ANCHORS, Postprocess())
        assert found.boxes_xyxy.dtype == found.scores.dtype == torch.float32
        expected = postprocess(logits.to(kind).float(), deltas.to(kind).float(), ANCHORS, Postprocess())
        assert rows(found) == rows(expected)


def test_clip_and_way_back_to_the_original() -> None:
    boxes = torch.tensor([[[-5.0, -6.0, 700.0, 800.0], [10.0, 20.0, 30.0, 40.0]]])
    assert clip_boxes(boxes, torch.tensor([[480, 640]])).tolist() == [[[0, 0, 640, 480], [10, 20, 30, 40]]]
    found = Detections(boxes, torch.ones(1, 2), torch.zeros(1, 2, dtype=torch.int64))
    back = to_original_pixels(found, torch.tensor([0.5]), torch.tensor([[480, 50]]))
    assert back.boxes_xyxy.tolist() == [[[0, 0, 50, 480], [20, 40, 50, 80]]]


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("nms", "sofd", "hard, soft. Did you mean 'soft'?"),
        ("iou_threshold", 0.0, "above 0 and at most 1"),
        ("iou_threshold", 1.5, "above 0 and at most 1"),
        ("soft_sigma", 0.0, "above 0"),
        ("score_threshold", 1.0, "at least 0 and below 1"),
        ("score_threshold", float("nan"), "at least 0 and below 1"),
        ("max_candidates", 0, "at least 1"),
        ("max_detections", 0, "at least 1"),
    ],
)
def test_setting_out_of_range_names_itself(field: str, value: Any, allowed: str) -> None:
    with pytest.raises(InputError) as caught:
        dataclasses.replace(Postprocess(), **{field: value})
    message = str(caught.value)
    assert message.startswith(field)
    assert str(value) in message
    assert allowed in message
