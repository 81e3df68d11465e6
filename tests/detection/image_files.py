"""Image files on one canvas, as validation lays them there: what a predictor's own way is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from detection.data.dataset import Sample
from engine.errors import InputError, SampleError
from engine.reading.images import Letterbox, UInt8Array, read_image


class ImageFiles(Dataset[Sample]):
    """Image files for prediction; image ids count from 0 in the order of `paths`."""

    def __init__(self, paths: Sequence[Path], canvas_hw: tuple[int, int], fill_color: tuple[int, int, int]) -> None:
        self.paths = list(paths)
        self.canvas_hw = canvas_hw
        self.fill_color = fill_color

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        try:
            image = read_image(self.paths[index])
        except InputError as error:
            raise SampleError(str(error)) from None
        letterbox = Letterbox.fit((image.shape[0], image.shape[1]), self.canvas_hw)
        return letterbox_sample(image, letterbox, self.fill_color, index)


def letterbox_sample(
    image: UInt8Array, letterbox: Letterbox, fill_color: tuple[int, int, int], image_id: int = 0
) -> Sample:
    """A sample without boxes of an (h, w, 3) uint8 RGB image, laid on the canvas of its letter-box."""
    canvas = letterbox.apply(image, fill_color)
    empty = np.empty((0, 4), dtype=np.float32)
    return Sample(canvas, empty, np.empty(0, dtype=np.int64), image_id, letterbox.scale, letterbox.image_hw)
