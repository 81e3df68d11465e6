"""Assigners beside the definitions of their papers, written out box by box in NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.network.anchors import Lattice, decode_boxes, make_anchors
from detection.network.assignment import Predicted, atss, dynamic_k, task_aligned
from detection.network.family import architecture
from detection.network.matching import Matches

CONFIG = architecture("lite0")
CANVAS = (128, 192)
ANCHORS = make_anchors(CANVAS, CONFIG)
LATTICE = Lattice.of(CANVAS, CONFIG)
CENTRES = ((ANCHORS[:, :2] + ANCHORS[:, 2:]) / 2).numpy()
PER_CELL = CONFIG.anchors_per_cell
Boxes = npt.NDArray[np.float32]


def iou(box: Boxes, others: Boxes) -> npt.NDArray[np.float64]:
    box, others = box.astype(np.float64), others.astype(np.float64)
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    overlap = np.clip(high - low, 0, None).prod(1)
    areas = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1)
    return overlap / np.maximum(areas - overlap, 1e-8)


def inside(box: Boxes) -> npt.NDArray[np.bool_]:
    return ((CENTRES - box[:2]).min(1) > 0.01) & ((box[2:] - CENTRES).min(1) > 0.01)


def nearest(box: Boxes, start: int, count: int) -> npt.NDArray[np.int64]:
    """The cells of a level by their distance, of equally near ones the first."""
    middle = (box[:2] + box[2:]) / 2
    apart = ((CENTRES[start : start + count : PER_CELL] - middle) ** 2).sum(1)
    return start + np.argsort(apart, kind="stable") * PER_CELL


def random_truth(seed: int, batch: int = 2, count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes of 3 to 90 pixels on the canvas; -1 is padding."""
    random = np.random.default_rng(seed)
    size = np.exp(random.uniform(np.log(3), np.log(90), (batch, count, 2)))
    low = random.uniform(0, 1, (batch, count, 2)) * (np.array([192, 128]) - size)
    ids = random.integers(-1, 3, (batch, count))
    return torch.tensor(np.concatenate([low, low + size], -1), dtype=torch.float32), torch.tensor(ids)


def random_answers(seed: int, batch: int = 2) -> Predicted:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, len(ANCHORS), 3, generator=random) * 2 - 2
    deltas = torch.randn(batch, len(ANCHORS), 4, generator=random) * 0.2
    return Predicted(logits, deltas, ANCHORS)


def given_out(claims: list[tuple[int, int, float]]) -> dict[int, int]:
    """Contested anchors go to the box with the highest rank, of equal ones to the first."""
    owners: dict[int, tuple[float, int]] = {}
    for box, anchor, rank in claims:
        if anchor not in owners or (rank, -box) > (owners[anchor][0], -owners[anchor][1]):
            owners[anchor] = (rank, box)
    return {anchor: box for anchor, (_, box) in owners.items()}


def as_dict(matches: Matches, image: int) -> dict[int, int]:
    own = matches.image == image
    return dict(zip(matches.anchor[own].tolist(), matches.box[own].tolist(), strict=True))


def test_the_lattice_is_that_of_the_anchors():
    assert sum(LATTICE.counts()) == len(ANCHORS)
    start = 0
    for count, (rows, columns), (height, width) in zip(
        LATTICE.counts(), LATTICE.cells_hw, LATTICE.strides_hw(), strict=True
    ):
        cells = CENTRES[start : start + count].reshape(rows, columns, PER_CELL, 2)
        assert np.ptp(cells, axis=2).max() < 1e-4
        if columns > 1:
            np.testing.assert_allclose(np.diff(cells[0, :, 0, 0]), width, rtol=1e-5)
        if rows > 1:
            np.testing.assert_allclose(np.diff(cells[:, 0, 0, 1]), height, rtol=1e-5)
        start += count


