"""Random changes of a training image and its mask: the recipe of semantic segmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar, Protocol

import numpy as np

from engine.checked import Checked
from engine.data.augment import (
    Augmenter,
    Mixing,
    Transform,
    albumentations_library,
    build_transform,
    check_scales,
    policy_changes,
)
from engine.data.policies.settings import MaskPolicy
from engine.numbers import AboveZeroToOne, ClosedUnitInterval, PositiveFloat, ZeroToHalf
from engine.reading.images import UInt8Array


class Wanting(Protocol):
    """A crop that looks for a row of the mask."""

    wanted: int | None


class CropAugmenter(Protocol):
    """What a data set calls; anything with this signature can be used instead."""

    def __call__(
        self, image: UInt8Array, class_ids: UInt8Array, wanted: int | None = None
    ) -> tuple[UInt8Array, UInt8Array]:
        """Change (H, W, 3) uint8 RGB and (H, W) uint8 rows; all random numbers are from torch's generator.

        Args:
            image: the picture.
            class_ids: its mask.
            wanted: a row that the crop should show, if it can.

        Returns:
            Image and rows of the crop's size; rows beside the picture are `IGNORED`.
        """


@dataclass(frozen=True)
class SegmentationAugmentation(Checked):
    """What may happen to a training image.

    The defaults are mmsegmentation's for Cityscapes (configs/_base_/datasets/cityscapes.py); its photometric
    distortion applies each of its four changes to half of the images.

    Attributes:
        scale_min: smallest multiple of the image's own size.
        scale_max: largest multiple; what exceeds the crop is cut at random, and a smaller image is padded.
        max_class_ratio: a crop in which one class takes this share of the counted pixels or more is drawn again,
            up to ten times; 1 takes every crop.
        hflip: probability of a horizontal flip.
        vflip: probability of a vertical flip, for pictures that have no upright direction.
        rotate90: whether pictures are turned by a random multiple of 90 degrees.
        brightness: up to this share of the full range is added or subtracted.
        contrast: all values are multiplied by up to 1 +- this.
        saturation: the same for the distance from grey.
        hue: largest turn of the hue, as a fraction of the colour circle.
        extra: further transforms, applied to the crop in this order.
        policy: a published policy of random changes, after all of these.
        erasing: probability that noise replaces a rectangle of the crop, after the policy.
        mosaic: probability that a crop is made of parts of four.
        closing: share of the training at its end without mosaic.
    """

    scale_min: PositiveFloat = 0.5
    scale_max: PositiveFloat = 2.0
    max_class_ratio: AboveZeroToOne = 0.75
    hflip: ClosedUnitInterval = 0.5
    vflip: ClosedUnitInterval = 0.0
    rotate90: bool = False
    brightness: ClosedUnitInterval = 32 / 255
    contrast: ClosedUnitInterval = 0.5
    saturation: ClosedUnitInterval = 0.5
    hue: ZeroToHalf = 0.1
    extra: tuple[Transform, ...] = ()
    policy: MaskPolicy = MaskPolicy()
    erasing: ClosedUnitInterval = 0.0
    mosaic: ClosedUnitInterval = 0.0
    closing: ClosedUnitInterval = 0.1
    group: ClassVar[str] = "augmentation"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scales(self.scale_min, self.scale_max)

    @property
    def mixing(self) -> Mixing:
        """How crops are mixed."""
        return Mixing(self.mosaic, closing=self.closing)

    def build(self, crop_hw: tuple[int, int], fill_color: tuple[int, int, int]) -> CropAugmenter:
        """The albumentations pipeline for crops of one size.

        Args:
            crop_hw: height and width of the crops.
            fill_color: colour beside a picture that is smaller: the network's mean, RGB.

        Raises:
            InputError: a name in `extra` is unknown, or its arguments do not fit.
        """
        library = albumentations_library()
        from segmentation.data.scale_crop import ScaleCrop

        # Turned before the crop, as a turned crop would not have the crop's shape any more.
        transforms: list[object] = [library.RandomRotate90(p=1.0)] if self.rotate90 else []
        crop = ScaleCrop(crop_hw, self.scale_min, self.scale_max, self.max_class_ratio)
        transforms.append(crop)
        if self.hflip:
            transforms.append(library.HorizontalFlip(p=self.hflip))
        if self.vflip:
            transforms.append(library.VerticalFlip(p=self.vflip))
        transforms += self._photometric(library)
        transforms.extend(build_transform(entry) for entry in self.extra)
        transforms += policy_changes(self.policy, self.erasing, crop_hw, fill_color)
        return _Crops(Augmenter(transforms, crop_hw, fill_color), crop)

    def _photometric(self, library: ModuleType) -> list[object]:
        still = {"brightness": (1.0, 1.0), "contrast": (1.0, 1.0), "saturation": (1.0, 1.0), "hue": (0.0, 0.0)}
        saturation = {**still, "saturation": (1.0 - self.saturation, 1.0 + self.saturation)}
        hue = {**still, "hue": (-self.hue, self.hue)}
        linear = library.RandomBrightnessContrast
        changes: list[tuple[float, Callable[..., object], Mapping[str, object]]] = [
            (self.brightness, linear, {"brightness_limit": self.brightness, "contrast_limit": 0.0}),
            (self.contrast, linear, {"brightness_limit": 0.0, "contrast_limit": self.contrast}),
            (self.saturation, library.ColorJitter, saturation),
            (self.hue, library.ColorJitter, hue),
        ]
        return [transform(**settings, p=0.5) for amount, transform, settings in changes if amount]


class _Crops:
    """Connects `engine.data.augment` with samples without boxes."""

    def __init__(self, augmenter: Augmenter, crop: Wanting) -> None:
        self._augmenter = augmenter
        self._crop = crop

    def __call__(
        self, image: UInt8Array, class_ids: UInt8Array, wanted: int | None = None
    ) -> tuple[UInt8Array, UInt8Array]:
        self._crop.wanted = wanted
        changed = self._augmenter(image, np.empty((0, 4), dtype=np.float32), class_ids)
        assert changed.mask is not None
        return changed.image, changed.mask
