"""Key figures, the table of classes, and images with annotated and found boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.analysis.analysis import BoxAnalysis, analyse_boxes
from detection.analysis.cards import SourceImages
from detection.analysis.sections import analysis_figures, analysis_sections
from detection.data.boxes import BoxSource
from detection.scores.metric import BoxScores
from detection.scores.records import DetectionTable
from detection.scores.truth import GroundTruth
from engine.reports.contents import Figure, Section

Reader = Callable[[Path], NDArray[np.uint8]]

_MEANINGS = {
    "ap": ("AP", "mean over IoU 0.50 to 0.95"),
    "ap50": ("AP50", "at IoU 0.50"),
    "ap75": ("AP75", "at IoU 0.75"),
    "ap_small": ("AP small", "objects up to 32² pixels"),
    "ap_medium": ("AP medium", "up to 96² pixels"),
    "ap_large": ("AP large", "from 96² pixels"),
    "ar1": ("AR 1", "recall with 1 box an image"),
    "ar10": ("AR 10", "recall with 10"),
    "ar100": ("AR 100", "recall with 100"),
    "ar_small": ("AR small", "recall, up to 32² pixels"),
    "ar_medium": ("AR medium", "recall, up to 96² pixels"),
    "ar_large": ("AR large", "recall, from 96² pixels"),
}


@dataclass(frozen=True, eq=False)
class FoundBoxes:
    """An evaluation of boxes.

    Attributes:
        source: the annotated images.
        table: the detections, in the ids of the source.
        image_ids: the images that were scored.
        scores: COCO's numbers of them.
    """

    source: BoxSource
    table: DetectionTable
    image_ids: NDArray[np.int64]
    scores: BoxScores

    @cached_property
    def analysis(self) -> BoxAnalysis:
        """Curves, mistakes and calibration."""
        most = self.scores.max_detections
        return analyse_boxes(GroundTruth.of(self.source), self.table, self.image_ids.tolist(), most)

    @property
    def least_score(self) -> float:
        """Where the page's slider stands at first: at the best mean F1."""
        best = self.analysis.threshold
        return 0.0 if best is None else round(best.score, 3)


def box_figures(found: FoundBoxes) -> tuple[Figure, ...]:
    """The twelve numbers, and those of the analysis; one that does not exist is None."""
    twelve = tuple(
        Figure(_MEANINGS[name][0], value if value >= 0 else None, _MEANINGS[name][1])
        for name, value in found.scores.twelve.items()
    )
    return (*twelve, *analysis_figures(found.analysis))


def box_sections(found: FoundBoxes, read: Reader) -> tuple[Section, ...]:
    """The chapters on boxes.

    Args:
        found: the evaluation.
        read: reads an image file as (H, W, 3) RGB.
    """
    return analysis_sections(found.analysis, found.scores, SourceImages(found.source, found.image_ids, read))
