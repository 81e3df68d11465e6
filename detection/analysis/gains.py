"""How much AP each kind of mistake costs: the AP after mending it alone, less the AP as it is (TIDE's dAP)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detection.analysis.curves import interpolated_precision
from detection.analysis.matching import Matching
from detection.analysis.mistakes import CLASS, MISSED, MISTAKES, PLACED, Mistakes
from detection.analysis.overlaps import Comparison
from detection.data.boxes import Flags, Floats, Ints


@dataclass(frozen=True, eq=False)
class Gains:
    """AP in [0, 1] at the IoU of the matching, the mean of the classes with objects.

    Attributes:
        ap: as it is; NaN without objects.
        by_mistake: (6,) what mending each of `MISTAKES` adds. The sum is not 1 - AP: mistakes hide each other.
        false_positives: what the best AP without any wrong detection would add.
        missed: what finding every object, at the precision as it is, would add.
    """

    ap: float
    by_mistake: Floats
    false_positives: float
    missed: float


def mend(compared: Comparison, matching: Matching, mistakes: Mistakes) -> Gains:
    """Mend each kind of mistake alone, as tidecv 1.0.1 does (`errors/main_errors.py`).

    A badly placed detection, or one of the wrong class, finds its object if it is the best candidate for it, and is
    removed otherwise; a duplicate, or one on background, is removed; a missed object no longer counts. A loss, which
    the 101 steps of recall can bring, counts as 0.
    """
    counted = ~matching.ignored
    rows, classes = np.flatnonzero(counted), compared.class_ids[counted]
    scores, right = compared.scores[counted], matching.right[counted]
    objects = compared.objects
    whole = _mean_ap(classes, scores, right, objects, objects > 0)
    gains = np.zeros(len(MISTAKES))
    for kind in range(len(MISTAKES)):
        if kind == MISSED:
            fewer = objects - np.bincount(compared.true_class_ids[mistakes.missed], minlength=len(objects))
            mended = _mean_ap(classes, scores, right, fewer, objects > 0)
        else:
            own = mistakes.kinds[rows] == kind
            put_right = own & mistakes.candidates[rows] if kind in (PLACED, CLASS) else np.zeros(len(own), np.bool_)
            moved = classes.copy()
            if kind == CLASS:
                moved[put_right] = compared.true_class_ids[mistakes.truths[rows[put_right]]]
            kept = ~own | put_right
            mended = _mean_ap(moved[kept], scores[kept], (right | put_right)[kept], objects, objects > 0)
        gains[kind] = max(0.0, mended - whole)
    perfect = _mean_ap(classes[right], scores[right], right[right], objects, objects > 0)
    found = np.bincount(classes[right], minlength=len(objects))
    complete = _mean_ap(classes, scores, right, found, objects > 0)
    return Gains(whole, gains, max(0.0, perfect - whole), max(0.0, complete - whole))


def _mean_ap(classes: Ints, scores: Floats, right: Flags, objects: Ints, counted: Flags) -> float:
    """The mean of the counted classes; one whose objects are all mended away counts 0, as in tidecv."""
    order = np.lexsort((-scores, classes))
    ends = np.cumsum(np.bincount(classes, minlength=len(objects)))
    runs = np.split(right[order], ends[:-1]) if len(ends) else []
    found = [
        interpolated_precision(run, int(number)).mean() if number else 0.0
        for run, number, counts in zip(runs, objects, counted, strict=True)
        if counts
    ]
    return float(np.mean(found)) if found else float("nan")
