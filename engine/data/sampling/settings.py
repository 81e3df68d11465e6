"""How often each image of a training set comes: the choices on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from engine.checked import Checked
from engine.errors import InputError
from engine.numbers import AboveZeroToOne, PositiveFloat

RARE = 1e-3  # share of the images of a class that is just frequent enough, as LVIS trains
TEMPERATURE = 0.01  # DAFormer's, for the rare classes of streets


class Sampling(Protocol):
    """What the sampler asks of the choices of any task."""

    @property
    def name(self) -> str:
        """The word."""
        ...

    @property
    def rare(self) -> float:
        """The share of the images below which a class is rare, of repeat_factor."""
        ...

    @property
    def spread(self) -> float:
        """The temperature of rare_class."""
        ...


@dataclass(frozen=True)
class BoxSampling(Checked):
    """Which training images come more often.

    Attributes:
        name: every takes each image once in a pass; repeat_factor (LVIS) takes images with a rare class several times,
            for sets in which a few classes are rare; class_balanced takes an image of each class equally often,
            for few classes of very different size.
        threshold: share of the images that a class needs, so that it is not rare, of repeat_factor; null is 0.001, as
            for LVIS; 0.1 to 0.5 is for sets with few classes.
    """

    name: Literal["every", "repeat_factor", "class_balanced"] = "every"
    threshold: AboveZeroToOne | None = None
    group: ClassVar[str] = "sampling"
    spread: ClassVar[float] = TEMPERATURE

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_threshold(self.threshold, self.name)

    @property
    def rare(self) -> float:
        """See `Sampling`."""
        return RARE if self.threshold is None else self.threshold


@dataclass(frozen=True)
class MaskSampling(Checked):
    """Which training images come more often, by the classes of their pixels.

    Attributes:
        name: every takes each image once in a pass; repeat_factor (LVIS) takes images with a rare class several times;
            class_balanced takes an image of each class equally often, and cuts it where the class is; rare_class
            (DAFormer) does so more often for classes with few pixels, for streets and other scenes with thin objects.
        threshold: share of the images that a class needs, so that it is not rare, of repeat_factor; null is 0.001, as
            for LVIS; 0.1 to 0.5 is for sets with few classes.
        temperature: of rare_class: the smaller, the more the rarest classes are preferred; null is 0.01.
    """

    name: Literal["every", "repeat_factor", "class_balanced", "rare_class"] = "every"
    threshold: AboveZeroToOne | None = None
    temperature: PositiveFloat | None = None
    group: ClassVar[str] = "sampling"

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_threshold(self.threshold, self.name)
        if self.temperature is not None and self.name != "rare_class":
            msg = f"{self.group}.temperature is for name rare_class. Leave it out."
            raise InputError(msg)

    @property
    def rare(self) -> float:
        """See `Sampling`."""
        return RARE if self.threshold is None else self.threshold

    @property
    def spread(self) -> float:
        """See `Sampling`."""
        return TEMPERATURE if self.temperature is None else self.temperature


def _refuse_threshold(threshold: float | None, name: str) -> None:
    if threshold is not None and name != "repeat_factor":
        msg = "sampling.threshold is for name repeat_factor. Leave it out."
        raise InputError(msg)
