"""Images and boxes as samples on canvases of one size, and samples as batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from detection.data.batch import DetectionBatch, View
from detection.data.boxes import BoxSource, ImageBoxes, boxes_of, corners_of, size_of
from detection.data.categories import CategoryRows
from detection.data.classes import BoxClasses
from detection.data.masks import Layers, MaskTable
from engine.data.augment import ImageAugmenter
from engine.data.crop import CropAugmenter
from engine.data.mixing import Parts
from engine.data.sampling.labels import SampleLabels
from engine.distributed import is_main
from engine.errors import InputError, SampleError
from engine.prediction.canvas import OnCanvas
from engine.reading.images import FloatArray, Letterbox, Scalar, UInt8Array, pad_to_canvas
from engine.reading.reader import PixelReader, filled

_log = logging.getLogger(__name__)
# Lays an (h, w, 3) uint8 RGB image, or a tile, on the canvas of one more pass.
Lay: TypeAlias = Callable[[UInt8Array], OnCanvas]


class Sample(NamedTuple):
    """One image on its canvas.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        boxes_xyxy: (N, 4) float32, pixels of the canvas.
        class_ids: (N,) int64.
        image_id: id of the annotation file, or a running number.
        scale: canvas pixels per original pixel; NaN for an augmented image, which cannot be mapped back.
        size_hw: height and width of the original image.
        valid: (H0, W0) whether a pixel of the original raster has data; None if all have.
        masks: (N, H, W) uint8, 1 where each object is on the canvas; None where they are not asked for.
        views: the image once more for each further pass.
        certainty: (N,) float32, how certain each label is; None where all are.
    """

    image: UInt8Array
    boxes_xyxy: FloatArray
    class_ids: npt.NDArray[np.int64]
    image_id: int
    scale: float
    size_hw: tuple[int, int]
    valid: npt.NDArray[np.bool_] | None = None
    masks: UInt8Array | None = None
    views: tuple[OnCanvas, ...] = ()
    certainty: FloatArray | None = None


def parts_of(sample: Sample) -> Parts:
    """What is mixed of a sample."""
    return Parts(sample.image, sample.boxes_xyxy, sample.class_ids)


def with_parts(sample: Sample, parts: Parts) -> Sample:
    """The sample with other parts."""
    return sample._replace(image=parts.image, boxes_xyxy=parts.boxes_xyxy, class_ids=parts.class_ids)


class BoxImages(Dataset[Sample]):
    """The images of a `BoxSource` with their boxes; images without boxes are kept as negatives.

    Boxes are clipped to the image. Crowds (google/automl `skip_crowd_during_training`) and boxes without area are
    left out; how many is logged once.

    Args:
        source: the images and boxes.
        classes: rows of the model, in which the source's categories are looked up by name.
        canvas_hw: height and width of the canvas; None leaves images as they are, for a file that lays them out itself.
        fill_color: colour of the canvas beside the image: the model's mean, RGB.
        augmenter: what may happen to the image; None letter-boxes it, as prediction does.
        read: reads the images.

    Raises:
        InputError: the model has no row for an annotated category.
    """

    def __init__(
        self,
        source: BoxSource,
        classes: BoxClasses,
        canvas_hw: tuple[int, int] | None,
        fill_color: tuple[int, int, int],
        augmenter: ImageAugmenter | None = None,
        read: PixelReader = PixelReader(),
    ) -> None:
        self.source = source
        self.read = read
        self.canvas_hw = canvas_hw
        self.fill_color = fill_color
        self.augmenter = augmenter
        self.views: Sequence[Lay] = ()  # of an evaluation that passes over each image several times
        self.masks: MaskTable | None = None  # of training images, for a network that learns masks
        self.certainty: FloatArray | None = None  # of the source's boxes, where training weighs them
        matched = CategoryRows.of(source, classes)
        self._rows = matched.rows
        if matched.note and is_main():
            _log.warning(matched.note)
        corners = corners_of(source.boxes_xywh)
        usable = (corners[:, 2:] > corners[:, :2]).all(axis=1) & ~source.crowd
        self.box_count = int(usable.sum())
        crowds = int(source.crowd.sum())
        flat = len(corners) - self.box_count - crowds
        if flat or crowds:
            _log.info("%s: %d crowds and %d boxes without area are left out", source.source, crowds, flat)

    @property
    def name(self) -> str:
        """What messages call the set."""
        return self.source.source

    def image_path(self, index: int) -> Path:
        """The file of an image."""
        return self.source.image_path(index)

    def __len__(self) -> int:
        return len(self.source.image_ids)

    def __getitem__(self, index: int) -> Sample:
        stated_hw, augmenter, needed_hw = size_of(self.source, index), self.augmenter, None
        if isinstance(augmenter, CropAugmenter) and stated_hw is not None:
            augmenter = augmenter.drawn(stated_hw)  # before the image is read: one that is shown small is decoded small
            needed_hw = augmenter.needed_hw
        try:
            pixels = self.read.pixels(self.source.image_path(index), stated_hw, needed_hw)
        except InputError as error:
            raise SampleError(str(error)) from None
        image = filled(pixels, self.read.fill_color)
        size_hw = stated_hw or (image.shape[0], image.shape[1])
        views = tuple(lay(image) for lay in self.views)
        boxes, class_ids = self.usable_boxes(index)
        masks = None
        certainty = None if self.certainty is None else self.certainty[self._usable_rows(index)]
        if augmenter is not None and self.masks is not None:
            layers = Layers(self.masks.pixels(self._usable_rows(index), size_hw))
            image, boxes, kept, changed = augmenter(image, boxes, layers.packed)
            assert changed is not None
            masks = layers.unpacked(changed, kept)
            class_ids, scale = class_ids[kept], float("nan")
        elif augmenter is not None:
            image, boxes, kept, _ = augmenter(image, boxes)
            class_ids, scale = class_ids[kept], float("nan")
            certainty = None if certainty is None else certainty[kept]
        else:
            letterbox = Letterbox.own(size_hw) if self.canvas_hw is None else Letterbox.fit(size_hw, self.canvas_hw)
            image, boxes, scale = letterbox.apply(image, self.fill_color), letterbox.to_canvas(boxes), letterbox.scale
            inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
            boxes, class_ids = boxes[inside], class_ids[inside]
        image_id = int(self.source.image_ids[index])
        return Sample(
            image, boxes, class_ids, image_id, scale, size_hw, pixels.valid, masks, views=views, certainty=certainty
        )

    def usable_boxes(self, index: int) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """The boxes of an image that have an area and are no crowds, in its pixels, with their rows of the model."""
        found = boxes_of(self.source, index)
        usable = _usable(found)
        return found.boxes_xyxy[usable], self._rows[found.class_ids[usable]]

    def labels(self) -> SampleLabels:
        """Which classes the images show: rows of the model, and how many boxes of each."""
        source = self.source
        owners = np.repeat(np.arange(len(self)), np.diff(source.box_ends))
        corners = corners_of(source.boxes_xywh)
        usable = (corners[:, 2:] > corners[:, :2]).all(axis=1) & ~source.crowd
        return SampleLabels.counted(len(self), owners[usable], self._rows[source.class_ids[usable]])

    def _usable_rows(self, index: int) -> npt.NDArray[np.int64]:
        """The rows of the source that `usable_boxes` are."""
        return int(self.source.box_ends[index]) + np.flatnonzero(_usable(boxes_of(self.source, index)))


def _usable(found: ImageBoxes) -> npt.NDArray[np.bool_]:
    wide = found.boxes_xyxy[:, 2:] > found.boxes_xyxy[:, :2]
    return wide[:, 0] & wide[:, 1] & ~found.iscrowd


def collate(samples: Sequence[Sample]) -> DetectionBatch:
    """Stack samples; boxes are padded to the largest number in a sample, class ids with -1.

    Images without a canvas are laid on one that all fit on.
    """
    count = max(len(sample.class_ids) for sample in samples)
    boxes = np.zeros((len(samples), count, 4), dtype=np.float32)
    class_ids = np.full((len(samples), count), -1, dtype=np.int64)
    images = on_one_canvas([sample.image for sample in samples])
    weighed = any(sample.certainty is not None for sample in samples)
    certainty = np.zeros((len(samples), count), dtype=np.float32) if weighed else None
    masks = [sample.masks for sample in samples if sample.masks is not None]
    for row, sample in enumerate(samples):
        boxes[row, : len(sample.class_ids)] = sample.boxes_xyxy
        class_ids[row, : len(sample.class_ids)] = sample.class_ids
        if certainty is not None:
            assert sample.certainty is not None
            certainty[row, : len(sample.class_ids)] = sample.certainty
    return DetectionBatch(
        # A view: channels lie last in memory, as decoded, and as the convolutions want them.
        images=torch.stack([torch.from_numpy(image) for image in images]).permute(0, 3, 1, 2),
        boxes_xyxy=torch.from_numpy(boxes),
        class_ids=torch.from_numpy(class_ids),
        image_ids=torch.tensor([sample.image_id for sample in samples], dtype=torch.int64),
        scales=torch.tensor([sample.scale for sample in samples], dtype=torch.float32),
        sizes_hw=torch.tensor([sample.size_hw for sample in samples], dtype=torch.int64),
        masks=None if not masks else tuple(torch.from_numpy(each) for each in masks),
        views=tuple(_view(each) for each in zip(*(sample.views for sample in samples), strict=True)),
        certainty=None if certainty is None else torch.from_numpy(certainty),
    )


def _view(laid: Sequence[OnCanvas]) -> View:
    images = torch.stack([one.image for one in laid]).permute(0, 3, 1, 2)
    return View(images, torch.tensor([one.letterbox.scale for one in laid], dtype=torch.float32))


def on_one_canvas(arrays: Sequence[npt.NDArray[Scalar]], fill: int = 0) -> list[npt.NDArray[Scalar]]:
    """Images or masks (h, w[, C]) at the top left of canvases on which the largest of them fits."""
    canvas_hw = max(each.shape[0] for each in arrays), max(each.shape[1] for each in arrays)
    return [pad_to_canvas(each, canvas_hw, fill) for each in arrays]