@pytest.mark.parametrize("cells", [1, 9])
@pytest.mark.parametrize("seed", range(4))
def test_atss_is_algorithm_1(seed: int, cells: int) -> None:
    boxes, ids = random_truth(seed)
    found = atss(boxes, ids, ANCHORS, LATTICE, cells)
    for image in range(2):
        claims: list[tuple[int, int, float]] = []
        for row, (box, class_id) in enumerate(zip(boxes[image].numpy(), ids[image], strict=True)):
            if class_id < 0:
                continue
            start, candidates = 0, []
            for count in LATTICE.counts():
                for cell in nearest(box, start, count)[:cells]:
                    candidates += range(cell, cell + PER_CELL)
                start += count
            overlaps = iou(box, ANCHORS.numpy()[candidates])
            threshold = overlaps.mean() + overlaps.std(ddof=1)
            # The bound itself is left to rounding.
            assert not np.any(np.abs(overlaps - threshold) < 1e-6)
            wanted = (overlaps >= threshold) & inside(box)[candidates]
            if not wanted.any():
                wanted[overlaps.argmax()] = True
            claims += [(row, candidates[n], overlaps[n]) for n in np.flatnonzero(wanted)]
        assert as_dict(found, image) == given_out(claims)


@pytest.mark.parametrize("seed", range(4))
def test_task_alignment_is_equation_1(seed: int) -> None:
    boxes, ids = random_truth(seed)
    answers = random_answers(seed)
    matches, quality = task_aligned(answers, boxes, ids, LATTICE)
    predicted = decode_boxes(answers.box_deltas, ANCHORS).numpy()
    scores = answers.class_logits.double().sigmoid().numpy()
    for image in range(2):
        claims, aligned, overlapped = [], {}, {}
        for row, (box, class_id) in enumerate(zip(boxes[image].numpy(), ids[image].tolist(), strict=True)):
            if class_id < 0:
                continue
            overlap = iou(box, predicted[image])
            alignment = scores[image, :, class_id] * overlap**6 * inside(box)
            best = [n for n in np.argsort(-alignment, kind="stable")[:13] if alignment[n] > 1e-9]
            if not best:
                middle = ((CENTRES[::PER_CELL] - (box[:2] + box[2:]) / 2) ** 2).sum(1)
                best = [int(middle.argmin()) * PER_CELL]
            claims += [(row, n, overlap[n]) for n in best]
            aligned[row], overlapped[row] = alignment, overlap
        owners = given_out(claims)
        assert as_dict(matches, image) == owners
        own = matches.image == image
        for anchor, box, value in zip(matches.anchor[own], matches.box[own], quality[own], strict=True):
            mine = [n for n, owner in owners.items() if owner == int(box)]
            alignment, overlap = aligned[int(box)], overlapped[int(box)]
            best = alignment[mine].max()
            expected = alignment[anchor] / (best + 1e-9) * overlap[mine].max() if alignment[anchor] > 1e-9 else 1.0
            assert float(value) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_dynamic_k_is_simota(seed: int) -> None:
    boxes, ids = random_truth(seed)
    answers = random_answers(seed)
    matches, quality = dynamic_k(answers, boxes, ids, LATTICE)
    predicted = decode_boxes(answers.box_deltas, ANCHORS).numpy()
    scores = answers.class_logits.double().sigmoid().numpy()
    strides = np.concatenate(
        [
            np.full((count, 2), stride[::-1])
            for count, stride in zip(LATTICE.counts(), LATTICE.strides_hw(), strict=True)
        ]
    )
    for image in range(2):
        claims, overlapped = [], {}
        for row, (box, class_id) in enumerate(zip(boxes[image].numpy(), ids[image].tolist(), strict=True)):
            if class_id < 0:
                continue
            near = (np.abs(CENTRES - (box[:2] + box[2:]) / 2) < 1.5 * strides).all(1)
            overlap = overlapped[row] = iou(box, predicted[image])
            one_hot = np.eye(3)[class_id]
            entropy = -(one_hot * np.log(scores[image]) + (1 - one_hot) * np.log(1 - scores[image])).sum(1)
            cost = entropy - 3 * np.log(overlap + 1e-8) + 1e6 * ~near
            count = max(1, int(np.sort(overlap * near)[::-1][:10].sum()))
            claims += [(row, n, -cost[n]) for n in np.argsort(cost, kind="stable")[:count]]
        assert as_dict(matches, image) == given_out(claims)
        own = matches.image == image
        expected = [
            overlapped[box][anchor]
            for anchor, box in zip(matches.anchor[own].tolist(), matches.box[own].tolist(), strict=True)
        ]
        np.testing.assert_allclose(quality[own].numpy(), expected, atol=1e-4)


