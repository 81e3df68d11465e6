"""TIDE's split and gains are tidecv's; the confusion matrix is one counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from detection.analysis.confusion import confusion
from detection.analysis.gains import mend
from detection.analysis.matching import match
from detection.analysis.mistakes import MISTAKES, find_mistakes
from detection.analysis.overlaps import Comparison
from detection.scores.records import DetectionTable
from detection.scores.truth import GroundTruth
from tests.detection.analysis.tide_oracle import ANSWERS, CLASSES, scattered_set

# tidecv's names in the order of the oracle, each with ours.
OURS = ("badly placed", "wrong class", "duplicate", "background", "wrong class, badly placed", "missed")


def truth_of(rows, crowd=None):
    """Annotations from rows of image, class, x, y, w, h."""
    rows = np.array(rows, float).reshape(-1, 6)
    return GroundTruth(
        image_ids=tuple(range(1, 31)),
        category_names={k: f"class {k}" for k in range(CLASSES)},
        annotation_image_ids=rows[:, 0].astype(np.int64),
        annotation_category_ids=rows[:, 1].astype(np.int64),
        boxes_xywh=rows[:, 2:],
        areas=rows[:, 4] * rows[:, 5],
        crowd=np.zeros(len(rows), bool) if crowd is None else np.array(crowd),
    )


def table_of(rows):
    """Detections from rows of image, class, x, y, w, h, score."""
    rows = np.array(rows, float).reshape(-1, 7)
    ids = rows[:, :2].astype(np.int64)
    return DetectionTable(ids[:, 0], ids[:, 1], rows[:, 2:6], rows[:, 6])


@pytest.mark.parametrize("seed", ANSWERS)
def test_kinds_and_gains_are_those_of_tidecv(seed, monkeypatch):
    # tidecv's recalls differ from pycocotools' in the last bit, which moves a step where a recall is, say, 7/25.
    monkeypatch.setattr("detection.analysis.curves.RECALLS", np.arange(101) / 100)
    truths, found = scattered_set(seed)
    compared = Comparison.of(truth_of(truths), table_of(found))
    matching = match(compared)
    mistakes = find_mistakes(compared, matching)
    gains = mend(compared, matching, mistakes)
    numbers, counts = ANSWERS[seed]
    order = [MISTAKES.index(name) for name in OURS]
    assert mistakes.counts()[order].tolist() == counts
    ours = [gains.ap, *gains.by_mistake[order], gains.false_positives, gains.missed]
    np.testing.assert_allclose(100 * np.array(ours), numbers, rtol=0, atol=1e-8)


def test_detections_in_a_crowd_are_no_mistakes():
    truths = [(1, 0, 0, 0, 100, 100), (1, 1, 200, 200, 20, 20)]
    found = [(1, 0, 10, 10, 20, 20, 0.9), (1, 1, 10, 10, 20, 20, 0.8), (1, 1, 200, 200, 20, 20, 0.7)]
    compared = Comparison.of(truth_of(truths, crowd=[True, False]), table_of(found))
    matching = match(compared)
    mistakes = find_mistakes(compared, matching)
    assert matching.ignored.tolist() == [True, False, False]
    assert [int(kind) for kind in mistakes.kinds] == [-1, MISTAKES.index("background"), -1]
    assert not mistakes.missed.any()
    assert mend(compared, matching, mistakes).ap == pytest.approx(0.5)
    assert confusion(compared, matching).counts[CLASSES].tolist() == [0, 1, 0, 0]


def counted_by_hand(truths, found, iou=0.5):
    """The confusion matrix with loops: pairs of one class first, then whatever is left, each by falling score."""

    def overlap(a, b):
        w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
        h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
        return w * h / (a[2] * a[3] + b[2] * b[3] - w * h) if w > 0 and h > 0 else 0.0

    counts = np.zeros((CLASSES + 1, CLASSES + 1), int)
    taken, used = set(), set()
    by_score = sorted(range(len(found)), key=lambda d: -found[d][6])
    for same in (True, False):
        for d in by_score:
            near = [
                (overlap(found[d][2:6], truth[2:]), g)
                for g, truth in enumerate(truths)
                if g not in taken and d not in used and truth[0] == found[d][0] and (truth[1] == found[d][1]) == same
            ]
            best = max(near, default=(0, -1))
            if best[0] >= iou:
                taken.add(best[1])
                used.add(d)
                counts[truths[best[1]][1], found[d][1]] += 1
    for d in range(len(found)):
        counts[CLASSES, found[d][1]] += d not in used
    for g, truth in enumerate(truths):
        counts[truth[1], CLASSES] += g not in taken
    return counts


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("least", [0.0, 0.4])
def test_the_confusion_matrix_is_the_one_counted_by_hand(seed, least):
    truths, found = scattered_set(seed)
    kept = [row for row in found if row[6] >= least]
    compared = Comparison.of(truth_of(truths), table_of(found)).above(least)
    matching = match(compared)
    counts = confusion(compared, matching).counts
    np.testing.assert_array_equal(counts, counted_by_hand(truths, kept))
    assert np.trace(counts) == matching.right.sum()
    np.testing.assert_array_equal(counts[:CLASSES].sum(axis=1), compared.objects)
    np.testing.assert_array_equal(counts[:, :CLASSES].sum(axis=0), np.bincount([row[1] for row in kept], minlength=3))
