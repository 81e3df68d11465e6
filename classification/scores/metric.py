"""The scores of a classification as one object: numbers to log, a table to read, a dictionary to store.

Every measure is torchmetrics'; here is which of them are taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics.functional import classification as measures

from classification.data.classes import LabelClasses

_BINS = 15  # of the calibration error, as Guo et al., "On calibration of modern neural networks" (ICML 2017), take
_TOP = 5
PerClass = Mapping[str, float | None]
WORDS = {
    "top1": "top-1",
    "top5": "top-5",
    "balanced_accuracy": "balanced accuracy",
    "map": "mAP",
    "exact_match": "exact match",
    "f1_macro": "F1, mean of classes",
    "f1_micro": "F1, all labels",
    "calibration_error": "calibration error",
}


@dataclass(frozen=True)
class ClassificationScores:
    """Scores over a whole set.

    A class that no image has, has no score of its own, shown as None.

    Attributes:
        score: the one number by which the best checkpoint is chosen: top-1 accuracy where an image has one label, else
            the mean average precision of the classes.
        numbers: measures of the whole set by name.
        classes: measures by name, and in them the value of each class by its name.
        confusion: (K, K) images by true and found class; (K, 2, 2) for several labels: for each class absent and
            present, and in each found absent and found present.
    """

    score: float
    numbers: Mapping[str, float]
    classes: Mapping[str, PerClass]
    confusion: npt.NDArray[np.int64] = field(repr=False, compare=False)

    @staticmethod
    def names(classes: LabelClasses) -> tuple[str, ...]:
        """The names of the measures, without the prefix of `as_dict`."""
        if classes.several:
            return ("score", "map", "f1_macro", "f1_micro", "exact_match", "calibration_error")
        five = ("top5",) if len(classes) > _TOP else ()
        return ("score", "top1", *five, "balanced_accuracy", "f1_macro", "calibration_error")

    def as_dict(self, prefix: str = "val_") -> dict[str, float]:
        """The measures by name, as a logger takes them: `val_score`, `val_top1` and so on."""
        return {prefix + name: value for name, value in {"score": self.score, **self.numbers}.items()}

    def to_dict(self) -> dict[str, object]:
        """All numbers in JSON's types; a number that does not exist is null."""
        whole = {name: None if math.isnan(value) else value for name, value in self.as_dict("").items()}
        by_class = {name: dict(values) for name, values in self.classes.items()}
        return {**whole, "classes": by_class, "confusion": self.confusion.tolist()}

    def table(self) -> str:
        """Text: the measures of the set below those of each class, `-` where there is none."""
        names = list(next(iter(self.classes.values())))
        heads = ["class", *self.classes]
        rows = [heads, *([name, *(_text(values[name]) for values in self.classes.values())] for name in names)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
        lines = [
            f" {row[0]:<{widths[0]}}" + "".join(f"  {cell:>{w}}" for cell, w in zip(row[1:], widths[1:], strict=True))
            for row in rows
        ]
        whole = "   ".join(f"{WORDS[name]} {_text(value)}" for name, value in self.numbers.items())
        return "\n".join([*lines, "", f" {whole}"])


def single_scores(classes: LabelClasses, probabilities: Tensor, targets: Tensor) -> ClassificationScores:
    """The scores where each image has one label.

    Args:
        classes: K classes.
        probabilities: (N, K) float32.
        targets: (N,) int64 rows.
    """
    count = len(classes)
    found = probabilities.argmax(1)
    confusion = measures.multiclass_confusion_matrix(found, targets, num_classes=count)
    each = {
        "precision": measures.multiclass_precision(found, targets, average=None, num_classes=count),
        "recall": measures.multiclass_recall(found, targets, average=None, num_classes=count),
        "F1": measures.multiclass_f1_score(found, targets, average=None, num_classes=count),
    }
    images = confusion.sum(1)
    numbers = {"top1": float(measures.multiclass_accuracy(found, targets, average="micro", num_classes=count))}
    if count > _TOP:
        top = measures.multiclass_accuracy(probabilities, targets, average="micro", top_k=_TOP, num_classes=count)
        numbers["top5"] = float(top)
    there = images > 0
    numbers |= {
        "balanced_accuracy": float(each["recall"][there].mean()),
        "f1_macro": float(each["F1"][there].mean()),
        "calibration_error": float(
            measures.multiclass_calibration_error(probabilities, targets, n_bins=_BINS, norm="l1", num_classes=count)
        ),
    }
    return ClassificationScores(
        numbers["top1"], numbers, _by_class(classes.names, each, images), confusion.cpu().numpy().astype(np.int64)
    )


def several_scores(
    classes: LabelClasses, probabilities: Tensor, targets: Tensor, threshold: float
) -> ClassificationScores:
    """The scores where images have several labels.

    Args:
        classes: K classes.
        probabilities: (N, K) float32.
        targets: (N, K) of 0 and 1.
        threshold: classes of this probability or more are found.
    """
    rows = targets.long()
    count = len(classes)
    found = (probabilities >= threshold).long()
    confusion = measures.multilabel_confusion_matrix(found, rows, num_labels=count)
    each = {
        "AP": measures.multilabel_average_precision(probabilities, rows, average=None, num_labels=count),
        "precision": measures.multilabel_precision(found, rows, average=None, num_labels=count),
        "recall": measures.multilabel_recall(found, rows, average=None, num_labels=count),
        "F1": measures.multilabel_f1_score(found, rows, average=None, num_labels=count),
    }
    images = rows.sum(0)
    there = images > 0
    numbers = {
        "map": float(each["AP"][there].mean()),
        "f1_macro": float(each["F1"][there].mean()),
        "f1_micro": float(measures.multilabel_f1_score(found, rows, average="micro", num_labels=count)),
        "exact_match": float(measures.multilabel_exact_match(found, rows, num_labels=count)),
        "calibration_error": float(
            measures.binary_calibration_error(probabilities.flatten(), rows.flatten(), n_bins=_BINS, norm="l1")
        ),
    }
    return ClassificationScores(
        numbers["map"], numbers, _by_class(classes.names, each, images), confusion.cpu().numpy().astype(np.int64)
    )


def _by_class(names: Sequence[str], each: Mapping[str, Tensor], images: Tensor) -> dict[str, PerClass]:
    counts = images.tolist()
    found: dict[str, PerClass] = {}
    for measure, values in each.items():
        numbers = torch.nan_to_num(values.double(), nan=-1.0).tolist()
        found[measure] = {
            name: value if count and value >= 0 else None
            for name, value, count in zip(names, numbers, counts, strict=True)
        }
    return {**found, "images": {name: int(count) for name, count in zip(names, counts, strict=True)}}


def _text(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