def assigned(kind: str, answers: Predicted, boxes: torch.Tensor, ids: torch.Tensor) -> Matches:
    if kind == "atss":
        return atss(boxes, ids, ANCHORS, LATTICE)
    return (task_aligned if kind == "task_aligned" else dynamic_k)(answers, boxes, ids, LATTICE).matches


@pytest.mark.parametrize("kind", ["atss", "task_aligned", "dynamic_k"])
class TestEachAssigner:
    def test_no_boxes(self, kind: str) -> None:
        answers = random_answers(0)
        for count in (0, 3):
            found = assigned(kind, answers, torch.zeros(2, count, 4), torch.full((2, count), -1))
            assert [len(part) for part in found] == [0, 0, 0]

    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 10_000))
    def test_padding_and_order_of_boxes_do_not_matter(self, kind: str, seed: int) -> None:
        boxes, ids = random_truth(seed, count=4)
        answers = random_answers(seed)
        plain = assigned(kind, answers, boxes, ids)
        padded = assigned(
            kind,
            answers,
            torch.cat([boxes, torch.zeros(2, 3, 4)], 1),
            torch.cat([ids, -torch.ones_like(ids[:, :3])], 1),
        )
        assert all(torch.equal(one, other) for one, other in zip(plain, padded, strict=True))
        order = torch.tensor([2, 0, 3, 1])
        turned = assigned(kind, answers, boxes[:, order], ids[:, order])
        assert torch.equal(plain.anchor, turned.anchor)
        assert torch.equal(plain.box, order[turned.box])

    def test_images_do_not_matter_to_each_other(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        boxes, ids = random_truth(3, batch=3)
        answers = random_answers(3, batch=3)
        together = assigned(kind, answers, boxes, ids)
        for image in range(3):
            alone = assigned(
                kind, answers.of(slice(image, image + 1)), boxes[image : image + 1], ids[image : image + 1]
            )
            assert as_dict(together, image) == as_dict(alone, 0)
        monkeypatch.setattr("detection.network.assignment._MOST_PAIRS", 1)  # image by image
        chunked = assigned(kind, answers, boxes, ids)
        assert all(torch.equal(one, other) for one, other in zip(together, chunked, strict=True))

    def test_twins_share_no_anchor(self, kind: str) -> None:
        box = torch.tensor([40.0, 30.0, 90.0, 70.0])
        found = assigned(kind, random_answers(1, 1), box.expand(1, 2, 4), torch.zeros(1, 2, dtype=torch.int64))
        assert len(found.anchor.unique()) == len(found.anchor) > 0
        assert set(found.box.tolist()) == {0}  # of equal ones the first

    def test_a_network_that_diverges(self, kind: str) -> None:
        boxes, ids = random_truth(5)
        answers = random_answers(5)
        broken = Predicted(answers.class_logits, torch.full_like(answers.box_deltas, 1e30), ANCHORS)
        found = assigned(kind, broken, boxes, ids)
        assert int(found.anchor.max()) < len(ANCHORS)


@pytest.mark.parametrize("kind", ["atss", "task_aligned", "dynamic_k"])
@pytest.mark.parametrize("side", [2.0, 4.0])
def test_a_box_of_a_few_pixels_has_an_anchor(kind: str, side: float) -> None:
    """Under the plain rule too; a rule that asks for a centre in the box would give it none."""
    random = np.random.default_rng(0)
    low = torch.tensor(random.uniform(0, 120, (40, 1, 2)), dtype=torch.float32)
    boxes = torch.cat([low, low + side], -1)
    answers = random_answers(0, 40)
    found = assigned(kind, answers, boxes, torch.zeros(40, 1, dtype=torch.int64))
    assert set(found.image.tolist()) == set(range(40))
