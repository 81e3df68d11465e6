"""How a picture becomes the square that the network sees in validation and prediction, by timm's transforms."""

from __future__ import annotations

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

    def __call__(self, image: UInt8Array) -> Tensor:
        """(S, S, 3) uint8 of an (H, W, 3) uint8 RGB image."""
        return self._transforms(Image.fromarray(image)).permute(1, 2, 0)
