"""Random changes of a training image together with its boxes and its mask."""

from __future__ import annotations

from dataclasses import dataclass

from engine.data.augment import (
    Augmentation,
    Augmenter,
    ImageAugmenter,
    albumentations_library,
    build_transform,
    policy_changes,
)
from engine.data.policies.settings import BothPolicy
from engine.errors import InputError
from engine.numbers import ClosedUnitInterval, PositiveFloat


@dataclass(frozen=True)
class JointAugmentation(Augmentation):
    """The random changes of a training image; the same change applies to picture, boxes and mask.

    The scales are those of EfficientDet's recipe, except the smallest, which is that of semantic segmentation
    (google/automl hparams_config.py: 0.1 to 2; mmsegmentation configs/_base_/datasets/cityscapes.py: 0.5 to 2): at a
    tenth of its size a picture would cover only 1 % of the canvas.

    Attributes:
        hflip: probability of a horizontal flip.
        scale_min: smallest multiple of the letter-box size.
        scale_max: largest multiple; a picture larger than the canvas is cropped at random, a smaller one is padded.
        color: brightness, contrast and saturation are each multiplied by up to 1 +- this.
        hue: largest turn of the hue, as a fraction of the colour circle.
        min_side: boxes with a shorter side, in canvas pixels, are dropped.
        min_visible: boxes of which the crop shows a smaller part are dropped; 0 keeps even the smallest part.
        extra: further transforms, applied to the crop in this order.
        policy: a published policy of random changes, after all of these.
        erasing: probability that noise replaces a rectangle of the crop, after the policy.
        mosaic: probability that an image is made of parts of four.
        copy_paste: probability that objects of another image are pasted into it.
        mixup: not for images with masks, as a pixel of two images has no one class: 0.
        closing: share of the training at its end without mosaic, pasted objects and blends.
        vflip: probability of a vertical flip, for pictures that have no upper side.
        rotate90: whether pictures are turned by a random multiple of 90 degrees.
    """

    hflip: ClosedUnitInterval = 0.5
    scale_min: PositiveFloat = 0.5
    scale_max: PositiveFloat = 2.0
    min_visible: ClosedUnitInterval = 0.1
    policy: BothPolicy = BothPolicy()
    vflip: ClosedUnitInterval = 0.0
    rotate90: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mixup:
            msg = "augmentation.mixup is for boxes alone: a pixel of two images has no one class. Leave it out."
            raise InputError(msg)

    def build(self, canvas_hw: tuple[int, int], fill_color: tuple[int, int, int]) -> ImageAugmenter:
        """As `Augmentation.build`; masks are 255 beside the picture.

        Raises:
            InputError: a name in `extra` is unknown, or its arguments do not fit.
        """
        if self.only_crops and not self.rotate90:
            return self.cropping(canvas_hw, fill_color, self.vflip)
        library = albumentations_library()
        from engine.data.scale_jitter import ScaleJitter

        # Turned before the crop, because a turned crop would no longer have the shape of the canvas.
        transforms: list[object] = [library.RandomRotate90(p=1.0)] if self.rotate90 else []
        transforms.append(ScaleJitter(canvas_hw, self.scale_min, self.scale_max))
        transforms += [library.HorizontalFlip(p=self.hflip)] if self.hflip else []
        transforms += [library.VerticalFlip(p=self.vflip)] if self.vflip else []
        if self.color or self.hue:
            around_one = (1.0 - self.color, 1.0 + self.color)
            transforms.append(library.ColorJitter(around_one, around_one, around_one, (-self.hue, self.hue), p=1.0))
        transforms.extend(build_transform(entry) for entry in self.extra)
        transforms.extend(policy_changes(self.policy, self.erasing, canvas_hw, fill_color))
        return Augmenter(transforms, canvas_hw, fill_color, min_side=self.min_side, min_visible=self.min_visible)
