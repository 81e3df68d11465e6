"""Random changes of a training image and its boxes: EfficientDet's recipe."""

from __future__ import annotations

from dataclasses import dataclass

from engine.data.augment import Augmentation
from engine.data.policies.settings import BoxPolicy
from engine.numbers import ClosedUnitInterval, PositiveFloat


@dataclass(frozen=True)
class DetectionAugmentation(Augmentation):
    """What may happen to a training image; the defaults are EfficientDet's recipe (google/automl hparams_config.py).

    Attributes:
        hflip: probability of a horizontal flip.
        scale_min: smallest multiple of the letter-box size.
        scale_max: largest multiple; what exceeds the canvas is cut at random.
        color: brightness, contrast and saturation are each multiplied by up to 1 +- this.
        hue: largest turn of the hue, as a fraction of the colour circle.
        min_side: boxes with a shorter side, in canvas pixels, are dropped.
        min_visible: boxes of which the crop shows a smaller part are dropped; the paper keeps every sliver (0).
        extra: further transforms, applied to the crop in this order.
        policy: a published policy of random changes, after all of these.
        erasing: probability that noise replaces a rectangle of the crop, after the policy.
        mosaic: probability that an image is made of parts of four.
        copy_paste: probability that objects of another image are pasted into it.
        mixup: probability that it is blended with another.
        closing: share of the training at its end without mosaic, pasted objects and blends.
    """

    hflip: ClosedUnitInterval = 0.5
    scale_min: PositiveFloat = 0.1
    scale_max: PositiveFloat = 2.0
    min_visible: ClosedUnitInterval = 0.1
    policy: BoxPolicy = BoxPolicy()  # stated anew, as the help reads the source of this module alone
