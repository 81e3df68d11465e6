"""Precision, recall and F1 of each class over the scores, from matches that are those of COCO's evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detection.analysis.matching import Matching
from detection.analysis.overlaps import Comparison
from detection.data.boxes import Flags, Floats, Ints

# As pycocotools' `Params` makes them; the last bits decide which precision a recall of, say, 29/100 gets.
RECALLS: Floats = np.linspace(0.0, 1.00, int(np.round((1.00 - 0.0) / 0.01)) + 1, endpoint=True)


@dataclass(frozen=True)
class Threshold:
    """A class, or the mean of classes, with detections from one score on.

    Attributes:
        score: the least score.
        f1: harmonic mean of precision and recall.
        precision: the share of the detections that are right.
        recall: the share of the objects that are found.
    """

    score: float
    f1: float
    precision: float
    recall: float


@dataclass(frozen=True, eq=False)
class ClassCurve:
    """The n scored detections of a class by falling score.

    Attributes:
        objects: annotations of the class that should be found.
        scores: (n,).
        right: (n,) whether a detection found an annotation.
    """

    objects: int
    scores: Floats
    right: Flags

    @property
    def precision(self) -> Floats:
        """(n,) the share of right ones among the detections so far."""
        return np.cumsum(self.right) / np.arange(1, len(self.right) + 1)

    @property
    def recall(self) -> Floats:
        """(n,) the share of the objects that the detections so far found; NaN without objects."""
        hits = np.cumsum(self.right)
        return hits / self.objects if self.objects else np.full(len(hits), np.nan)

    @property
    def interpolated(self) -> Floats:
        """(101,) the best precision at each recall or beyond, as pycocotools stores it; NaN without objects."""
        return interpolated_precision(self.right, self.objects)

    @property
    def ap(self) -> float | None:
        """Mean of `interpolated`; None without objects."""
        return float(self.interpolated.mean()) if self.objects else None

    def best(self) -> Threshold | None:
        """The score from which on F1 is largest, of equal ones the highest; None without objects or detections."""
        if not self.objects or not len(self.scores):
            return None
        precision, recall = self.precision, self.recall
        f1 = harmonic_mean(precision, recall)
        f1[np.append(self.scores[1:] == self.scores[:-1], False)] = -1  # a threshold takes all of one score
        place = int(np.argmax(f1))
        numbers = (float(values[place]) for values in (self.scores, f1, precision, recall))
        return Threshold(*numbers)

    def at(self, thresholds: Floats) -> tuple[Floats, Floats]:
        """Precision and recall of the detections from each of T thresholds on.

        Returns:
            (T,) precision, NaN where there is no detection, and (T,) recall, NaN without objects.
        """
        counts = np.searchsorted(-self.scores, -thresholds, side="right")
        hits = np.concatenate([[0], np.cumsum(self.right)])[counts]
        with np.errstate(invalid="ignore"):
            precision = np.true_divide(hits, counts)
        return precision, hits / self.objects if self.objects else np.full(len(hits), np.nan)


def class_curves(compared: Comparison, matching: Matching) -> list[ClassCurve]:
    """The curve of each class; detections that are ignored are left out."""
    counted = np.flatnonzero(~matching.ignored)
    # By class, then by falling score; the order among equal scores stays that of the images, as in pycocotools.
    counted = counted[np.lexsort((-compared.scores[counted], compared.class_ids[counted]))]
    ends = np.cumsum(np.bincount(compared.class_ids[counted], minlength=len(compared.class_names)))
    rows: list[Ints] = np.split(counted, ends[:-1]) if len(ends) else []
    right = matching.right
    return [
        ClassCurve(int(objects), compared.scores[own], right[own])
        for objects, own in zip(compared.objects, rows, strict=True)
    ]


def interpolated_precision(right: Flags, objects: int) -> Floats:
    """Pycocotools' `accumulate` for one class: the precision at the 101 recalls.

    Args:
        right: (n,) by falling score.
        objects: annotations that should be found.

    Returns:
        (101,) precision, 0 beyond the largest recall; NaN without objects.
    """
    if not objects:
        return np.full(len(RECALLS), np.nan)
    hits = np.cumsum(right, dtype=np.float64)
    precision = hits / (np.arange(1, len(right) + 1) + np.spacing(1))
    rising = np.maximum.accumulate(precision[::-1])[::-1]
    rising = np.append(rising, 0.0)  # of recalls that are never reached
    return np.asarray(rising[np.searchsorted(hits / objects, RECALLS, side="left")])


def mean_precision(curves: list[ClassCurve]) -> float | None:
    """The mean AP of the classes with objects at the IoU of the matching; None if there is none."""
    known = [curve.ap for curve in curves if curve.ap is not None]
    return float(np.mean(known)) if known else None


def harmonic_mean(precision: Floats, recall: Floats) -> Floats:
    """F1; 0 where both are 0."""
    total = precision + recall
    return np.divide(2 * precision * recall, total, out=np.zeros(len(total)), where=total > 0)


def mean_f1(curves: list[ClassCurve], thresholds: Floats) -> Floats:
    """(T,) mean F1 of the classes with objects; a class without a detection counts 0. NaN if none has objects."""
    known = [curve.at(thresholds) for curve in curves if curve.objects]
    if not known:
        return np.full(len(thresholds), np.nan)
    return np.asarray(np.mean([harmonic_mean(np.nan_to_num(p), r) for p, r in known], axis=0))


def best_mean_threshold(curves: list[ClassCurve], most: int = 1000) -> Threshold | None:
    """The score from which on the mean F1 of the classes is largest; None without objects or detections.

    Args:
        curves: the classes.
        most: scores that are tried, evenly taken from those of all detections.
    """
    known = [curve for curve in curves if curve.objects]
    scores = np.unique(np.concatenate([curve.scores for curve in known])) if known else np.empty(0)
    if not len(scores):
        return None
    if len(scores) > most:
        scores = scores[np.linspace(0, len(scores) - 1, most).round().astype(np.int64)]
    f1 = mean_f1(known, scores)
    place = len(f1) - 1 - int(np.argmax(f1[::-1]))
    numbers = [curve.at(scores[place : place + 1]) for curve in known]
    precision, recall = (float(np.mean(np.nan_to_num(np.concatenate(side)))) for side in zip(*numbers, strict=True))
    return Threshold(float(scores[place]), float(f1[place]), precision, recall)
