"""Matching against a loop over boxes and anchors in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from detection.network.anchors import Lattice, make_anchors
from detection.network.family import architecture
from detection.network.matching import match_anchors, pairwise_iou

CONFIG = architecture("lite0", max_level=5)
ANCHORS = make_anchors((64, 96), CONFIG)


def iou_by_hand(box: np.ndarray, anchor: np.ndarray) -> np.float32:
    width = np.float32(min(box[2], anchor[2]) - max(box[0], anchor[0]))
    height = np.float32(min(box[3], anchor[3]) - max(box[1], anchor[1]))
    overlap = max(width, np.float32(0)) * max(height, np.float32(0))
    union = (box[2] - box[0]) * (box[3] - box[1]) + (anchor[2] - anchor[0]) * (anchor[3] - anchor[1]) - overlap
    return np.float32(overlap / max(union, np.float32(1e-8)))


def match_by_hand(boxes: np.ndarray, class_ids: np.ndarray, anchors: np.ndarray, threshold: float) -> dict[int, int]:
    """Box by anchor, for one image: the rule as a person would apply it."""
    real = [n for n in range(len(boxes)) if class_ids[n] >= 0]
    iou = {n: np.array([iou_by_hand(boxes[n], anchor) for anchor in anchors]) for n in real}
    matched: dict[int, int] = {}
    for r in range(len(anchors)):
        best = max(real, key=lambda n: iou[n][r], default=None)
        if best is not None and iou[best][r] >= threshold:
            matched[r] = best
    # Backwards, so that the first box that claims a contested anchor keeps it.
    for n in reversed(real):
        favourite = int(iou[n].argmax())
        if iou[n][favourite] > 0:
            matched[favourite] = n
    return matched


def random_boxes(generator: np.random.Generator, batch: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    low = generator.uniform(-10, 90, (batch, count, 2))
    size = generator.uniform(1, 60, (batch, count, 2))
    boxes = np.concatenate([low, low + size], -1).astype(np.float32)
    class_ids = generator.integers(-1, 3, (batch, count))
    return boxes, class_ids


def matches_as_dicts(boxes: np.ndarray, class_ids: np.ndarray, threshold: float = 0.5) -> list[dict[int, int]]:
    found = match_anchors(torch.tensor(boxes), torch.tensor(class_ids), ANCHORS, iou_threshold=threshold)
    images: list[dict[int, int]] = [{} for _ in boxes]
    for image, anchor, box in zip(*(part.tolist() for part in found), strict=True):
        assert anchor not in images[image]
        images[image][anchor] = box
    return images


@pytest.mark.parametrize("seed", range(6))
def test_random_batches(seed: int) -> None:
    generator = np.random.default_rng(seed)
    # Shifted off the grid: the loop and the batch could round an exact tie differently.
    boxes, class_ids = random_boxes(generator, batch=2, count=6)
    threshold = float(generator.choice([0.4, 0.5, 0.6]))
    expected = [match_by_hand(boxes[i], class_ids[i], ANCHORS.numpy(), threshold) for i in range(2)]
    assert matches_as_dicts(boxes, class_ids, threshold) == expected
    assert any(expected)


def test_order_is_by_image_and_anchor() -> None:
    boxes, class_ids = random_boxes(np.random.default_rng(9), batch=3, count=8)
    found = match_anchors(torch.tensor(boxes), torch.tensor(class_ids), ANCHORS)
    keys = (found.image * len(ANCHORS) + found.anchor).tolist()
    assert keys == sorted(set(keys))


def test_box_of_an_anchors_shape_takes_it() -> None:
    for index in (0, 500, len(ANCHORS) - 1):
        found = match_anchors(ANCHORS[None, index, None], torch.zeros(1, 1, dtype=torch.int64), ANCHORS)
        assert index in found.anchor.tolist()


def test_every_box_keeps_its_best_anchor_however_badly_it_fits() -> None:
    sliver = torch.tensor([[[3.0, 1.0, 3.5, 60.0]]])
    overlap = pairwise_iou(sliver, ANCHORS)[0, 0]
    assert 0 < float(overlap.max()) < 0.5
    found = match_anchors(sliver, torch.zeros(1, 1, dtype=torch.int64), ANCHORS)
    assert found.anchor.tolist() == [int(overlap.argmax())]


def test_contested_anchor_goes_to_the_first_box_although_the_second_fits_better() -> None:
    target = ANCHORS[700]
    worse, better = target + torch.tensor([0.0, 0.0, 0.6, 0.6]), target + torch.tensor([0.0, 0.0, 0.1, 0.1])
    for order in ([worse, better], [better, worse]):
        boxes = torch.stack(order)[None]
        best = pairwise_iou(boxes, ANCHORS)[0].argmax(1)
        assert best.tolist() == [700, 700]
        found = match_anchors(boxes, torch.tensor([[0, 1]]), ANCHORS)
        assert found.box[found.anchor == 700].tolist() == [0]


def test_forced_match_outranks_a_better_overlap_of_another_box() -> None:
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 100.0, 100.0]])
    # Both have their best anchor in the first, which the small box fits at 0.04 and the large one at 0.9.
    boxes = torch.tensor([[[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 10.0, 9.0]]])
    found = match_anchors(boxes, torch.tensor([[0, 1]]), anchors)
    assert list(zip(found.anchor.tolist(), found.box.tolist(), strict=True)) == [(0, 0)]


def test_threshold_is_inclusive() -> None:
    anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0], [100.0, 0.0, 108.0, 8.0], [100.0, 0.0, 108.0, 16.0]])
    box = torch.tensor([[[100.0, 0.0, 108.0, 8.0]]])  # IoU 0, 1, 0.5
    class_ids = torch.zeros(1, 1, dtype=torch.int64)
    assert match_anchors(box, class_ids, anchors, iou_threshold=0.5).anchor.tolist() == [1, 2]
    assert match_anchors(box, class_ids, anchors, iou_threshold=0.51).anchor.tolist() == [1]


def test_padding_and_images_without_boxes() -> None:
    boxes = ANCHORS[[300, 400]].expand(3, 2, 4)
    class_ids = torch.tensor([[0, -1], [-1, -1], [-1, 2]])
    found = match_anchors(boxes, class_ids, ANCHORS)
    assert set(zip(found.image.tolist(), found.box.tolist(), strict=True)) == {(0, 0), (2, 1)}
    assert [len(part) for part in match_anchors(boxes[:, :0], class_ids[:, :0], ANCHORS)] == [0, 0, 0]


def test_box_outside_every_anchor_and_box_without_area_have_none() -> None:
    boxes = torch.tensor([[[5000.0, 5000.0, 5010.0, 5010.0], [20.0, 20.0, 20.0, 40.0], [10.0, 10.0, 30.0, 30.0]]])
    found = match_anchors(boxes, torch.tensor([[0, 1, 2]]), ANCHORS)
    assert set(found.box.tolist()) == {2}


def test_pairwise_iou_is_torchvisions() -> None:
    boxes, _ = random_boxes(np.random.default_rng(3), batch=2, count=7)
    found = pairwise_iou(torch.tensor(boxes), ANCHORS)
    for image in range(2):
        torch.testing.assert_close(found[image], box_iou(torch.tensor(boxes[image]), ANCHORS))


@pytest.mark.parametrize("case", range(8))
def test_the_cells_near_a_box_give_what_all_anchors_give(case: int) -> None:
    config = architecture(["lite0", "d0"][case % 2], **({"max_level": 5} if case % 3 == 0 else {}))
    canvas_hw = [(64, 96), (200, 333), (37, 80), (128, 128)][case % 4]
    anchors, lattice = make_anchors(canvas_hw, config), Lattice.of(canvas_hw, config)
    generator = np.random.default_rng(case)
    for count in (0, 1, 25):
        # From a pixel to more than the canvas, and beyond its edges.
        low = generator.uniform(-20, 1.1 * max(canvas_hw), (2, count, 2))
        size = np.exp(generator.uniform(0, 6, (2, count, 2)))
        if case % 3 == 1:  # on the grid, where many overlaps are equal
            low, size = 8 * np.round(low / 8), 8 * np.maximum(np.round(size / 8), 1)
        boxes = torch.tensor(np.concatenate([low, low + size], -1), dtype=torch.float32)
        class_ids = torch.tensor(generator.integers(-1, 3, (2, count)))
        for threshold in (0.05, 0.4, 0.5, 0.9):
            all_of_them = match_anchors(boxes, class_ids, anchors, iou_threshold=threshold)
            near = match_anchors(boxes, class_ids, anchors, iou_threshold=threshold, lattice=lattice)
            assert all(torch.equal(*pair) for pair in zip(near, all_of_them, strict=True))
            assert count < 25 or len(near.anchor)
