"""Boxes merged over seams: each object once, whole and as found, whatever the tiles; greedy suppression by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.tiles.running import in_picture
from detection.tiles.seams import TileBoxes, _suppressed, merged
from engine.large.tiling import Tiling

IOU = 0.5


def boxes(*rows, scores=None, class_ids=None):
    values = np.array(rows, np.float64).reshape(-1, 4)
    given_scores = np.full(len(values), 0.9) if scores is None else np.array(scores)
    ids = np.zeros(len(values), np.int64) if class_ids is None else np.array(class_ids, np.int64)
    return TileBoxes(values, given_scores.astype(np.float32), ids)


def iou(one, other):
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = np.clip(high - low, 0, None).prod()
    return shared / ((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - shared)


def shown(objects, tiling, rng=None):
    """What a perfect detector finds in each tile: every object as far as the tile shows it, cut ones with any score."""
    found = []
    for tile in tiling:
        area = np.array([tile.columns.start, tile.rows.start, tile.columns.stop, tile.rows.stop], np.float64)
        low, high = np.maximum(objects.boxes_xyxy[:, :2], area[:2]), np.minimum(objects.boxes_xyxy[:, 2:], area[2:])
        seen = (high > low).all(1)
        cut = np.concatenate([low, high], 1)[seen]
        scores = objects.scores[seen].copy()
        whole = (cut == objects.boxes_xyxy[seen]).all(1)
        if rng is not None:
            scores[~whole] = rng.uniform(0.3, 1, (~whole).sum())
        found.append(TileBoxes(cut, scores, objects.class_ids[seen]))
    return found


@st.composite
def scenes(draw):
    window = draw(st.integers(40, 120))
    overlap = draw(st.integers(12, window * 2 // 3))
    margin = draw(st.integers(0, overlap // 4))
    size_hw = (draw(st.integers(20, 260)), draw(st.integers(20, 260)))
    tiling = Tiling(size_hw, window, overlap, margin, draw(st.sampled_from([1, 4])))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    most = overlap - 2 * margin
    kept: list[np.ndarray] = []
    for _ in range(25):
        side = rng.uniform(1, max(2, most), 2).clip(max=[size_hw[1], size_hw[0]])
        corner = rng.uniform(0, 1, 2) * (np.array(size_hw[::-1]) - side)
        box = np.concatenate([corner, corner + side])
        if all(iou(box, other) < 0.3 for other in kept):
            kept.append(box)
    count = len(kept)
    objects = boxes(*kept, scores=rng.permutation(count) / count / 2 + 0.3, class_ids=rng.integers(0, 2, count))
    return tiling, objects, rng


@settings(max_examples=40, deadline=None)
@given(scenes())
def test_tiles_give_the_objects_of_the_whole(scene):
    """Objects smaller than the overlap without its margins come back exactly, and nothing else does."""
    tiling, objects, rng = scene
    found = merged(shown(objects, tiling, rng), tiling, IOU)
    order = np.argsort(-objects.scores, kind="stable")
    np.testing.assert_array_equal(found.boxes_xyxy, objects.boxes_xyxy[order])
    np.testing.assert_array_equal(found.scores, objects.scores[order])
    np.testing.assert_array_equal(found.class_ids, objects.class_ids[order])


def test_an_object_larger_than_the_overlap_is_not_lost():
    tiling = Tiling((100, 300), 100, 20, 2)
    large = boxes([60, 20, 240, 70])
    found = merged(shown(large, tiling), tiling, IOU)
    assert len(found)
    assert found.boxes_xyxy[:, 0].min() == 60
    assert found.boxes_xyxy[:, 2].max() == 240


def test_a_cut_box_stays_where_no_other_tile_has_its_place_inside():
    tiling = Tiling((50, 90), 50, 10, 0)
    piece, larger = boxes([44, 10, 50, 20]), boxes([38, 10, 50, 20])
    assert len(merged([piece, TileBoxes.none()], tiling, IOU)) == 0
    assert merged([larger, TileBoxes.none()], tiling, IOU).boxes_xyxy.tolist() == [[38, 10, 50, 20]]


def test_only_inner_ends_cut():
    """At the ends of the picture there is nothing more to see."""
    tiling = Tiling((50, 80), 50, 20, 5)
    found = [boxes([0, 0, 9, 9], [10, 41, 20, 50]), boxes([70, 0, 80, 8])]
    assert len(merged(found, tiling, IOU)) == 3


def test_a_cut_box_gives_way_whatever_its_score():
    tiling = Tiling((50, 80), 50, 20, 0)
    found = merged([boxes([40, 10, 50, 20], scores=[0.99]), boxes([40, 10, 55, 20], scores=[0.4])], tiling, IOU)
    assert found.boxes_xyxy.tolist() == [[40, 10, 55, 20]]
    assert found.scores.tolist() == pytest.approx([0.4])


def test_boxes_within_the_margin_count_as_cut():
    """The tile whose end is near has seen too little around the object, however sure it is."""
    tiling = Tiling((50, 80), 50, 20, 5)
    near, far = boxes([36, 10, 46, 20], scores=[0.99]), boxes([37, 10, 46, 20], scores=[0.4])
    assert merged([near, far], tiling, IOU).boxes_xyxy.tolist() == [[37, 10, 46, 20]]


def test_classes_are_kept_apart_unless_asked():
    tiling = Tiling((50, 80), 50, 20, 0)
    found = [boxes([32, 10, 46, 20], scores=[0.9], class_ids=[0]), boxes([32, 10, 46, 20], scores=[0.8], class_ids=[1])]
    assert merged(found, tiling, IOU).class_ids.tolist() == [0, 1]
    assert merged(found, tiling, IOU, class_agnostic=True).class_ids.tolist() == [0]


def test_boxes_of_one_tile_are_left_as_the_detector_gave_them():
    """Soft suppression leaves boxes that overlap."""
    tiling = Tiling((50, 80), 50, 20, 0)
    both = boxes([32, 10, 46, 20], [33, 10, 46, 20], scores=[0.9, 0.5])
    assert len(merged([both, TileBoxes.none()], tiling, IOU)) == 2


def test_nothing_found():
    tiling = Tiling((50, 80), 50, 20, 0)
    assert len(merged([TileBoxes.none(), TileBoxes.none()], tiling, IOU)) == 0


@pytest.mark.parametrize("seed", range(6))
def test_suppression_is_greedy(seed):
    rng = np.random.default_rng(seed)
    count = 60
    scores = rng.integers(0, 20, count).astype(np.float32) / 20  # with ties
    doubtful, dropped = rng.random(count) < 0.2, rng.random(count) < 0.1
    pairs = rng.integers(0, count, (120, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    beside = {place: set() for place in range(count)}
    for one, other in pairs.tolist():
        beside[one].add(other)
        beside[other].add(one)
    kept: list[int] = []
    for place in sorted(range(count), key=lambda p: (doubtful[p], -scores[p], p)):
        if not dropped[place] and not beside[place] & set(kept):
            kept.append(place)
    assert _suppressed(dropped, doubtful, scores, pairs).tolist() == sorted(kept)


def test_a_tile_lies_where_it_does():
    tile = list(Tiling((100, 100), 50, 10, 0))[-1]
    found = in_picture(boxes([1, 2, 3, 4]), tile)
    assert found.boxes_xyxy.tolist() == [[51, 52, 53, 54]]
