"""The teachers of a detector, read from the files that the user names."""

from __future__ import annotations

from detection.network.detector import Detector
from detection.network.model import EfficientDet
from detection.training.distiller import DetectorDistiller
from detection.training.settings import Distillation
from detection.weights.load import load_network
from engine.distillation.teachers import Teachers
from engine.errors import InputError


def make_distiller(student: Detector, config: Distillation) -> DetectorDistiller:
    """What compares a detector with its teachers.

    Raises:
        InputError: a teacher cannot be read, or does not fit the student, see `DetectorDistiller`; one of them has
            another head than EfficientDet's.
    """
    return DetectorDistiller(_of_family(student), Teachers(config.teachers, _load, EfficientDet.fold), config)


def _load(source: str) -> EfficientDet:
    return _of_family(load_network(source), source)


def _of_family(detector: Detector, source: str | None = None) -> EfficientDet:
    if not isinstance(detector, EfficientDet):
        whose = "model.head" if source is None else f"the head of the teacher '{source}'"
        msg = (
            f"{whose} is {detector.config.head}; only head efficientdet teaches and is taught. Leave the teachers out."
        )
        raise InputError(msg)
    return detector
