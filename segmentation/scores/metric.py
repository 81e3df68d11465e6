"""The scores of a segmentation as one object: numbers to log, a table to read, a dictionary to store."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from segmentation.data.cityscapes.labels import CITYSCAPES
from segmentation.data.classes import MaskClasses
from segmentation.scores.cityscapes_scores import CATEGORIES, ID_COUNT, InstanceSums, cityscapes_scores
from segmentation.scores.confusion import Counts, Floats, class_accuracies, class_ious, mean_of_valid, pixel_accuracy

PerClass = Mapping[str, float | None]


@dataclass(frozen=True)
class SegmentationScores:
    """Scores over a whole set, each in [0, 1].

    A class that is neither true nor predicted anywhere has no score, shown as None, and no mean counts it. A mean of
    no class is NaN.

    Attributes:
        miou: mean IoU of the classes.
        pixel_accuracy: share of the counted pixels that are right.
        mean_accuracy: mean share of a class's pixels that are found.
        class_ious: IoU by class name.
        class_iious: instance-weighted IoU by class name, of Cityscapes' eight; empty where it was not measured.
        category_ious: IoU by category name, of Cityscapes' seven; else empty.
        category_iious: instance-weighted IoU by category name, of Cityscapes' two; empty where not measured.
        boundary_fs: boundary F-score by class name, the mean over images; empty where it was not measured.
        boundary_ious: IoU of the bands along outlines by class name, of the pixels of all images; empty where it was
            not measured.
        confusion: (K, K + 1) pixels by true class and predicted class; the last column is for pixels given no class.
    """

    miou: float
    pixel_accuracy: float
    mean_accuracy: float
    class_ious: PerClass
    class_iious: PerClass = field(default_factory=dict)
    category_ious: PerClass = field(default_factory=dict)
    category_iious: PerClass = field(default_factory=dict)
    boundary_fs: PerClass = field(default_factory=dict)
    boundary_ious: PerClass = field(default_factory=dict)
    confusion: Counts = field(default_factory=lambda: np.zeros((0, 1), np.int64), repr=False, compare=False)

    @staticmethod
    def names(cityscapes: bool, boundary: bool) -> tuple[str, ...]:
        """The names of the means that an evaluation may have, without the prefix of `as_dict`.

        Args:
            cityscapes: whether Cityscapes' category and instance scores are measured.
            boundary: whether the boundary F-score and boundary IoU are.
        """
        benchmark = ("iiou", "category_iou", "category_iiou") if cityscapes else ()
        return (
            "miou",
            "pixel_accuracy",
            "mean_accuracy",
            *benchmark,
            *(("boundary_f", "boundary_iou") if boundary else ()),
        )

    def as_dict(self, prefix: str = "val_") -> dict[str, float]:
        """The means by name, as a logger takes them: `val_miou` and so on; only those that were measured."""
        numbers = {
            "miou": self.miou,
            "pixel_accuracy": self.pixel_accuracy,
            "mean_accuracy": self.mean_accuracy,
        }
        means = {
            "iiou": self.class_iious,
            "category_iou": self.category_ious,
            "category_iiou": self.category_iious,
            "boundary_f": self.boundary_fs,
            "boundary_iou": self.boundary_ious,
        }
        numbers |= {name: _mean(values) for name, values in means.items() if values}
        return {prefix + name: value for name, value in numbers.items()}

    def to_dict(self) -> dict[str, object]:
        """All numbers in JSON's types; a number that does not exist is null."""
        whole = {name: None if math.isnan(value) else value for name, value in self.as_dict("").items()}
        names = ("class_ious", "class_iious", "category_ious", "category_iious", "boundary_fs", "boundary_ious")
        parts = {name: dict(getattr(self, name)) for name in names if getattr(self, name)}
        return {**whole, **parts, "confusion": self.confusion.tolist()}

    def never_found(self) -> dict[str, list[str]]:
        """The classes with pixels of which not one is found."""
        return {"pixels": [name for name, iou in self.class_ious.items() if iou is not None and iou <= 0]}

    def table(self, per_class: bool = True) -> str:
        """Text: classes and categories with their scores, `-` where there is none, and the means below them."""
        lines: list[str] = []
        columns = {
            "IoU": self.class_ious,
            "iIoU": self.class_iious,
            "boundary F": self.boundary_fs,
            "boundary IoU": self.boundary_ious,
        }
        lines += _block("class", columns, per_class)
        if self.category_ious:
            columns = {"IoU": self.category_ious, "iIoU": self.category_iious}
            lines += ["", *_block("category", columns, per_class)]
        lines += ["", f" pixel accuracy {_text(self.pixel_accuracy)}   mean accuracy {_text(self.mean_accuracy)}"]
        return "\n".join(lines)


