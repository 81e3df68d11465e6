"""The answer of a detector for one image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from engine.prediction.pictures import draw_boxes
from engine.reading.pixels import Source, pixels_of
from engine.reading.reader import PixelReader


@dataclass(frozen=True, eq=False)
class Found:
    """The objects of one image, highest score first.

    Attributes:
        boxes_xyxy: (N, 4) float32 left, top, right, bottom in pixels of the original image.
        scores: (N,) float32 in [0, 1].
        labels: N class names.
        class_ids: (N,) rows of the detector's class list.
        category_ids: (N,) ids of the annotations it was trained on.
        size_hw: height and width of the original image.
        read: how the image is read from a file.
        track_ids: (N,) ids of objects that are followed through a video, -1 for one without; None elsewhere.
    """

    boxes_xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: list[str]
    class_ids: npt.NDArray[np.int64]
    category_ids: npt.NDArray[np.int64]
    size_hw: tuple[int, int]
    read: PixelReader = PixelReader()
    track_ids: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def draw(self, image: Source) -> Image.Image:
        """The image with the boxes drawn on it, in the colours of the classes, or of the tracks where there are any."""
        captions = [f"{label} {score:.2f}" for label, score in zip(self.labels, self.scores, strict=True)]
        colors = self.class_ids.tolist()
        if self.track_ids is not None:
            colors = self.track_ids.tolist()
            captions = [f"#{one} {said}" if one > 0 else said for one, said in zip(colors, captions, strict=True)]
        return draw_boxes(pixels_of(image, self.read), self.boxes_xyxy, colors, captions)

    def scaled(self, size_hw: tuple[int, int]) -> Found:
        """The same objects in pixels of a larger or smaller copy of the image."""
        factors = (size_hw[1] / self.size_hw[1], size_hw[0] / self.size_hw[0])
        boxes = (self.boxes_xyxy * np.array(factors * 2)).astype(np.float32)
        return replace(self, boxes_xyxy=boxes, size_hw=size_hw)
