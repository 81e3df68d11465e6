"""The tables of an evaluation of boxes: classes, mistakes and images."""

from __future__ import annotations

import numpy as np

from detection.analysis.analysis import BoxAnalysis
from detection.analysis.cards import Images
from detection.analysis.charts import gains_note
from detection.analysis.mistakes import MEANINGS, MISTAKES
from detection.scores.metric import BoxScores
from engine.analysis.calibration import reliability
from engine.reports.contents import Cell, Column, Table

_MOST_ROWS = 300  # of a table of images or of pairs of classes


def class_table(found: BoxAnalysis, scores: BoxScores) -> Table:
    """The numbers of each class."""
    columns = (
        Column("class", "class"), Column("AP", "share", "mean over IoU 0.50 to 0.95", "max"),
        Column("objects", "count", "annotated, without crowds"), Column("AP50", "share", "at IoU 0.50", "max"),
        Column("best F1", "share", "at IoU 0.50", "max"), Column("least score", "number", "of the best F1"),
        Column("precision", "share", "there", "max"), Column("recall", "share", "there", "max"),
        Column("calibration error", "share", "expected, of all scores of the class", "min"),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for name, curve in zip(found.compared.class_names, found.curves, strict=True):
        best, error = curve.best(), reliability(curve.scores, curve.right).expected_error
        numbers = (None,) * 4 if best is None else (best.f1, best.score, best.precision, best.recall)
        known_error = None if np.isnan(error) else error
        rows.append((name, scores.per_class.get(name), curve.objects, curve.ap, *numbers, known_error))
    return Table("AP by class", columns, tuple(rows))


def pair_table(found: BoxAnalysis) -> Table:
    """The mistakes by kind and classes, the most common first."""
    shown, mistakes = found.shown, found.mistakes
    wrong = np.flatnonzero(mistakes.kinds >= 0)
    stands_for = mistakes.truths[wrong]
    true_rows = np.where(stands_for >= 0, shown.true_class_ids[stands_for], -1) if len(shown.crowd) else stands_for
    missed = shown.true_class_ids[mistakes.missed]
    keys = np.concatenate([
        np.stack([mistakes.kinds[wrong].astype(np.int64), true_rows, shown.class_ids[wrong]], axis=1),
        np.stack([np.full(len(missed), MISTAKES.index("missed")), missed, np.full(len(missed), -1)], axis=1),
    ])  # fmt: skip
    kinds, counts = np.unique(keys, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_MOST_ROWS]
    names = (*shown.class_names, None)  # the last is row -1
    rows = tuple(
        (MISTAKES[kind], names[true], names[predicted], count)
        for (kind, true, predicted), count in zip(kinds[order].tolist(), counts[order].tolist(), strict=True)
    )
    columns = (
        Column("mistake", "mistake"),
        Column("truth", "class"),
        Column("prediction", "class"),
        Column("count", "count"),
    )
    return Table("The most common mistakes", columns, rows, found.conventions)


def mistake_table(found: BoxAnalysis) -> Table:
    """How often each kind of mistake occurs, and what mending it would bring."""
    gains, counts = found.gains, found.mistakes.counts()
    rows: list[tuple[Cell, ...]] = [
        (kind, float(gain), int(count), MEANINGS[kind])
        for kind, gain, count in zip(MISTAKES, gains.by_mistake, counts, strict=True)
    ]
    rows += [
        ("all wrong detections", gains.false_positives, None, "every wrong detection removed"),
        ("all objects not found", gains.missed, None, "every object that was not found no longer counts"),
    ]
    columns = (
        Column("mistake", "mistake"), Column("AP50 gained", "share", "by mending it alone"),
        Column("count", "count", "of the detections that are shown"), Column("meaning"),
    )  # fmt: skip
    note = f"counts: {found.conventions}. {gains_note(found)}"
    return Table("Kinds of mistakes", columns, tuple(rows), note)


def image_table(found: BoxAnalysis, images: Images) -> Table:
    """The images, the worst first."""
    counts = found.counts
    columns = (
        Column("image"), Column("F1", "share", "of the image alone", "max"), Column("objects", "count"),
        Column("found", "count"), *(Column(kind, "count", MEANINGS[kind]) for kind in MISTAKES),
    )  # fmt: skip
    order = counts.worst_first()
    rows = tuple(
        (
            images.name(int(found.compared.image_ids[row])), float(counts.f1[row]), int(counts.objects[row]),
            int(counts.found[row]), *counts.mistakes[row].tolist(),
        )
        for row in order[:_MOST_ROWS].tolist()
    )  # fmt: skip
    rest = "" if len(order) <= _MOST_ROWS else f"; the first {_MOST_ROWS} of {len(order):,}"
    return Table("Images, the worst first", columns, rows, f"{found.conventions}{rest}")
