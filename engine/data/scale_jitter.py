"""Scale jitter and crop as one albumentations transform; importing it takes seconds."""

from __future__ import annotations

from collections.abc import Mapping

import albumentations
import numpy as np
import numpy.typing as npt

from engine.reading.images import FloatArray, Letterbox, Scalar, UInt8Array, resize, resize_labels


class ScaleJitter(albumentations.DualTransform):
    """Scale an image to a random multiple of the letter-box size, then crop it at random to the canvas.

    This is done as in google/automl `dataloader.py` (`set_training_random_scale_factors`, `resize_and_crop_image`):
    the factor is uniform, the aspect ratio stays, and the crop may lie anywhere. The result is at most `canvas_hw`
    large and is not padded. Only the part of the source that the crop shows is resized, by the resampler of prediction.
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
        factor = self.py_random.uniform(self.scale_min, self.scale_max)
        target_h, target_w = (max(1, int(factor * side)) for side in self.canvas_hw)
        image_h, image_w = params["shape"][:2]
        scaled_h, scaled_w = Letterbox.fit((image_h, image_w), (target_h, target_w)).scaled_hw
        offset_y = int(max(0, scaled_h - self.canvas_hw[0]) * self.py_random.random())
        offset_x = int(max(0, scaled_w - self.canvas_hw[1]) * self.py_random.random())
        return {
            "scaled_hw": (scaled_h, scaled_w),
            "offset_yx": (offset_y, offset_x),
            "crop_hw": (min(scaled_h, self.canvas_hw[0]), min(scaled_w, self.canvas_hw[1])),
        }

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
        if scaled_hw == crop_hw:
            return resize(img, scaled_hw)
        per_y, per_x = img.shape[0] / scaled_hw[0], img.shape[1] / scaled_hw[1]
        top, left = offset_yx[0] * per_y, offset_yx[1] * per_x
        # Rounding must not carry the region past the image: Pillow refuses that.
        bottom = min((offset_yx[0] + crop_hw[0]) * per_y, img.shape[0])
        right = min((offset_yx[1] + crop_hw[1]) * per_x, img.shape[1])
        return resize(img, crop_hw, (left, top, right, bottom))

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
