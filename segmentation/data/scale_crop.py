"""The scale and crop of semantic segmentation as one albumentations transform; importing it takes seconds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from engine.data.augment import IGNORED
from engine.data.scale_jitter import ScaleJitter
from engine.reading.images import UInt8Array, resize_labels

_TRIES = 10  # as mmsegmentation's RandomCrop, and as DAFormer's for a crop with a rare class
# Share of the crop that the wanted class has to cover: half of DAFormer's 3,000 pixels, in its crops of 512 x 512.
_ENOUGH = 1500 / 512**2


class ScaleCrop(ScaleJitter):
    """Scale to a random multiple of the image's own size, then cut at random what exceeds the crop.

    As mmsegmentation `mmseg/datasets/transforms/transforms.py` (`RandomResize`, `RandomCrop` with `cat_max_ratio`): the
    factor is uniform, the aspect stays, and a crop in which one class takes `max_class_ratio` or more of the counted
    pixels is drawn again, up to ten times; the last one is used. Without a mask the first one is. Where a row is
    wanted, a crop that shows too little of it is drawn again too, and the one that shows most of it is used. The result
    is at most `crop_hw` large and not padded.
    """

    def __init__(self, crop_hw: tuple[int, int], scale_min: float, scale_max: float, max_class_ratio: float) -> None:
        super().__init__(crop_hw, scale_min, scale_max)
        self.max_class_ratio = max_class_ratio
        self.wanted: int | None = None  # a row that the next crop should show

    def get_params_dependent_on_data(
        self, params: Mapping[str, tuple[int, ...]], data: Mapping[str, npt.NDArray[np.uint8]]
    ) -> dict[str, tuple[int, int]]:
        """Draw the scaled size and the offset of the crop, both in scaled pixels."""
        factor = self.py_random.uniform(self.scale_min, self.scale_max)
        height, width = (max(1, round(factor * side)) for side in params["shape"][:2])
        crop_hw = (min(height, self.canvas_hw[0]), min(width, self.canvas_hw[1]))
        spare_y, spare_x = height - crop_hw[0], width - crop_hw[1]
        mask = data.get("mask")
        # An image that fits has only one crop.
        if (self.max_class_ratio == 1.0 and self.wanted is None) or not (spare_y or spare_x):
            mask = None
        best = -1.0
        for _ in range(_TRIES):
            offset_yx = (self.py_random.randint(0, spare_y), self.py_random.randint(0, spare_x))
            if mask is None:
                chosen = offset_yx
                break
            labels = resize_labels(mask, (height, width), crop_hw, offset_yx)
            shown = 1.0 if self.wanted is None else min(float((labels == self.wanted).mean()), _ENOUGH) / _ENOUGH
            if shown >= best:
                best, chosen = shown, offset_yx
            if shown == 1.0 and largest_share(labels) < self.max_class_ratio:
                break
        return {"scaled_hw": (height, width), "offset_yx": chosen, "crop_hw": crop_hw}


def largest_share(labels: UInt8Array) -> float:
    """Share of the most frequent class among the counted pixels of (H, W) labels; 1 where none is counted."""
    counts = np.bincount(labels.ravel(), minlength=IGNORED + 1)[:IGNORED]
    counted = int(counts.sum())
    return float(counts.max() / counted) if counted else 1.0
