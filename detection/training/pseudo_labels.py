"""`python -m detection pseudo-labels`: what a detector found in unlabelled images as a training set.

The least score of each class follows from the validation set: where F1 is best, or where a wanted share of the boxes is
right. One score for all would lose the rarer classes, whose scores are lower (Sohn et al., "A Simple Semi-Supervised
Learning Framework for Object Detection", arXiv 2005.04757, takes one high score).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from detection.analysis.curves import ClassCurve, class_curves
from detection.analysis.matching import match
from detection.analysis.overlaps import Comparison
from detection.data.coco import CocoAnnotations
from detection.scores.documents import read_predictions
from detection.scores.result_files import decoded, read_bytes
from detection.scores.truth import GroundTruth
from engine.cli.commands import parse_function, program, run_command
from engine.errors import InputError
from engine.numbers import AboveZeroToOne
from engine.outputs import make_folder, write_json

_WHAT = "the detections.json that predict wrote: an object with images, annotations and categories"


class _Category(msgspec.Struct):
    id: int
    name: str


class _Found(msgspec.Struct):
    categories: list[_Category]
    images: list[dict[str, object]]
    annotations: list[dict[str, object]]


class Labelled(NamedTuple):
    """What was kept.

    Attributes:
        least: the least score of each class by name; None for a class that has none, of which nothing is kept.
        images: number of images with a box.
        of_images: number of all images.
        boxes: number of boxes by class.
    """

    least: dict[str, float | None]
    images: int
    of_images: int
    boxes: dict[str, int]

    def table(self) -> str:
        """A line for each class, and one for the images."""
        width = max(map(len, self.least), default=0)
        lines = [
            f"{name:<{width}}  {'no score reaches it' if score is None else f'from {score:.3f}'}  {self.boxes[name]:,}"
            for name, score in self.least.items()
        ]
        return "\n".join([*lines, f"{self.images:,} of {self.of_images:,} images have a box and are in the set"])


def pseudo_labels(
    ground_truth: str | Path,
    validated: str | Path,
    predictions: str | Path,
    output: str | Path,
    precision: AboveZeroToOne | None = None,
) -> Labelled:
    """Write what was found in unlabelled images, from each class's own least score on, as COCO annotations with scores.

    Images in which nothing is kept are left out: that nothing was found with certainty does not say that there is
    nothing.

    Args:
        ground_truth: COCO annotations of the validation set.
        validated: what the detector found there: the file of `validate --model.detections`, or a `detections.json`.
        predictions: the `detections.json` that `predict` wrote for the unlabelled images.
        output: the annotation file to write.
        precision: share of the boxes of a class that should be right; None takes the score of the best F1.

    Raises:
        InputError: a file is missing or is not what it should be, or no class has such a score.
    """
    make_folder(Path(output).parent)
    source = CocoAnnotations.to_score(ground_truth)
    truth = GroundTruth.of(source)
    compared = Comparison.of(truth, read_predictions(validated, source))
    curves = class_curves(compared, match(compared))
    names = compared.class_names
    least = {name: least_score(curve, precision) for name, curve in zip(names, curves, strict=True)}
    if all(score is None for score in least.values()):
        wanted = "with a right box" if precision is None else f"from which on a share of {precision} is right"
        msg = f"no class of '{ground_truth}' has a score {wanted}. Give a lower --precision, or train longer."
        raise InputError(msg)
    found = decoded(read_bytes(Path(predictions)), _Found, Path(predictions), _WHAT)
    named = {category.id: category.name for category in found.categories}
    kept, counts = [], dict.fromkeys(least, 0)
    for annotation in found.annotations:
        name, score = named.get(_number(annotation, "category_id")), annotation.get("score")
        bound = None if name is None else least.get(name)
        if name is None or bound is None or not isinstance(score, int | float) or score < bound:
            continue
        kept.append(annotation)
        counts[name] += 1
    with_boxes = {_number(annotation, "image_id") for annotation in kept}
    images = [image for image in found.images if _number(image, "id") in with_boxes]
    categories = [{"id": category.id, "name": category.name} for category in found.categories]
    write_json(output, {"images": images, "annotations": kept, "categories": categories})
    return Labelled(least, len(images), len(found.images), counts)


def least_score(curve: ClassCurve, precision: float | None) -> float | None:
    """The score from which on F1 is best, or the least one from which on so many boxes are right; None without one.

    Args:
        curve: of the class.
        precision: the share of right boxes; None for the best F1.
    """
    if precision is None:
        best = curve.best()
        return None if best is None or best.f1 == 0 else best.score
    scores = curve.scores
    if not len(scores):
        return None
    whole = np.append(scores[1:] != scores[:-1], True)  # a threshold takes all boxes of one score
    places = np.flatnonzero(whole & (curve.precision >= precision))
    return float(scores[places[-1]]) if len(places) else None


def _number(item: dict[str, object], key: str) -> int:
    value = item.get(key)
    return value if isinstance(value, int) else -1


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, print what was kept; returns 2 after one short line of error, else 0."""

    def act() -> None:
        command = f"{program('detection')} pseudo-labels"
        found = pseudo_labels(**parse_function(pseudo_labels, command, argv, __doc__))
        sys.stdout.write(found.table() + "\n")

    return run_command(act)
