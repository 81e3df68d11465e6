"""The teachers of a detector, read from the files that the user names."""

from __future__ import annotations

from detection.network.model import EfficientDet
from detection.training.distiller import DetectorDistiller
from detection.training.settings import Distillation
from detection.weights.load import load_network
from engine.distillation.teachers import Teachers


def make_distiller(student: EfficientDet, config: Distillation) -> DetectorDistiller:
    """What compares a detector with its teachers.

    Raises:
        InputError: a teacher cannot be read, or does not fit the student, see `DetectorDistiller`.
    """
    return DetectorDistiller(student, Teachers(config.teachers, load_network, EfficientDet.fold), config)
