"""Changes of colours by Pillow, and of what is in boxes, as albumentations transforms; importing it takes seconds."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Protocol

import albumentations
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageOps

from engine.reading.images import FloatArray, UInt8Array

_ENHANCERS = {
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "brightness": ImageEnhance.Brightness,
    "sharpness": ImageEnhance.Sharpness,
}


def change_pixels(image: UInt8Array, change: str, amount: float) -> UInt8Array:
    """A change of the colours of an (H, W, 3) image.

    Args:
        image: RGB.
        change: color, contrast, brightness or sharpness, with a factor of which 1 changes nothing; solarize with a
            threshold, solarize_add with what darker values than 128 gain, posterize with a number of bits;
            autocontrast and equalize with nothing.
        amount: that number.
    """
    if change in _ENHANCERS:
        return np.array(_ENHANCERS[change](Image.fromarray(image)).enhance(amount))
    if change == "solarize":
        return np.array(ImageOps.solarize(Image.fromarray(image), round(amount)))
    if change == "posterize":
        return np.array(ImageOps.posterize(Image.fromarray(image), int(amount)))
    if change == "solarize_add":
        values = np.arange(256)
        return np.where(values < 128, (values + int(amount)).clip(0, 255), values).astype(np.uint8)[image]
    whole = ImageOps.autocontrast if change == "autocontrast" else ImageOps.equalize
    return np.array(whole(Image.fromarray(image)))


class PixelChange(albumentations.ImageOnlyTransform):
    """See `change_pixels`.

    Args:
        change: its name.
        amount: its number.
        p: how often.
    """

    class InitSchema(albumentations.BasicTransform.InitSchema):
        """The arguments, as albumentations checks them."""

        change: str
        amount: float

    def __init__(self, change: str, amount: float = 0.0, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.change = change
        self.amount = amount

    def apply(self, img: UInt8Array, **_: object) -> UInt8Array:
        """Change the image."""
        return change_pixels(img, self.change, self.amount)


class PatchTransform(Protocol):
    """What is asked of a transform of albumentations that changes patches."""

    def set_random_state(self, random_generator: np.random.Generator, py_random: random.Random) -> None:
        """Draw from these from now on."""

    def __call__(self, *, image: UInt8Array) -> Mapping[str, UInt8Array]:
        """A changed patch."""


class InsideBoxes(albumentations.ImageOnlyTransform):
    """Change what boxes show; the boxes stay. Each is changed with a third of the probability, as in the source.

    Args:
        transform: what changes a patch.
        share: the probability.
        p: whether the transform is done at all.
    """

    class InitSchema(albumentations.BasicTransform.InitSchema):
        """The arguments, as albumentations checks them."""

        transform: object
        share: float

    def __init__(self, transform: PatchTransform, share: float, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.transform = transform
        self.share = share / 3

    def get_params_dependent_on_data(
        self, params: Mapping[str, tuple[int, ...]], data: Mapping[str, FloatArray]
    ) -> dict[str, list[npt.NDArray[np.int64]]]:
        """Choose boxes, in pixels."""
        height, width = params["shape"][:2]
        boxes: Sequence[FloatArray] = [box for box in data.get("bboxes", ()) if self.py_random.random() < self.share]
        sides = np.array([width, height, width, height])
        return {"chosen": [(np.asarray(box[:4]) * sides).round().astype(np.int64) for box in boxes]}

    def apply(self, img: UInt8Array, *, chosen: Sequence[npt.NDArray[np.int64]], **_: object) -> UInt8Array:
        """Change the inside of the chosen boxes, one after the other."""
        self.transform.set_random_state(self.random_generator, self.py_random)
        image = img.copy()
        for left, top, right, bottom in chosen:
            patch = image[top:bottom, left:right]
            if min(patch.shape[:2]) > 1:
                image[top:bottom, left:right] = self.transform(image=np.ascontiguousarray(patch))["image"]
        return image
