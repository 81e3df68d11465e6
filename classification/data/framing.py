"""How a picture becomes the square that the network sees in validation and prediction, by timm's transforms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_eval
from torch import Tensor

from engine.reading.images import UInt8Array

CropMode = Literal["center", "squash", "border"]
Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class Framing:
    """Scales a picture and cuts the square out; it can be sent to processes.

    Attributes:
        image_size: side of the square in pixels.
        crop_pct: share of the scaled picture's side that the square is.
        crop_mode: see `classification.network.family.ClassifierArchitecture`.
        interpolation: of the scaling.
        mean: of each channel in 0..1, the colour beside the picture where `crop_mode` is `border`.
    """

    image_size: int
    crop_pct: float
    crop_mode: CropMode
    interpolation: Interpolation
    mean: tuple[float, ...]

    @cached_property
    def _transforms(self) -> Callable[[Image.Image], Tensor]:
        transforms: Callable[[Image.Image], Tensor] = transforms_imagenet_eval(
            self.image_size,
            crop_pct=self.crop_pct,
            crop_mode=self.crop_mode,
            interpolation=self.interpolation,
            mean=self.mean,
            use_prefetcher=True,  # it ends with uint8 pixels; the network itself normalises them
        )
        return transforms

    def window(self, image_hw: tuple[int, int]) -> tuple[float, float, float, float]:
        """The left, top, right and bottom of the square in pixels of a picture of this height and width.

        It may reach beyond the picture, where the mean colour is.
        """
        scaled = math.floor(self.image_size / self.crop_pct)
        sides = []
        for side in image_hw:
            if self.crop_mode == "squash":
                sides.append(scaled)
            elif self.crop_mode == "border":
                sides.append(round(side * scaled / max(image_hw)))
            else:
                sides.append(int(scaled * side / min(image_hw)))
        edges = []
        for side, length in zip(image_hw, sides, strict=True):
            beside = self.image_size - length
            start = -(beside // 2) if beside > 0 else round(-beside / 2)  # as `CenterCropOrPad`
            edges.append((start * side / length, (start + self.image_size) * side / length))
        (top, bottom), (left, right) = edges
        return left, top, right, bottom

    def __call__(self, image: UInt8Array) -> Tensor:
        """(S, S, 3) uint8 of an (H, W, 3) uint8 RGB image."""
        return self._transforms(Image.fromarray(image)).permute(1, 2, 0)
