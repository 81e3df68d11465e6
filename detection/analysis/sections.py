"""All that an analysis of boxes found, as chapters of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
from detection.scores.metric import BoxScores
from engine.reports.choosing import WORST, sample
from engine.reports.contents import Figure, Gallery, ImageCard, Section


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
    """The worst images, and a fixed choice, in which two runs agree."""
    order = found.counts.worst_first()
    faulty = order[found.counts.mistakes[order].sum(axis=1) > 0].tolist()
    names = {row: images.name(image_id) for row, image_id in enumerate(found.compared.image_ids.tolist())}
    worst = Gallery(
        "The worst images", _cards(found, faulty[:WORST], names, images), len(faulty),
        f"By their own F1; {found.conventions}.",
    )  # fmt: skip
    chosen = Gallery("A sample", _cards(found, sample(names), names, images), len(names), "The same in each run.")
    return [gallery for gallery in (worst, chosen) if gallery.cards]


def _cards(found: BoxAnalysis, rows: Sequence[int], names: Mapping[int, str], images: Images) -> tuple[ImageCard, ...]:
    cards = []
    for row in rows:
        image = images.pixels(int(found.compared.image_ids[row]))
        if image is not None:
            drawn = found.drawn, found.drawn_mistakes, found.mistakes.missed, found.counts
            cards.append(image_card(*drawn, row, names[row], image))
    return tuple(cards)
