"""The random changes of a training image: timm's transforms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_train
from torch import Tensor

from classification.data.framing import Framing
from classification.training.progressive import Stage
from engine.checked import Checked
from engine.errors import InputError
from engine.numbers import AboveZeroToOne, ClosedUnitInterval, NonNegativeFloat, PositiveFloat
from engine.reading.images import UInt8Array


@dataclass(frozen=True)
class ClassificationAugmentation(Checked):
    """The random changes of a training image, by timm.

    Attributes:
        area_min: least share of the picture that the crop shows (Szegedy et al., "Going deeper with convolutions"; the
            paper's recipe takes 0.08, sets whose objects fill the picture more).
        area_max: largest share.
        ratio_max: largest factor between the sides of the crop before it is scaled to a square; 1 keeps squares.
        hflip: probability of a horizontal flip.
        vflip: probability of a vertical flip, for pictures that have no upright direction.
        color: brightness, contrast and saturation are each multiplied by up to 1 +- this; not beside a policy.
        policy: AutoAugment `original` or `v0`, RandAugment such as `rand-m9-mstd0.5-inc1`, `3a`, or AugMix, in timm's
            notation; null changes nothing more.

    Raises:
        InputError: a value is out of range, or timm knows no such policy.
    """

    area_min: AboveZeroToOne = 0.08
    area_max: AboveZeroToOne = 1.0
    ratio_max: PositiveFloat = 4 / 3
    hflip: ClosedUnitInterval = 0.5
    vflip: ClosedUnitInterval = 0.0
    color: NonNegativeFloat = 0.4
    policy: str | None = None
    group: ClassVar[str] = "augmentation"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.area_min > self.area_max:
            msg = f"augmentation areas are {self.area_min} to {self.area_max}; allowed is area_min <= area_max."
            raise InputError(msg)
        if self.ratio_max < 1:
            msg = f"augmentation.ratio_max is {self.ratio_max}; it must be at least 1."
            raise InputError(msg)
        try:
            self._build(32, self.policy, "bicubic", (0.5, 0.5, 0.5))
        except (AssertionError, KeyError, ValueError) as error:
            msg = (
                f"augmentation.policy is '{self.policy}', which timm does not know. Give original, v0, 3a, "
                "rand-m9-mstd0.5-inc1 or the like."
            )
            raise InputError(msg) from error

    def build(self, stage: Stage, framing: Framing) -> TrainingTransform:
        """The transforms of a stage of the training.

        Args:
            stage: sets the size and the policy's magnitude.
            framing: sets the interpolation, and the colour of what a turn leaves open.
        """
        policy = stage.policy(self.policy)
        return TrainingTransform(self._build(stage.image_size, policy, framing.interpolation, framing.mean))

    def _build(
        self, side: int, policy: str | None, interpolation: str, mean: tuple[float, ...]
    ) -> Callable[[Image.Image], Tensor]:
        transforms: Callable[[Image.Image], Tensor] = transforms_imagenet_train(
            side,
            scale=(self.area_min, self.area_max),
            ratio=(1 / self.ratio_max, self.ratio_max),
            hflip=self.hflip,
            vflip=self.vflip,
            color_jitter=self.color or None,
            auto_augment=policy,
            interpolation=interpolation,
            mean=mean,
            use_prefetcher=True,  # it ends with uint8 pixels; the network itself normalises them
        )
        return transforms


@dataclass(frozen=True)
class TrainingTransform:
    """A training image as the network sees it; it can be sent to processes.

    Attributes:
        transforms: timm's, which draw from torch's generator, from `random` and from NumPy's global one.
    """

    transforms: Callable[[Image.Image], Tensor]

    def __call__(self, image: UInt8Array) -> Tensor:
        """(S, S, 3) uint8 of an (H, W, 3) uint8 RGB image."""
        return self.transforms(Image.fromarray(image)).permute(1, 2, 0)
