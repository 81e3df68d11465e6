"""Matches and curves are those of pycocotools, to the last bit."""

from __future__ import annotations

import contextlib
import copy
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detection.analysis.curves import best_mean_threshold, class_curves, harmonic_mean, mean_f1, mean_precision
from detection.analysis.matching import match
from detection.analysis.overlaps import Comparison
from detection.scores.metric import evaluate_boxes
from detection.scores.records import DetectionTable
from detection.scores.truth import GroundTruth
from tests.detection.coco_oracle import awkward_set


def compared(dataset, results):
    """Our arrays of a set."""
    coco = COCO()
    coco.dataset = copy.deepcopy(dataset)
    return Comparison.of(GroundTruth.of(coco), DetectionTable.of(results))


def evaluated(dataset, results):
    """pycocotools after `accumulate`, with the annotations renumbered from 1 as our scores do."""
    dataset = copy.deepcopy(dataset)
    for number, annotation in enumerate(dataset["annotations"], 1):
        annotation["id"] = number
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator


@pytest.mark.parametrize("seed", range(6))
def test_precision_is_that_of_pycocotools(seed):
    dataset, results = awkward_set(seed)
    oracle, ours = evaluated(dataset, results), compared(dataset, results)
    for place, iou in enumerate(oracle.params.iouThrs.tolist()):
        expected = oracle.eval["precision"][place, :, :, 0, -1]
        curves = class_curves(ours, match(ours, iou))
        assert len(curves) == expected.shape[1]
        for row, curve in enumerate(curves):
            np.testing.assert_array_equal(np.nan_to_num(curve.interpolated, nan=-1), expected[:, row])


@pytest.mark.parametrize("seed", range(3))
def test_each_match_is_that_of_pycocotools(seed):
    dataset, results = awkward_set(seed, crowd=0.3)
    oracle, ours = evaluated(dataset, results), compared(dataset, results)
    matching = match(ours, 0.5)
    seen = 0
    for entry in oracle.evalImgs[: len(oracle.params.catIds) * len(oracle.params.imgIds) * 4]:
        if entry is None or entry["aRng"] != oracle.params.areaRng[0]:
            continue
        image = int(np.flatnonzero(ours.image_ids == entry["image_id"])[0])
        own = (ours.images == image) & (ours.class_ids == oracle.params.catIds.index(entry["category_id"]))
        np.testing.assert_array_equal(ours.scores[own], entry["dtScores"])
        ignored = entry["dtIgnore"][0].astype(bool)
        np.testing.assert_array_equal(matching.ignored[own], ignored)
        np.testing.assert_array_equal(matching.right[own], (entry["dtMatches"][0] > 0) & ~ignored)
        seen += int(own.sum())
    assert seen == len(ours.scores) > 100


def test_the_mean_is_the_tables_ap50():
    dataset, results = awkward_set(11)
    ours = compared(dataset, results)
    coco = COCO()
    coco.dataset = dataset
    assert mean_precision(class_curves(ours, match(ours))) == pytest.approx(
        evaluate_boxes(coco, results).ap50, abs=1e-12
    )


def test_the_threshold_of_best_f1_beats_every_other():
    dataset, results = awkward_set(4, images=20, steps=50)
    ours = compared(dataset, results)
    curves = class_curves(ours, match(ours))
    for curve in curves:
        best = curve.best()
        if not curve.objects:
            assert best is None
            continue
        tried = []
        for score in np.unique(curve.scores):  # by hand: all detections of at least this score
            taken = curve.scores >= score
            hits = int(curve.right[taken].sum())
            tried.append((2 * hits / (int(taken.sum()) + curve.objects), float(score)))
        assert (best.f1, best.score) == pytest.approx(max(tried))
    best = best_mean_threshold(curves)
    every = np.unique(np.concatenate([curve.scores for curve in curves]))
    assert best.f1 == pytest.approx(float(mean_f1(curves, every).max()))
    assert best.f1 == pytest.approx(float(mean_f1(curves, np.array([best.score]))[0]))


def test_thresholds_count_detections_of_equal_score_together():
    dataset, results = awkward_set(8, steps=4)
    ours = compared(dataset, results)
    for curve in class_curves(ours, match(ours)):
        thresholds = np.array([0.0, 0.25, 0.3, 0.5, 2.0])
        precision, recall = curve.at(thresholds)
        for place, threshold in enumerate(thresholds):
            taken = curve.scores >= threshold
            expected = curve.right[taken].mean() if taken.any() else np.nan
            np.testing.assert_allclose(precision[place], expected)
            np.testing.assert_allclose(
                recall[place], curve.right[taken].sum() / curve.objects if curve.objects else np.nan
            )


def test_detections_above_a_score_match_as_they_did():
    dataset, results = awkward_set(2, images=15)
    ours = compared(dataset, results)
    whole = match(ours)
    kept = ours.scores >= 0.5
    fewer = match(ours.above(0.5))
    np.testing.assert_array_equal(fewer.truths, whole.truths[kept])
    np.testing.assert_array_equal(fewer.ignored, whole.ignored[kept])


def test_nothing_to_compare():
    dataset, _ = awkward_set(0)
    none = compared(dataset, [])
    assert not len(match(none).truths)
    assert best_mean_threshold(class_curves(none, match(none))) is None
    dataset["annotations"] = []
    empty = compared(dataset, awkward_set(0)[1])
    assert mean_precision(class_curves(empty, match(empty))) is None
    assert harmonic_mean(np.zeros(1), np.zeros(1)) == 0


def test_pairs_do_not_depend_on_the_chunks(monkeypatch):
    dataset, results = awkward_set(3)
    whole = compared(dataset, results).pairs
    monkeypatch.setattr("detection.analysis.overlaps._CHUNK", 7)
    for first, second in zip(whole, compared(dataset, results).pairs, strict=True):
        np.testing.assert_array_equal(first, second)


def test_more_than_a_hundred_boxes_of_a_large_picture_count_where_asked():
    dataset, results = awkward_set(0)
    first = results[0]
    many = [{**first, "score": 0.5 + place / 1000} for place in range(150)]
    coco = COCO()
    coco.dataset = dataset
    truth, table = GroundTruth.of(coco), DetectionTable.of(many)
    assert len(Comparison.of(truth, table).scores) == 100
    assert len(Comparison.of(truth, table, most=150).scores) == 150
