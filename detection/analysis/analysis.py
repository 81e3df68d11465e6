"""The numbers behind the pictures of an evaluation of boxes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from detection.analysis.cards import ImageCounts, count_images
from detection.analysis.curves import ClassCurve, Threshold, best_mean_threshold, class_curves
from detection.analysis.gains import Gains, mend
from detection.analysis.matching import MATCH_IOU, Matching, match
from detection.analysis.mistakes import Mistakes, find_mistakes
from detection.analysis.overlaps import MOST_PER_CLASS, Comparison
from detection.scores.records import DetectionTable
from detection.scores.truth import GroundTruth
from engine.analysis.calibration import Reliability, reliability

LEAST_DRAWN = 0.05  # score of a box on a card; the page's slider hides those that do not count


@dataclass(frozen=True, eq=False)
class BoxAnalysis:
    """The numbers behind the pictures: of all detections, and of those that are shown.

    Attributes:
        compared: all detections and annotations.
        matching: their matches at `MATCH_IOU`.
        curves: of each class.
        gains: AP that mending each kind of mistake would bring.
        calibration: of the scores of all classes together.
        threshold: the score from which on the mean F1 of the classes is largest; None where there is none.
        shown: detections from that score on, and all annotations.
        shown_matching: their matches.
        mistakes: their mistakes.
        counts: their counts by image.
        drawn: detections of which cards hold the boxes, from `LEAST_DRAWN` on.
        drawn_mistakes: their mistakes.
    """

    compared: Comparison
    matching: Matching
    curves: list[ClassCurve]
    gains: Gains
    calibration: Reliability
    threshold: Threshold | None
    shown: Comparison
    shown_matching: Matching
    mistakes: Mistakes
    counts: ImageCounts
    drawn: Comparison
    drawn_mistakes: Mistakes

    @property
    def conventions(self) -> str:
        """Which detections are shown, and what counts as a match."""
        least = self.threshold.score if self.threshold is not None else 0.0
        return f"scores from {least:.3f} on, where the mean F1 is best; IoU {MATCH_IOU:g}"


def analyse_boxes(
    truth: GroundTruth,
    table: DetectionTable,
    image_ids: Iterable[int] | None = None,
    most: int = MOST_PER_CLASS,
) -> BoxAnalysis:
    """Compare detections with annotations.

    Args:
        truth: the annotations.
        table: the detections, in the ids of the annotations.
        image_ids: the images that count; by default all of the annotations.
        most: detections of an image and class that count.
    """
    compared = Comparison.of(truth, table, image_ids, most)
    matching = match(compared)
    curves = class_curves(compared, matching)
    threshold = best_mean_threshold(curves)
    shown = compared.above(threshold.score if threshold is not None else 0.0)
    shown_matching = match(shown)
    mistakes = find_mistakes(shown, shown_matching)
    counted = ~matching.ignored
    drawn = compared.above(LEAST_DRAWN)
    return BoxAnalysis(
        compared=compared,
        matching=matching,
        curves=curves,
        gains=mend(compared, matching, find_mistakes(compared, matching)),
        calibration=reliability(compared.scores[counted], matching.right[counted]),
        threshold=threshold,
        shown=shown,
        shown_matching=shown_matching,
        mistakes=mistakes,
        counts=count_images(shown, shown_matching, mistakes),
        drawn=drawn,
        drawn_mistakes=find_mistakes(drawn, match(drawn)),
    )
