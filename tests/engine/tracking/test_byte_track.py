"""ByteTrack beside Roboflow's library, and what it promises: ids through a gap, in a crowd, at any frame rate."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from engine.tracking.byte_track import ByteTrack, Tracking
from engine.tracking.motion import Motion
from tests.engine.tracking.reference import IDS, LOST_SECONDS, START, scenes


def test_the_ids_are_those_of_the_library():
    recorded = json.loads(gzip.decompress(IDS.read_bytes()))
    boxes, most = 0, []
    for (rate, frames), expected in zip(scenes(), recorded, strict=True):
        tracker = ByteTrack(rate, START, Tracking(low_score=0, lost_seconds=LOST_SECONDS))
        for number, ((places, scores), theirs) in enumerate(zip(frames, expected, strict=True)):
            ids = tracker.update(places, scores, np.zeros(len(scores), np.int64), number / rate)
            assert np.where(ids > 0, ids - 1, -1).tolist() == theirs, f"frame {number}"  # theirs begin at 0
            boxes += len(ids)
        most.append(int(ids.max()))
    assert boxes > 8000
    assert sum(most) > 100


def box(x, size=20):
    return np.array([[x, 0, x + size, size]], np.float64)


def follow(tracker, places, rate=25.0):
    """The ids of one box in each frame; None where it is not seen."""
    ids = []
    for number, place in enumerate(places):
        boxes = np.empty((0, 4)) if place is None else box(place)
        many = len(boxes)
        found = tracker.update(boxes, np.full(many, 0.9), np.zeros(many, np.int64), number / rate)
        ids.append(found.tolist()[0] if many else None)
    return ids


@pytest.mark.parametrize("rate", [5.0, 25.0, 60.0])
def test_an_object_may_be_hidden_for_the_promised_time(rate):
    for gap, kept in ((0.9, True), (1.3, False)):
        hidden = round(gap * rate)
        places = [40 * number / rate for number in range(round(2 * rate) + hidden + 5)]
        shown = [None if 0 <= number - round(2 * rate) < hidden else place for number, place in enumerate(places)]
        ids = follow(ByteTrack(rate), shown, rate)
        assert set(ids[1 : round(2 * rate)]) == {1}
        assert ids[-1] == (1 if kept else 2)


def test_a_low_score_continues_and_does_not_begin():
    tracker = ByteTrack(25, 0.5)
    classes = np.zeros(1, np.int64)
    scores = [0.9, 0.9, 0.2, 0.15, 0.05, 0.2]
    ids = [tracker.update(box(2 * n), np.array([s]), classes, n / 25).item() for n, s in enumerate(scores)]
    assert ids == [-1, 1, 1, 1, -1, 1]
    other = ByteTrack(25, 0.5)
    assert [other.update(box(0), np.array([0.4]), classes, n / 25).item() for n in range(5)] == [-1] * 5


def test_a_track_keeps_to_its_class():
    tracker = ByteTrack(25)
    for number, (kind, expected) in enumerate([(0, -1), (0, 1), (1, -1), (1, 2), (0, 1)]):
        found = tracker.update(box(0), np.array([0.9]), np.array([kind]), number / 25)
        assert found.tolist() == [expected]


def test_two_that_cross_keep_their_ids():
    tracker = ByteTrack(25)
    for number in range(80):
        boxes = np.concatenate([box(3 * number), box(240 - 3 * number)])
        boxes[1, [1, 3]] += 12  # lanes that overlap
        ids = tracker.update(boxes, np.full(2, 0.9), np.zeros(2, np.int64), number / 25)
        assert number == 0 or ids.tolist() == [1, 2]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_the_order_of_boxes_changes_no_track(seed):
    rng = np.random.default_rng(seed)
    tracker, other = ByteTrack(25), ByteTrack(25)
    places = rng.uniform(0, 300, (6, 2))
    for number in range(12):
        places += rng.normal(0, 3, places.shape)
        boxes, scores = np.concatenate([places, places + 40], axis=1), rng.uniform(0.05, 1, 6)
        order = rng.permutation(6)
        classes = np.zeros(6, np.int64)
        first = tracker.update(boxes, scores, classes, number / 25)
        second = other.update(boxes[order], scores[order], classes, number / 25)
        # The numbers may differ, as boxes that begin at once are numbered in their order; who has one may not.
        np.testing.assert_array_equal(first[order] > 0, second > 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.floats(-5, 5))
def test_a_gap_is_so_many_frames(frames, speed):
    """The sums of a gap are those of single frames, added up one by one."""
    motions = [Motion.of(box(10.0)) for _ in range(2)]
    for motion in motions:
        for step in range(3):
            motion.advance(1)
            motion.see(np.array([0]), box(10 + speed * step))
    for _ in range(frames):
        motions[0].advance(1)
    motions[1].advance(frames)
    np.testing.assert_allclose(motions[0].boxes_xyxy, motions[1].boxes_xyxy, atol=1e-6)
    np.testing.assert_allclose(motions[0].covariances, motions[1].covariances, rtol=1e-9)


def test_the_filter_is_kalmans():
    """One side of one box, with whole matrices."""
    rng = np.random.default_rng(0)
    motion = Motion.of(box(10.0))
    state, spread = np.array([10.0, 0.0]), np.eye(2)
    move, see = np.array([[1, 1], [0, 1.0]]), np.array([[1.0, 0]])
    for _ in range(20):
        state, spread = move @ state, move @ spread @ move.T + 0.01 * np.eye(2)
        seen = rng.normal(30, 20)
        gain = spread @ see.T / (see @ spread @ see.T + 0.1)
        state = state + (gain * (seen - state[0]))[:, 0]
        spread = (np.eye(2) - gain @ see) @ spread
        motion.advance(1)
        motion.see(np.array([0]), np.array([[seen, 0, 0, 0]]))
        np.testing.assert_allclose([motion.boxes_xyxy[0, 0], motion.velocities[0, 0]], state, rtol=1e-9)
        np.testing.assert_allclose(motion.covariances[0], [spread[0, 0], spread[0, 1], spread[1, 1]], rtol=1e-9)


def test_it_does_not_grow():
    """Thousands of objects that come and go leave nothing behind."""
    tracker = ByteTrack(25)
    rng = np.random.default_rng(0)
    for number in range(600):
        corners = rng.uniform(0, 4000, (20, 2))
        boxes = np.concatenate([corners, corners + 30], axis=1)
        tracker.update(boxes, np.full(20, 0.9), np.zeros(20, np.int64), number / 25)
        assert len(tracker._ids) < 200


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ByteTrack(0), "frame_rate is 0; it must be above 0"),
        (lambda: ByteTrack(float("nan")), "frame_rate is nan"),
        (lambda: ByteTrack(25, 0.05), r"tracking.low_score is 0.1 and above .* 0.05. Give a lower one"),
        (lambda: Tracking(low_score=2), r"tracking.low_score is 2"),
        (lambda: Tracking(confirm_frames=0), r"tracking.confirm_frames is 0"),
        (lambda: Tracking(lost_seconds=-1), r"tracking.lost_seconds is -1"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_time_does_not_run_back():
    tracker = ByteTrack(25)
    nothing = (np.empty((0, 4)), np.empty(0), np.empty(0, np.int64))
    tracker.update(*nothing, 1.0)
    with pytest.raises(InputError, match=r"frame at 1 s follows one at 1 s. Give frames in the order of their times"):
        tracker.update(*nothing, 1.0)
