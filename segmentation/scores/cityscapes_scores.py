"""The scores of the Cityscapes benchmark from counts: IoU and instance-weighted iIoU of classes and categories.

Source of the definitions: cityscapesScripts 2.3.0, `cityscapesscripts/evaluation/evalPixelLevelSemanticLabeling.py`.
Pixels whose true label is ignored are never counted; an ignored label that is predicted is a miss of the true class.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.errors import InputError
from segmentation.data.cityscapes.labels import LABELS
from segmentation.scores.confusion import Counts, Floats, UInt8Array

ID_COUNT = 1 + max(label.label_id for label in LABELS)
# Mean area of an instance of the training set in pixels; from the same file (`avgClassSize`).
MEAN_AREAS = {
    "bicycle": 4672.3249222261,
    "caravan": 36771.8241758242,
    "motorcycle": 6298.7200839748,
    "rider": 3930.4788056518,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "car": 12794.0202738185,
    "person": 3462.4756337644,
    "truck": 27855.1264367816,
    "trailer": 16926.9763313609,
}

_EVALUATED = sorted((label for label in LABELS if not label.ignored), key=lambda label: label.train_id)
_EVALUATED_IDS = np.array([label.label_id for label in _EVALUATED])
CATEGORIES = tuple(dict.fromkeys(label.category for label in _EVALUATED))
# A category's instances are told apart only if those of all its labels are, including ignored labels.
INSTANCE_CATEGORIES = tuple(
    name for name in CATEGORIES if all(label.has_instances for label in LABELS if label.category == name)
)
INSTANCE_LABELS = tuple(label for label in _EVALUATED if label.has_instances)
_INSTANCE_LABEL_IDS = np.array([label.label_id for label in INSTANCE_LABELS])

_by_id = {label.label_id: label for label in LABELS}
# By any 8-bit id: the index in INSTANCE_CATEGORIES, or -1.
_CATEGORY_BY_ID = np.full(256, -1, np.int8)
# By id: the index in INSTANCE_LABELS, or -1 for labels whose instances are not scored.
_PLACE_BY_ID = np.full(ID_COUNT, -1)
for _label in LABELS:
    if _label.category in INSTANCE_CATEGORIES:
        _CATEGORY_BY_ID[_label.label_id] = INSTANCE_CATEGORIES.index(_label.category)
for _place, _label in enumerate(INSTANCE_LABELS):
    _PLACE_BY_ID[_label.label_id] = _place
_AREA_BY_PLACE = np.array([MEAN_AREAS[label.name] for label in INSTANCE_LABELS])
_CATEGORY_BY_PLACE = _CATEGORY_BY_ID[_INSTANCE_LABEL_IDS]


class InstanceSums(NamedTuple):
    """Pixels inside instances, each instance weighted by its class's mean area over its own.

    Attributes:
        classes: (8, 2) found and missed, by `INSTANCE_LABELS`.
        categories: (2, 2) found and missed, by `INSTANCE_CATEGORIES`, where any label of the category is a hit.
    """

    classes: Floats
    categories: Floats

    @classmethod
    def zero(cls) -> InstanceSums:
        """The sums of no image."""
        return cls(np.zeros((len(INSTANCE_LABELS), 2)), np.zeros((len(INSTANCE_CATEGORIES), 2)))

    def plus(self, other: InstanceSums) -> InstanceSums:
        """The sums of both."""
        return InstanceSums(self.classes + other.classes, self.categories + other.categories)


class CityscapesScores(NamedTuple):
    """The benchmark's scores; NaN for a class that is neither true nor predicted, and for iIoU without instances.

    Attributes:
        class_ious: (19,) by row of `CITYSCAPES`.
        class_iious: (19,).
        category_ious: (7,) by `CATEGORIES`.
        category_iious: (7,).
    """

    class_ious: Floats
    class_iious: Floats
    category_ious: Floats
    category_iious: Floats


def instance_sums(predicted_ids: UInt8Array, instance_ids: npt.NDArray[np.integer]) -> InstanceSums:
    """What is found of the instances of one image.

    Args:
        predicted_ids: (H, W) Cityscapes ids.
        instance_ids: (H, W) values of `_instanceIds.png`: id * 1000 + k for single objects, the id for all else.

    Raises:
        InputError: an instance's id belongs to no label, or to an evaluated label without instances.
        ValueError: the sizes differ.
    """
    if predicted_ids.shape != instance_ids.shape:
        msg = f"label maps do not fit: {predicted_ids.shape} and {instance_ids.shape}"
        raise ValueError(msg)
    inside = np.flatnonzero(instance_ids > 1000)  # 1000 itself is not an instance, as in the official script
    numbers = instance_ids.ravel()[inside].astype(np.int64)
    predicted = predicted_ids.ravel()[inside]
    labels = numbers // 1000
    areas = np.bincount(numbers, minlength=1)
    things = np.flatnonzero(areas)
    _check_things(things)
    hits = np.bincount(numbers[predicted == labels], minlength=len(areas))
    alike = _CATEGORY_BY_ID[predicted] == _CATEGORY_BY_ID[labels]
    category_hits = np.bincount(numbers[alike], minlength=len(areas))

    places = _PLACE_BY_ID[things // 1000]
    things, places = things[places >= 0], places[places >= 0]
    weights = _AREA_BY_PLACE[places] / areas[things]
    return InstanceSums(
        _found_and_missed(hits[things], areas[things], weights, places, len(INSTANCE_LABELS)),
        _found_and_missed(
            category_hits[things], areas[things], weights, _CATEGORY_BY_PLACE[places], len(INSTANCE_CATEGORIES)
        ),
    )


def _check_things(things: npt.NDArray[np.int64]) -> None:
    for thing in things.tolist():
        label = _by_id.get(thing // 1000)
        if label is None or not (label.has_instances or label.ignored):
            what = "no label" if label is None else f"'{label.name}', which has no instances"
            msg = (
                f"the instance map has the value {thing}, and {thing // 1000} is {what}. Give Cityscapes' "
                "_instanceIds.png: id * 1000 + number for single things, the id for all else."
            )
            raise InputError(msg)


def _found_and_missed(
    hits: Counts, areas: Counts, weights: Floats, rows: npt.NDArray[np.integer], count: int
) -> Floats:
    found = np.bincount(rows, weights=hits * weights, minlength=count)
    missed = np.bincount(rows, weights=(areas - hits) * weights, minlength=count)
    return np.stack([found, missed], axis=1).astype(np.float64)  # bincount gives whole numbers for none


def cityscapes_scores(confusion: Counts, instances: InstanceSums | None) -> CityscapesScores:
    """The scores of a set.

    Args:
        confusion: (34, 34) pixels by true id and predicted id; rows of ignored labels are not used.
        instances: sums over the set, or None if the ground truth does not tell instances apart: then iIoU is NaN.
    """
    counted = confusion[_EVALUATED_IDS]  # (19, 34)
    hits = np.diagonal(confusion)[_EVALUATED_IDS]
    false = counted.sum(axis=0)[_EVALUATED_IDS] - hits
    class_iious = np.full(len(_EVALUATED), np.nan)
    category_ious = np.full(len(CATEGORIES), np.nan)
    category_iious = np.full(len(CATEGORIES), np.nan)
    if instances is not None:
        rows = [label.train_id for label in INSTANCE_LABELS]
        class_iious[rows] = _iiou(instances.classes, false[rows])
    for row, name in enumerate(CATEGORIES):
        members = np.array([label.category == name for label in _EVALUATED])
        columns = _EVALUATED_IDS[members]
        found = counted[members][:, columns].sum()
        whole = counted[members].sum() + counted[~members][:, columns].sum()
        category_ious[row] = found / whole if whole else np.nan
        if instances is not None and name in INSTANCE_CATEGORIES:
            # Here the ignored labels of the category count as predictions of it.
            columns = np.array([label.label_id for label in LABELS if label.category == name])
            strays = counted[~members][:, columns].sum()
            sums = instances.categories[INSTANCE_CATEGORIES.index(name)]
            category_iious[row] = _iiou(sums[None], strays[None])[0]
    with np.errstate(invalid="ignore"):
        return CityscapesScores(
            np.true_divide(hits, counted.sum(axis=1) + false), class_iious, category_ious, category_iious
        )


def _iiou(sums: Floats, false: Counts) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.asarray(sums[:, 0] / (sums[:, 0] + false + sums[:, 1]))
