"""Which published policy changes training images: the choices on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from engine.checked import Checked
from engine.data.policies.tables import Policy
from engine.errors import InputError
from engine.numbers import PositiveInt, ZeroToTen

LAYERS = 1  # google/automl `hparams_config.py`, `randaugment_num_layers` and the level below
LEVEL = 5.0


@dataclass(frozen=True)
class BoxPolicy(Checked):
    """A published policy of random changes, for images with boxes.

    Attributes:
        name: randaugment does `layers` changes of a list, each at `level`; v0 is AutoAugment's policy for detection, v1
            to v3 are google/automl's further ones. They come after the crop and the colours.
        layers: changes of an image, of randaugment; null is 1.
        level: how strong they are, 0 to 10, of randaugment; null is 5.
    """

    name: Policy = "none"
    layers: PositiveInt | None = None
    level: ZeroToTen | None = None
    group: ClassVar[str] = "augmentation.policy"

    def __post_init__(self) -> None:
        super().__post_init__()
        for option, value in (("layers", self.layers), ("level", self.level)):
            if value is not None and self.name != "randaugment":
                msg = (
                    f"augmentation.policy.{option} is {value}, but policy '{self.name}' has none; only randaugment "
                    "does. Leave it out, or give --data.augmentation.policy.name randaugment."
                )
                raise InputError(msg)


@dataclass(frozen=True)
class BothPolicy(BoxPolicy):
    """A published policy of random changes, for images with boxes and masks.

    Attributes:
        name: randaugment does `layers` changes of a list, each at `level`; v2 and v3 are google/automl's. v0 and v1 are
            not for masks: they move what is inside single boxes.
        layers: changes of an image, of randaugment; null is 1.
        level: how strong they are, 0 to 10, of randaugment; null is 5.
    """

    name: Literal["none", "randaugment", "v2", "v3"] = "none"


@dataclass(frozen=True)
class MaskPolicy(BothPolicy):
    """A published policy of random changes, for images with masks alone.

    Attributes:
        name: randaugment does `layers` changes of a list, each at `level`; the policies of AutoAugment need boxes.
        layers: changes of an image, of randaugment; null is 1.
        level: how strong they are, 0 to 10, of randaugment; null is 5.
    """

    name: Literal["none", "randaugment"] = "none"