def class_scores(
    classes: MaskClasses, confusion: Counts, boundary: Floats | None = None, bands: Floats | None = None
) -> SegmentationScores:
    """Scores for any class list.

    Args:
        classes: K classes.
        confusion: (K, K + 1) pixels by true class and predicted class, the last column for no class.
        boundary: (K,) boundary F-scores, NaN for none.
        bands: (K,) boundary IoUs, NaN for none.
    """
    ious = class_ious(confusion)
    return SegmentationScores(
        miou=mean_of_valid(ious),
        pixel_accuracy=pixel_accuracy(confusion),
        mean_accuracy=mean_of_valid(class_accuracies(confusion)),
        class_ious=_by_name(classes.names, ious),
        boundary_fs={} if boundary is None else _by_name(classes.names, boundary),
        boundary_ious={} if bands is None else _by_name(classes.names, bands),
        confusion=confusion,
    )


def benchmark_scores(
    confusion: Counts, instances: InstanceSums | None, boundary: Floats | None = None, bands: Floats | None = None
) -> SegmentationScores:
    """Scores as the Cityscapes benchmark gives them.

    Args:
        confusion: (34, 34) pixels by true id and predicted id.
        instances: sums over the set; without them there is no iIoU.
        boundary: (19,) boundary F-scores, NaN for none.
        bands: (19,) boundary IoUs, NaN for none.
    """
    scores = cityscapes_scores(confusion, instances)
    ids = list(CITYSCAPES.label_ids)
    others = [label_id for label_id in range(ID_COUNT) if label_id not in ids]
    counted = confusion[ids]
    reduced = np.concatenate([counted[:, ids], counted[:, others].sum(axis=1, keepdims=True)], axis=1)
    return SegmentationScores(
        miou=mean_of_valid(scores.class_ious),
        pixel_accuracy=pixel_accuracy(reduced),
        mean_accuracy=mean_of_valid(class_accuracies(reduced)),
        class_ious=_by_name(CITYSCAPES.names, scores.class_ious),
        class_iious={} if instances is None else _by_name(CITYSCAPES.names, scores.class_iious),
        category_ious=_by_name(CATEGORIES, scores.category_ious),
        category_iious={} if instances is None else _by_name(CATEGORIES, scores.category_iious),
        boundary_fs={} if boundary is None else _by_name(CITYSCAPES.names, boundary),
        boundary_ious={} if bands is None else _by_name(CITYSCAPES.names, bands),
        confusion=reduced,
    )


def _by_name(names: Sequence[str], values: Floats) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in zip(names, values.tolist(), strict=True)}


def _mean(values: PerClass) -> float:
    return mean_of_valid(np.array([math.nan if value is None else value for value in values.values()]))


def _text(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:0.3f}"


def _block(title: str, columns: Mapping[str, PerClass], per_class: bool) -> list[str]:
    measured = {name: values for name, values in columns.items() if values}
    names = next(iter(measured.values())) if per_class else ()
    rows = [[name, *(_text(values[name]) for values in measured.values())] for name in names]
    rows = [[title, *measured], *rows, ["mean", *(_text(_mean(values)) for values in measured.values())]]
    widths = [max(5, *(len(row[column]) for row in rows)) for column in range(len(rows[0]))]
    return [
        f" {row[0]:<{widths[0]}}" + "".join(f"  {cell:>{w}}" for cell, w in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
