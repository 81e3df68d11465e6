"""What a segmenter learns from teachers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.checked import Checked
from engine.numbers import NonNegativeFloat, PositiveFloat


@dataclass(frozen=True)
class Distillation(Checked):
    """Segmenters that teach this one, on the images of the training, and how much their lessons count.

    Attributes:
        teachers: checkpoints of trained segmenters. They compute each batch without gradient and are not stored.
        logits: weight of where each class is (CWD, arXiv 2011.13256), 5 in its experiments on logits.
        temperature: of the softmax over the places of a class; the larger, the more the weak places count.
        enlarge: times that images are enlarged for the teachers, where these were trained on larger objects.
    """

    teachers: tuple[str, ...] = ()
    logits: NonNegativeFloat = 5.0
    temperature: PositiveFloat = 1.0
    enlarge: PositiveFloat = 1.0
    group: ClassVar[str] = "distillation"
