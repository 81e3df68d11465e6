"""Mosaic, pasted objects and blends of painted pictures, whose boxes can be read from their pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.augment import Mixing
from engine.data.loader import SampleLoader
from engine.data.mixing import MixedImages, Parts, blend, mosaic, paste
from engine.data.mixture import Mixture

SIZE = (60, 80)
COLORS = [40, 90, 140, 190, 240]


def painted(seed: int, *, masked: bool = True, grey: int = 0) -> Parts:
    """Objects of one colour each, the class being the colour's number, none over another; the mask is the class + 1."""
    random = np.random.default_rng(seed)
    image = np.full((*SIZE, 3), grey, np.uint8)
    mask = np.zeros(SIZE, np.uint8)
    boxes, ids = [], []
    for number in random.permutation(len(COLORS))[: random.integers(0, 5)]:
        height, width = random.integers(6, 25, 2)
        top, left = random.integers(0, SIZE[0] - height), random.integers(0, SIZE[1] - width)
        if mask[top : top + height, left : left + width].any():
            continue
        image[top : top + height, left : left + width] = COLORS[number]
        mask[top : top + height, left : left + width] = number + 1
        boxes.append([left, top, left + width, top + height])
        ids.append(number)
    return Parts(image, np.array(boxes, np.float32).reshape(-1, 4), np.array(ids, np.int64), mask if masked else None)


def extent(pixels: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(pixels)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def identity(sample: Parts) -> Parts:
    return sample


def replaced(sample: Parts, parts: Parts) -> Parts:
    return parts


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    row=st.integers(15, 45),
    column=st.integers(20, 60),
    share=st.floats(0, 1),
    other=st.floats(0, 1),
)
def test_boxes_of_a_mosaic_are_where_their_pixels_are(seed, row, column, share, other):
    samples = [painted(seed + number) for number in range(4)]
    shares = np.array([[share, other], [other, share], [share, share], [other, other]])
    parts, seen = mosaic(samples, (row, column), shares)
    quarters = [(slice(0, row), slice(0, column)), (slice(0, row), slice(column, 80)),
                (slice(row, 60), slice(0, column)), (slice(row, 60), slice(column, 80))]  # fmt: skip
    owners = np.repeat(np.arange(4), [len(sample.class_ids) for sample in samples])
    assert len(owners) == len(parts.class_ids) == len(seen)
    for owner, box, class_id, part in zip(owners, parts.boxes_xyxy, parts.class_ids, seen, strict=True):
        inside = np.zeros(SIZE, bool)
        inside[quarters[owner]] = True
        pixels = (parts.mask == class_id + 1) & inside
        before = (samples[owner].mask == class_id + 1).sum()
        assert part == pytest.approx(pixels.sum() / before, abs=1e-5)
        if pixels.any():
            assert box.tolist() == extent(pixels)
            assert (parts.image[pixels] == COLORS[class_id]).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_pasted_objects_are_there_and_hidden_ones_are_not(seed):
    sample, other = painted(seed, grey=3), painted(seed + 1, grey=7)
    chosen = np.random.default_rng(seed).random(len(other.class_ids)) < 0.5
    parts = paste(sample, other, chosen)
    hidden = np.zeros(SIZE, bool)
    for left, top, right, bottom in other.boxes_xyxy[chosen].astype(int):
        hidden[top:bottom, left:right] = True
        assert (parts.image[top:bottom, left:right] == other.image[top:bottom, left:right]).all()
        assert (parts.mask[top:bottom, left:right] == other.mask[top:bottom, left:right]).all()
    assert (parts.image[~hidden] == sample.image[~hidden]).all()
    assert (parts.mask[~hidden] == sample.mask[~hidden]).all()
    stays = []
    for box in sample.boxes_xyxy:
        left, top, right, bottom = box.astype(int)
        stays.append(hidden[top:bottom, left:right].mean() < 0.7)
    np.testing.assert_array_equal(
        parts.boxes_xyxy, np.concatenate([sample.boxes_xyxy[stays], other.boxes_xyxy[chosen]])
    )
    np.testing.assert_array_equal(parts.class_ids, np.concatenate([sample.class_ids[stays], other.class_ids[chosen]]))


def test_a_blend_is_the_mean():
    sample, other = painted(1, masked=False), painted(2, masked=False)
    parts = blend(sample, other)
    expected = np.floor((sample.image.astype(float) + other.image) / 2 + 0.5)
    np.testing.assert_array_equal(parts.image, expected)
    assert len(parts.boxes_xyxy) == len(parts.class_ids) == len(sample.class_ids) + len(other.class_ids)


MIXING = Mixing(mosaic=0.6, copy_paste=0.5, mixup=0.3, closing=0.5, min_side=3, min_visible=0.2)


def mixed(mixing: Mixing = MIXING) -> MixedImages[Parts]:
    return MixedImages([painted(seed) for seed in range(12)], mixing, identity, replaced)


def test_a_sample_follows_from_the_seed():
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        found.append([mixed()[place] for place in range(12)])
    for one, other in zip(*found, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert any(not np.array_equal(one.image, painted(place).image) for place, one in enumerate(found[0]))


def test_small_and_hardly_seen_boxes_are_dropped():
    torch.manual_seed(0)
    images = mixed(Mixing(mosaic=1.0, min_side=5, min_visible=0.5))
    for place in range(12):
        boxes = images[place].boxes_xyxy
        assert ((boxes[:, 2:] - boxes[:, :2]) >= 5).all()


def test_the_end_of_a_training_is_plain():
    images = mixed(Mixing(mosaic=1.0, closing=0.25))
    images.close_after(8)
    for visit in range(8):
        same = [np.array_equal(images.at(place, visit).image, painted(place).image) for place in range(12)]
        assert all(same) == (visit >= 6)


def test_the_loader_tells_the_pass():
    images = mixed(Mixing(mosaic=1.0, closing=0.5))
    images.close_after(2)
    loader = SampleLoader([images], Mixture((12,), (1.0,), 4, 0), list)
    passes = [[sample for batch in loader for sample in batch] for _ in range(2)]
    originals = [painted(place).image.tobytes() for place in range(12)]
    assert sorted(sample.image.tobytes() for sample in passes[1]) == sorted(originals)
    assert sorted(sample.image.tobytes() for sample in passes[0]) != sorted(originals)


def test_workers_and_interruptions_change_nothing():
    def sequence(workers: int, start: int = 0) -> list[bytes]:
        loader = SampleLoader([mixed()], Mixture((12,), (1.0,), 4, 3), list, steps=6, num_workers=workers)
        if start:
            state = {**loader.state_dict(), "position": start, "left": 6 - start}
            loader.load_state_dict(state)
        return [sample.image.tobytes() + sample.boxes_xyxy.tobytes() for batch in loader for sample in batch]

    whole = sequence(0)
    assert sequence(2) == whole
    assert sequence(0, start=4) == whole[16:]
