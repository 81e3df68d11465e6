"""The curves, the confusion matrix and the bars of an evaluation of boxes."""

from __future__ import annotations

import numpy as np

from detection.analysis.analysis import BoxAnalysis
from detection.analysis.confusion import confusion
from detection.analysis.curves import RECALLS, harmonic_mean
from detection.analysis.matching import MATCH_IOU
from detection.analysis.mistakes import MISTAKES
from detection.data.boxes import Floats
from engine.reports.contents import Chart, Mark, Matrix, Series

_MOST_MARKED = 8  # classes whose best places are named in the chart; the table has those of all
_THRESHOLDS: Floats = np.linspace(0, 1, 201)


def precision_recall_chart(found: BoxAnalysis) -> Chart:
    """The curve of each class at the IoU of AP50."""
    known = [curve.interpolated for curve in found.curves if curve.objects]
    series = [Series("mean of the classes", RECALLS, np.mean(known, axis=0))] if known else []
    series += [
        Series(name, RECALLS, curve.interpolated, name)
        for name, curve in zip(found.compared.class_names, found.curves, strict=True)
        if curve.objects
    ]
    note = f"IoU {MATCH_IOU:g}; the mean of a curve is the AP50 of its class"
    return Chart(
        "Precision and recall", "recall", "precision", tuple(series), x_range=(0, 1), y_range=(0, 1.02), note=note
    )


def f1_chart(found: BoxAnalysis) -> Chart:
    """F1 over the least score that counts, with the best place of each class and of their mean."""
    series: list[Series] = []
    marks: list[Mark] = []
    for name, curve in zip(found.compared.class_names, found.curves, strict=True):
        best = curve.best()
        if best is None:
            continue
        precision, recall = curve.at(_THRESHOLDS)
        f1 = harmonic_mean(np.nan_to_num(precision), recall)
        series.append(Series(name, _THRESHOLDS, f1, name))
        if len(found.curves) <= _MOST_MARKED:
            marks.append(Mark(best.score, best.f1, f"{best.f1:.2f} at {best.score:.2f}", name))
    if found.threshold is not None:
        best = found.threshold
        marks.insert(0, Mark(best.score, best.f1, f"best mean F1 {best.f1:.3f} at {best.score:.3f}"))
        series.insert(0, Series("mean of the classes", _THRESHOLDS, _means(found)[2]))
    note = f"IoU {MATCH_IOU:g}; the thresholds are chosen on the images that they are measured on"
    return Chart(
        "F1 over the least score", "least score", "F1", tuple(series), x_range=(0, 1), y_range=(0, 1.02),
        marks=tuple(marks), note=note,
    )  # fmt: skip


def _means(found: BoxAnalysis) -> tuple[Floats, Floats, Floats]:
    """Mean precision, recall and F1 of the classes with objects; a class without a detection has precision 0."""
    known = [curve.at(_THRESHOLDS) for curve in found.curves if curve.objects]
    precision = np.mean([np.nan_to_num(p) for p, _ in known], axis=0)
    recall = np.mean([r for _, r in known], axis=0)
    f1 = np.mean([harmonic_mean(np.nan_to_num(p), r) for p, r in known], axis=0)
    return precision, recall, f1


def mean_chart(found: BoxAnalysis) -> Chart:
    """Mean precision, recall and F1 over the least score that counts."""
    names = ("precision", "recall", "F1")
    series = () if found.threshold is None else tuple(
        Series(name, _THRESHOLDS, values) for name, values in zip(names, _means(found), strict=True)
    )  # fmt: skip
    note = f"IoU {MATCH_IOU:g}; means of the classes"
    return Chart("Precision, recall and F1 over the least score", "least score", "share", series, x_range=(0, 1),
                 y_range=(0, 1.02), note=note)  # fmt: skip


def confusion_matrix(found: BoxAnalysis) -> Matrix:
    """Which class was taken for which."""
    names = (*found.compared.class_names, "background")
    counts = confusion(found.shown, found.shown_matching).counts.astype(np.float64)
    return Matrix("Confusion of classes", "truth", "prediction", names, names, counts, found.conventions)


def calibration_charts(found: BoxAnalysis) -> tuple[Chart, Chart]:
    """Whether scores are the shares of right detections, and how many detections have each score."""
    bins = found.calibration
    centres = (bins.edges[1:] + bins.edges[:-1]) / 2
    note = f"expected calibration error {bins.expected_error:.3f}, all classes, all scores, IoU {MATCH_IOU:g}"
    right = (Series("share that is right", centres, bins.right),)
    counts = (Series("detections", centres, bins.counts.astype(np.float64)),)
    return (
        Chart("Reliability of the scores", "score", "share that is right", right, kind="bar", x_range=(0, 1),
              y_range=(0, 1), diagonal=True, note=note),
        Chart("Detections by score", "score", "detections", counts, kind="bar", x_range=(0, 1), log_y=True),
    )  # fmt: skip


def gains_chart(found: BoxAnalysis) -> Chart:
    """What mending each kind of mistake would bring."""
    bars = tuple(
        Series(kind, np.array([float(place)]), np.array([gain]))
        for place, (kind, gain) in enumerate(zip(MISTAKES, found.gains.by_mistake.tolist(), strict=True))
    )
    title = "AP50 gained by mending each kind of mistake"
    return Chart(title, "", "AP50 gained", bars, kind="bar", note=gains_note(found))


def gains_note(found: BoxAnalysis) -> str:
    """How the gains are to be read."""
    return f"AP50 is {found.gains.ap:.3f}; each kind is mended alone, and as they hide each other, they do not add up"
