"""Key figures, the table of classes, and images with annotated and found boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.analysis.analysis import analyse_boxes
from detection.analysis.cards import SourceImages
from detection.analysis.sections import analysis_sections
from detection.data.boxes import BoxSource
from detection.scores.metric import BoxScores
from detection.scores.records import DetectionTable
from detection.scores.truth import GroundTruth
from engine.errors import InputError
from engine.reports.choosing import distinct_names, sample
from engine.reports.contents import Box, Cell, Column, Figure, Gallery, ImageCard, Section, Table
from engine.reports.encoding import encode_image

SCORE = 0.3  # where the page's slider stands at first
_LEAST_SCORE = 0.05  # of a box that the page holds
_MOST_BOXES = 100  # of an image

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


def box_figures(scores: BoxScores) -> tuple[Figure, ...]:
    """The twelve numbers; one that does not exist is None."""
    return tuple(
        Figure(_MEANINGS[name][0], value if value >= 0 else None, _MEANINGS[name][1])
        for name, value in scores.twelve.items()
    )


def box_sections(found: FoundBoxes, read: Reader) -> tuple[Section, ...]:
    """The chapters on boxes.

    Args:
        found: the evaluation.
        read: reads an image file as (H, W, 3) RGB.
    """
    analysis = analyse_boxes(GroundTruth.of(found.source), found.table, found.image_ids.tolist())
    return analysis_sections(analysis, found.scores, SourceImages(found.source, read))


def class_table(found: FoundBoxes) -> Table:
    """AP of each class, and how many objects and detections it has."""
    truth = GroundTruth.of(found.source)
    seen = np.isin(truth.annotation_image_ids, found.image_ids) & ~truth.crowd
    rows: list[tuple[Cell, ...]] = []
    for category, name in truth.category_names.items():
        objects = int(np.count_nonzero(truth.annotation_category_ids[seen] == category))
        boxes = int(np.count_nonzero((found.table.category_ids == category) & (found.table.scores >= SCORE)))
        rows.append((name, found.scores.per_class.get(name), objects, boxes))
    columns = (
        Column("class", "class"),
        Column("AP", "share", "mean over IoU 0.50 to 0.95", "max"),
        Column("objects", "count", "annotated, without crowds"),
        Column("boxes", "count", f"found with a score of at least {SCORE:g}"),
    )
    return Table("AP by class", columns, tuple(rows))


def sample_gallery(found: FoundBoxes, read: Reader) -> Gallery:
    """A fixed choice of images."""
    rows = np.flatnonzero(np.isin(found.source.image_ids, found.image_ids)).tolist()
    paths = [found.source.image_path(row) for row in rows]
    names = dict(zip(rows, distinct_names([str(path) for path in paths]), strict=True))
    cards = [image_card(found, row, names[row], read) for row in sample(names)]
    return Gallery("A sample", tuple(card for card in cards if card is not None), len(rows), "The same in each run.")


def image_card(found: FoundBoxes, row: int, name: str, read: Reader) -> ImageCard | None:
    """An image with its boxes; None if it cannot be read any more.

    Args:
        found: the evaluation.
        row: of the image in the source.
        name: what the card is called.
        read: reads an image file.
    """
    try:
        pixels = read(found.source.image_path(row))
    except InputError:
        return None
    names = GroundTruth.of(found.source).category_names
    height, width = pixels.shape[:2]
    return ImageCard(name, width, height, encode_image(pixels), (*_true(found, row), *_found(found, row, names)))


def _true(found: FoundBoxes, row: int) -> list[Box]:
    source = found.source
    names = GroundTruth.of(source).category_names
    start, end = source.box_ends[row : row + 2].tolist()
    return [
        Box(_corners(box), names[source.classes.category_ids[class_id]], "truth")
        for box, class_id in zip(
            source.boxes_xywh[start:end].tolist(), source.class_ids[start:end].tolist(), strict=True
        )
    ]


def _found(found: FoundBoxes, row: int, names: Mapping[int, str]) -> list[Box]:
    table = found.table
    mine = np.flatnonzero((table.image_ids == found.source.image_ids[row]) & (table.scores >= _LEAST_SCORE))
    mine = mine[np.argsort(-table.scores[mine], kind="stable")][:_MOST_BOXES]
    return [
        Box(_corners(box), names[category], "prediction", round(score, 4))
        for box, category, score in zip(
            table.boxes_xywh[mine].tolist(), table.category_ids[mine].tolist(), table.scores[mine].tolist(), strict=True
        )
    ]


def _corners(box_xywh: list[float]) -> tuple[float, float, float, float]:
    left, top, width, height = box_xywh
    return round(left, 2), round(top, 2), round(left + width, 2), round(top + height, 2)
