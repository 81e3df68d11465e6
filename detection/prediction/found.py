"""The answer of a detector for one image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from detection.data.masks import Rle, decoded, resized
from engine.errors import InputError
from engine.interop import objects
from engine.interop.outlines import Polygon, polygons_of
from engine.prediction.pictures import draw_boxes, draw_masks
from engine.reading.pixels import Source, pixels_of
from engine.reading.reader import PixelReader

if TYPE_CHECKING:
    import fiftyone
    import pandas
    import sahi.prediction
    import supervision
    from torch import Tensor


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

    def polygons(self) -> list[list[Polygon]]:
        """The outlines of each object's mask along the edges of its pixels, with their holes.

        Raises:
            InputError: the detector finds boxes only.
        """
        return [polygons_of(mask) for mask in self.mask_pixels()]

    def to_coco(self, image_id: int = 0) -> list[dict[str, object]]:
        """COCO's results (cocodataset.org, format-results): boxes as left, top, width, height; masks as run lengths.

        Args:
            image_id: of the image in the annotations.
        """
        corners = self.boxes_xyxy.reshape(-1, 4).astype(np.float64)
        boxes = np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), 1).tolist()
        ids, scores = self.category_ids.tolist(), self.scores.tolist()
        masks: list[dict[str, object]] = [{}] * len(self)
        if self.masks is not None:
            masks = [{"segmentation": mask} for mask in self.masks]
        return [
            {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score, **mask}
            for category_id, box, score, mask in zip(ids, boxes, scores, masks, strict=True)
        ]

    def to_pandas(self) -> pandas.DataFrame:
        """See `engine.interop.objects.pandas_of`."""
        return objects.pandas_of(self)

    def to_supervision(self) -> supervision.Detections:
        """See `engine.interop.objects.supervision_of`."""
        return objects.supervision_of(self, self._pixels())

    def to_fiftyone(self) -> fiftyone.Detections:
        """See `engine.interop.objects.fiftyone_of`."""
        return objects.fiftyone_of(self, self._pixels())

    def to_sahi(self) -> list[sahi.prediction.ObjectPrediction]:
        """See `engine.interop.objects.sahi_of`."""
        return objects.sahi_of(self, self._pixels())

    def to_torchmetrics(self) -> dict[str, Tensor]:
        """See `engine.interop.objects.torchmetrics_of`."""
        return objects.torchmetrics_of(self, self._pixels())

    def _pixels(self) -> npt.NDArray[np.uint8] | None:
        return None if self.masks is None else self.mask_pixels()

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
