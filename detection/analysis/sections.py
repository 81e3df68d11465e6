"""All that an analysis of boxes found, as chapters of a report."""

from __future__ import annotations

import numpy as np

from detection.analysis.analysis import BoxAnalysis
from detection.analysis.cards import Images, image_card
from detection.analysis.charts import (
    calibration_charts,
    confusion_matrix,
    f1_chart,
    gains_chart,
    mean_chart,
    precision_recall_chart,
)  # fmt: skip
from detection.analysis.tables import class_table, image_table, mistake_table, pair_table
from detection.data.boxes import Ints
from detection.scores.metric import BoxScores
from engine.reports.contents import Figure, Gallery, ImageCard, Section

_WORST_CARDS, _OTHER_CARDS = 24, 8


def analysis_sections(found: BoxAnalysis, scores: BoxScores, images: Images) -> tuple[Section, ...]:
    """The chapters on boxes: scores, mistakes, calibration and images.

    Args:
        found: the analysis.
        scores: the numbers of the table.
        images: names and pixels.
    """
    curves = (precision_recall_chart(found), f1_chart(found), mean_chart(found))
    mistakes = (confusion_matrix(found), gains_chart(found), mistake_table(found), pair_table(found))
    return (
        Section("Scores of the boxes", (*curves, class_table(found, scores))),
        Section("Mistakes of the boxes", mistakes),
        Section("Calibration of the scores", calibration_charts(found)),
        Section("Images with boxes", (*_galleries(found, images), image_table(found, images))),
    )


def analysis_figures(found: BoxAnalysis) -> tuple[Figure, ...]:
    """The numbers that stand at the top beside those of the table."""
    best, error = found.threshold, found.calibration.expected_error
    figures: tuple[Figure, ...] = ()
    if best is not None:
        figures = (
            Figure("best F1", best.f1, f"mean of the classes, scores from {best.score:.3f} on"),
            Figure("precision", best.precision, "there"),
            Figure("recall", best.recall, "there"),
        )
    return (*figures, Figure("calibration error", None if np.isnan(error) else error, "expected, at IoU 0.5", "min"))


def _galleries(found: BoxAnalysis, images: Images) -> list[Gallery]:
    """The worst images, and some others, evenly taken."""
    order = found.counts.worst_first()
    faulty = order[found.counts.mistakes[order].sum(axis=1) > 0]
    worst = faulty[:_WORST_CARDS]
    others = np.setdiff1d(np.arange(len(order)), worst)
    others = (
        others[np.unique(np.linspace(0, len(others) - 1, _OTHER_CARDS).astype(np.int64))] if len(others) else others
    )
    chosen = {"The worst images": (worst, len(faulty), "by their own F1"),
              "Ground truth beside predictions": (others, len(order), "evenly taken from all")}  # fmt: skip
    galleries = []
    for title, (rows, total, how) in chosen.items():
        cards = _cards(found, rows, images)
        if cards:
            galleries.append(Gallery(title, tuple(cards), total, f"{how}; {found.conventions}"))
    return galleries


def _cards(found: BoxAnalysis, rows: Ints, images: Images) -> list[ImageCard]:
    cards = []
    for row in rows.tolist():
        image_id = int(found.compared.image_ids[row])
        image = images.pixels(image_id)
        if image is not None:
            shown = found.shown, found.shown_matching, found.mistakes, found.counts
            cards.append(image_card(*shown, row, images.name(image_id), image))
    return cards
