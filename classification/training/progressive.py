"""Progressive learning: image size and regularisation grow together by stages.

Source: Tan and Le, "EfficientNetV2" (arXiv 2104.00298), algorithm 1 and table 6: the stages are equally long, and stage
i of M has size S_0 + (S_e - S_0) i / (M - 1), and likewise the magnitude of RandAugment, mixup and dropout.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeVar

from engine.checked import Checked
from engine.errors import InputError
from engine.numbers import CanvasSide, NonNegativeFloat, PositiveInt, ZeroToBelowOne

Value = TypeVar("Value")
_MAGNITUDE = re.compile(r"(?<=-)m\d+(?=-|$)")


class Stage(NamedTuple):
    """The settings of a stage.

    Attributes:
        image_size: side of the images in pixels.
        magnitude: of RandAugment; None leaves the policy as it is.
        mixup: alpha of mixup; None leaves it as it is.
        dropout: before the last layer; None leaves it as it is.
    """

    image_size: int
    magnitude: int | None
    mixup: float | None
    dropout: float | None

    def policy(self, given: str | None) -> str | None:
        """A policy of timm with the stage's magnitude.

        >>> Stage(128, 5, None, None).policy("rand-m9-mstd0.5")
        'rand-m5-mstd0.5'
        """
        if self.magnitude is None or given is None:
            return given
        return _MAGNITUDE.sub(f"m{self.magnitude}", given)


@dataclass(frozen=True)
class Progressive(Checked):
    """How a training grows; each pair is of the first and the last stage.

    Args:
        stages: how many stages there are; 1 trains as the other settings say from the start.
        image_size: side of the training images, in pixels; null is that of the network throughout.
        magnitude: of RandAugment; null leaves it to data.augmentation.policy.
        mixup: alpha of mixup; null leaves it to model.mixing.mixup.
        dropout: before the last layer; null leaves it to the architecture.
    """

    stages: PositiveInt = 1
    image_size: tuple[CanvasSide, CanvasSide] | None = None
    magnitude: tuple[PositiveInt, PositiveInt] | None = None
    mixup: tuple[NonNegativeFloat, NonNegativeFloat] | None = None
    dropout: tuple[ZeroToBelowOne, ZeroToBelowOne] | None = None
    group: ClassVar[str] = "progressive"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stages == 1 and (self.image_size or self.magnitude or self.mixup or self.dropout):
            msg = "progressive grows from a first to a last stage, but progressive.stages is 1. Give 2 or more."
            raise InputError(msg)

    def stage(self, number: int, image_size: int) -> Stage:
        """The settings of a stage.

        Args:
            number: from 0.
            image_size: the network's own size.

        >>> Progressive(4, image_size=(128, 300), magnitude=(5, 15)).stage(1, 384)
        Stage(image_size=185, magnitude=8, mixup=None, dropout=None)
        """
        share = min(number, self.stages - 1) / max(1, self.stages - 1)
        size = _between(self.image_size, share)
        magnitude = _between(self.magnitude, share)
        return Stage(
            image_size if size is None else round(size),
            None if magnitude is None else round(magnitude),
            _between(self.mixup, share),
            _between(self.dropout, share),
        )

    def number(self, seen: float, passes: float | None) -> int:
        """The stage of a place in a training.

        Args:
            seen: passes over the set before it.
            passes: passes of the whole training; None for one without an end, which stays in the last stage.
        """
        if passes is None:
            return self.stages - 1
        return min(self.stages - 1, int(self.stages * seen / max(passes, 1e-9)))


def _between(ends: tuple[float, float] | None, share: float) -> float | None:
    return None if ends is None else ends[0] + (ends[1] - ends[0]) * share


def check_policy(progressive: Progressive, policy: str | None) -> None:
    """Do nothing if a policy has a magnitude where one is to grow.

    Raises:
        InputError: it has none.
    """
    if progressive.magnitude is not None and (policy is None or _MAGNITUDE.search(policy) is None):
        msg = (
            f"progressive.magnitude is that of RandAugment, but data.augmentation.policy is {policy or 'null'}. Give a "
            "policy such as rand-m9-mstd0.5-inc1."
        )
        raise InputError(msg)
