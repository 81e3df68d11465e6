"""Scale jitter and crop as one albumentations transform; importing it takes seconds."""

from __future__ import annotations

from collections.abc import Mapping

import albumentations
import numpy as np
import numpy.typing as npt

from engine.data.crop import Scaling, drawn_scaling, scaled_part
from engine.reading.images import FloatArray, Scalar, UInt8Array, resize_labels


class ScaleJitter(albumentations.DualTransform):
    """Scale an image to a random multiple of the letter-box size, then crop it at random to the canvas.

    See `drawn_scaling` and `scaled_part`. The result is at most `canvas_hw` large and is not padded.
    """

    def __init__(self, canvas_hw: tuple[int, int], scale_min: float, scale_max: float) -> None:
        super().__init__(p=1.0)
        self.canvas_hw = canvas_hw
        self.scale_min = scale_min
        self.scale_max = scale_max

    def get_params_dependent_on_data(
        self, params: Mapping[str, tuple[int, ...]], data: Mapping[str, npt.NDArray[np.uint8]]
    ) -> dict[str, tuple[int, int]]:
        """Draw the scaled size and the offset of the crop, both in scaled pixels."""
        image_h, image_w = params["shape"][:2]
        scales = (self.scale_min, self.scale_max)
        return drawn_scaling(self.py_random, (image_h, image_w), self.canvas_hw, scales)._asdict()

    def apply(
        self,
        img: UInt8Array,
        *,
        scaled_hw: tuple[int, int],
        offset_yx: tuple[int, int],
        crop_hw: tuple[int, int],
        **_: object,
    ) -> UInt8Array:
        """Resize the part of the (H, W, 3) image that the crop shows."""
        return np.ascontiguousarray(scaled_part(img, Scaling(scaled_hw, offset_yx, crop_hw)))

    def apply_to_mask(
        self,
        mask: npt.NDArray[Scalar],
        *,
        scaled_hw: tuple[int, int],
        offset_yx: tuple[int, int],
        crop_hw: tuple[int, int],
        **_: object,
    ) -> npt.NDArray[Scalar]:
        """Resize the same part of the (H, W) labels."""
        return resize_labels(mask, scaled_hw, crop_hw, offset_yx)

    def apply_to_bboxes(
        self,
        bboxes: FloatArray,
        *,
        scaled_hw: tuple[int, int],
        offset_yx: tuple[int, int],
        crop_hw: tuple[int, int],
        **_: object,
    ) -> FloatArray:
        """Turn boxes (N, 4+) in fractions of the source into fractions of the crop; they may reach beyond it."""
        scaled, offset, crop = (np.array([y_x[1], y_x[0]] * 2) for y_x in (scaled_hw, offset_yx, crop_hw))
        moved = bboxes.copy()
        moved[:, :4] = (bboxes[:, :4] * scaled - offset) / crop
        return moved
