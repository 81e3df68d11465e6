"""Key figures, the table of classes, what is taken for what, and images under their true and found classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.reports.choosing import sample, worst
from engine.reports.contents import Cell, Column, Figure, Gallery, ImageCard, Matrix, Overlay, Section, Table
from engine.reports.encoding import encode_image, encode_overlay
from segmentation.data.classes import IGNORED, MaskClasses
from segmentation.scores.confusion import UInt8Array
from segmentation.scores.metric import SegmentationScores

_WRONG = np.array([[230, 0, 60]], np.uint8)
_RIGHT_ROW, _WRONG_ROW = 1, 0
_MOST_ROWS = 300  # of a table of images or of pairs of classes
_MEANINGS = {
    "miou": ("mIoU", "mean of the classes"),
    "pixel_accuracy": ("pixel accuracy", "share of the pixels that are right"),
    "mean_accuracy": ("mean accuracy", "share of a class that is found, mean of the classes"),
    "iiou": ("iIoU", "weighted by instances"),
    "category_iou": ("category IoU", "mean of the categories"),
    "category_iiou": ("category iIoU", "weighted by instances"),
    "boundary_f": ("boundary F", "mean of the classes"),
    "boundary_iou": ("boundary IoU", "along the outlines, mean of the classes"),
}


@dataclass(frozen=True, eq=False)
class MaskedImage:
    """An image with the classes of its pixels.

    Attributes:
        image: (H, W, 3) RGB.
        true_rows: (H, W) rows of the class list; `IGNORED` is not counted.
        found_rows: (H, W) rows of the class list.
    """

    image: UInt8Array
    true_rows: UInt8Array
    found_rows: UInt8Array


@dataclass(frozen=True, eq=False)
class FoundMasks:
    """An evaluation of masks.

    Attributes:
        classes: the class list.
        scores: of the whole set.
        image_scores: mean IoU of each image, by its place in the set; NaN for one without counted pixels.
        names: what the images are called, by the same places.
        look: computes an image again; None if it cannot be read any more.
    """

    classes: MaskClasses
    scores: SegmentationScores
    image_scores: Mapping[int, float]
    names: Mapping[int, str]
    look: Callable[[int], MaskedImage | None]


def mask_figures(scores: SegmentationScores) -> tuple[Figure, ...]:
    """The means; one that does not exist is None."""
    return tuple(
        Figure(_MEANINGS[name][0], None if math.isnan(value) else value, _MEANINGS[name][1])
        for name, value in scores.as_dict("").items()
    )


def mask_sections(found: FoundMasks) -> tuple[Section, ...]:
    """The chapters on masks."""
    known = {place: score for place, score in found.image_scores.items() if not math.isnan(score)}
    galleries = (
        Gallery("Images of the lowest mean IoU", _cards(found, worst(known)), len(known), "The lowest comes first."),
        Gallery("A sample", _cards(found, sample(found.names)), len(found.names), "The same in each run."),
    )
    return (
        Section(
            "Classes of pixels",
            (mask_table(found.scores), confusion_matrix(found.scores, found.classes), confused_pairs(found)),
        ),
        Section("Images under their classes", (*galleries, image_table(found))),
    )


def mask_table(scores: SegmentationScores) -> Table:
    """IoU, precision and recall of each class, and how many of the pixels it has."""
    confusion = scores.confusion.astype(np.float64)
    true, hits = confusion.sum(axis=1), np.diagonal(confusion)
    drawn = confusion[:, : len(confusion)].sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = {
            "precision": (hits / drawn, "share of the pixels given this class that have it"),
            "recall": (hits / true, "share of its pixels that are found"),
            "share": (true / true.sum(), "of all counted pixels"),
        }
    measured = {
        "iIoU": scores.class_iious, "boundary F": scores.boundary_fs, "boundary IoU": scores.boundary_ious,
    }  # fmt: skip
    extra = {name: values for name, values in measured.items() if values}
    rows: list[tuple[Cell, ...]] = []
    for row, (name, iou) in enumerate(scores.class_ious.items()):
        numbers = [_cell(values[row]) for values, _ in columns.values()]
        rows.append((name, iou, *numbers, *(values.get(name) for values in extra.values())))
    heads = (
        Column("class", "class"),
        Column("IoU", "share", "intersection over union of true and found pixels", "max"),
        *(Column(name, "share", detail, None if name == "share" else "max") for name, (_, detail) in columns.items()),
        *(Column(name, "share", "", "max") for name in extra),
    )
    return Table("Classes", heads, tuple(rows))


def confusion_matrix(scores: SegmentationScores, classes: MaskClasses) -> Matrix:
    """Pixels by true and found class; the column of no class is left out where it is empty."""
    whole = bool(scores.confusion[:, -1].any())
    counts = scores.confusion if whole else scores.confusion[:, :-1]
    columns = (*classes.names, "no class") if whole else classes.names
    note = "Pixels of all images; those that are not annotated are left out."
    return Matrix("Confusion", "truth", "found", classes.names, columns, counts.astype(np.float64), note)


def confused_pairs(found: FoundMasks) -> Table:
    """Which class was most often taken for which."""
    counts = found.scores.confusion.copy()
    true = counts.sum(axis=1)
    counts[np.arange(len(counts)), np.arange(len(counts))] = 0
    order = np.argsort(-counts, axis=None, kind="stable")[:_MOST_ROWS]
    names = (*found.classes.names, "no class")
    rows: list[tuple[Cell, ...]] = []
    for row, column in zip(*(side.tolist() for side in np.unravel_index(order, counts.shape)), strict=True):
        if counts[row, column]:
            share = float(counts[row, column] / true[row])
            rows.append((names[row], names[column], int(counts[row, column]), share))
    columns = (
        Column("truth", "class"), Column("found", "class"), Column("pixels", "count"),
        Column("share", "share", "of the pixels of the true class"),
    )  # fmt: skip
    return Table("The most common confusions", columns, tuple(rows))


def image_table(found: FoundMasks) -> Table:
    """The images, the worst first."""
    known = {place: score for place, score in found.image_scores.items() if not math.isnan(score)}
    rows: tuple[tuple[Cell, ...], ...] = tuple((found.names[place], known[place]) for place in worst(known, _MOST_ROWS))
    columns = (Column("image"), Column("mean IoU", "share", "of the classes that are true or found in it", "max"))
    rest = "" if len(rows) == len(known) else f"The first {len(rows)} of {len(known):,}."
    return Table("Images under their classes, the worst first", columns, rows, rest)


def _cards(found: FoundMasks, places: Sequence[int]) -> tuple[ImageCard, ...]:
    cards = (mask_card(found, place) for place in places)
    return tuple(card for card in cards if card is not None)


def mask_card(found: FoundMasks, place: int) -> ImageCard | None:
    """An image under its true classes, its found ones, and its wrong pixels; None if it cannot be read any more."""
    seen = found.look(place)
    if seen is None:
        return None
    colors = found.classes.color_by_class[: len(found.classes)]
    counted = seen.true_rows != IGNORED
    wrong = np.where(counted & (seen.true_rows != seen.found_rows), _WRONG_ROW, _RIGHT_ROW)
    score = found.image_scores.get(place, math.nan)
    height, width = seen.image.shape[:2]
    there = np.unique(np.concatenate([seen.true_rows[counted], seen.found_rows[counted]]))
    return ImageCard(
        found.names[place],
        width,
        height,
        encode_image(seen.image),
        overlays=(
            Overlay("true classes", encode_overlay(seen.true_rows, colors)),
            Overlay("found classes", encode_overlay(seen.found_rows, colors)),
            Overlay("wrong pixels", encode_overlay(wrong, _WRONG, alpha=190)),
        ),
        score=None if math.isnan(score) else score,
        score_name="mean IoU",
        class_names=tuple(found.classes.names[row] for row in there.tolist() if row < len(found.classes)),
    )


def color_names(classes: MaskClasses) -> tuple[str, ...]:
    """The colours of the class list as a page writes them, `#rrggbb`."""
    return tuple(f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in classes.colors)


def _cell(value: NDArray[np.float64]) -> float | None:
    number = float(value)
    return None if math.isnan(number) else number
