"""What a detector learns from teachers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from engine.checked import Checked
from engine.numbers import NonNegativeFloat, PositiveFloat


@dataclass(frozen=True)
class Distillation(Checked):
    """Detectors that teach this one, on the images of the training, and how much each lesson counts.

    Attributes:
        teachers: trained detectors: checkpoints, names of published ones, or their files. They compute each batch
            without gradient and are not stored.
        features: weight of the maps of the pyramid, compared channel by channel (PKD, arXiv 2207.02039); where the
            widths differ, layers of 1 x 1 adapt the student's, which no exported or predicting network has.
        classes: weight of the scores of all anchors (quality focal loss, arXiv 2006.04388).
        boxes: weight of the boxes of the anchors of which the teacher is sure, as a factor on the Huber loss with a
            weight of 50 that the task itself has.
        focusing: exponent by which scores that agree already count less.
        enlarge: times that images are enlarged for the teachers, whose levels then serve the student's one or two
            levels finer; null is the power of two that is nearest to the ratio of the canvases.
    """

    teachers: tuple[str, ...] = ()
    features: NonNegativeFloat = 2.0
    classes: NonNegativeFloat = 1.0
    boxes: NonNegativeFloat = 1.0
    focusing: PositiveFloat = 1.0
    enlarge: Literal[1, 2, 4] | None = None
    group: ClassVar[str] = "distillation"
