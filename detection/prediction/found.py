"""The answer of a detector for one image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from detection.data.masks import Rle, decoded, resized
from engine.errors import InputError
from engine.prediction.pictures import draw_boxes, draw_masks
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
        masks: N masks of the whole image as run lengths of COCO; None from a detector of boxes.
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
    masks: list[Rle] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def mask_pixels(self) -> npt.NDArray[np.uint8]:
        """The masks, (N, H, W) of 0 and 1.

        Raises:
            InputError: the detector finds boxes only.
        """
        if self.masks is None:
            msg = "this detector finds boxes only. Give a checkpoint of --model.head mask_rcnn."
            raise InputError(msg)
        if not self.masks:
            return np.zeros((0, *self.size_hw), np.uint8)
        return np.moveaxis(decoded(self.masks), 2, 0)

    def draw(self, image: Source) -> Image.Image:
        """The image with its objects drawn on it, in the colours of the classes, or of tracks where there are any."""
        captions = [f"{label} {score:.2f}" for label, score in zip(self.labels, self.scores, strict=True)]
        colors = self.class_ids.tolist()
        if self.track_ids is not None:
            colors = self.track_ids.tolist()
            captions = [f"#{one} {said}" if one > 0 else said for one, said in zip(colors, captions, strict=True)]
        pixels = pixels_of(image, self.read)
        if self.masks:
            pixels = draw_masks(pixels, self.mask_pixels(), colors)
        return draw_boxes(pixels, self.boxes_xyxy, colors, captions)

    def scaled(self, size_hw: tuple[int, int]) -> Found:
        """The same objects in pixels of a larger or smaller copy of the image."""
        factors = (size_hw[1] / self.size_hw[1], size_hw[0] / self.size_hw[0])
        boxes = (self.boxes_xyxy * np.array(factors * 2)).astype(np.float32)
        masks = None if self.masks is None else resized(self.masks, size_hw)
        return replace(self, boxes_xyxy=boxes, size_hw=size_hw, masks=masks)
