"""Images with boxes, masks or both as samples of one canvas, and samples as batches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from detection.data.boxes import BoxSource
from detection.data.classes import BoxClasses
from detection.data.dataset import BoxImages, Sample, on_one_canvas
from detection.data.dataset import collate as collate_boxes
from engine.data.augment import Augmented, ImageAugmenter
from engine.data.mixing import Parts
from engine.data.sampling.labels import SampleLabels, together
from engine.errors import InputError, SampleError
from engine.reading.images import FloatArray, Letterbox, UInt8Array, pad_to_canvas, resize_labels
from engine.reading.reader import PixelReader
from joint.data.batch import JointBatch, JointEvaluationBatch
from segmentation.data.classes import IGNORED, MaskClasses
from segmentation.data.dataset import counted, mask_labels, model_rows, read_instances_of, read_pair
from segmentation.data.pairs import MaskSource, Pair

Int32Array = npt.NDArray[np.int32]
_NO_TRUTH: UInt8Array = np.empty((0, 0), dtype=np.uint8)
_NO_INSTANCES: Int32Array = np.empty((0, 0), dtype=np.int32)


class JointSample(NamedTuple):
    """One image on its canvas.

    Attributes:
        labelled: the image and its boxes, as a detector alone takes them.
        mask: (H, W) uint8 rows of the segmenter's class list; `IGNORED` is not counted.
        boxed: whether the image has box labels.
        masked: whether it has a mask.
        truth: (H0, W0) uint8 rows at the original size; (0, 0) in training and without a mask.
        instance_ids: (H0, W0) int32 as in Cityscapes; (0, 0) in training and if there are none.
    """

    labelled: Sample
    mask: UInt8Array
    boxed: bool
    masked: bool
    truth: UInt8Array = _NO_TRUTH
    instance_ids: Int32Array = _NO_INSTANCES


def parts_of(sample: JointSample) -> Parts:
    """What is mixed of a sample."""
    labelled = sample.labelled
    return Parts(labelled.image, labelled.boxes_xyxy, labelled.class_ids, sample.mask)


def with_parts(sample: JointSample, parts: Parts) -> JointSample:
    """The sample with other parts."""
    labelled = sample.labelled._replace(image=parts.image, boxes_xyxy=parts.boxes_xyxy, class_ids=parts.class_ids)
    assert parts.mask is not None
    return sample._replace(labelled=labelled, mask=parts.mask)


class Masks(NamedTuple):
    """Pictures and masks, and the model's row for each row of the files.

    Attributes:
        files: the pairs of pictures and masks.
        rows: (256,) the model's row for each row of the files; `IGNORED` stays.
        read: reads the pictures.
    """

    files: MaskSource
    rows: UInt8Array
    read: PixelReader = PixelReader()

    @classmethod
    def of(cls, files: MaskSource, classes: MaskClasses, read: PixelReader = PixelReader()) -> Masks:
        """Find the classes of the files by name in the model's class list.

        Raises:
            InputError: the model has no row for a class.
        """
        return cls(files, model_rows(files, classes), read)


def boxed_images(source: BoxSource, classes: BoxClasses, read: PixelReader = PixelReader()) -> BoxImages:
    """The images of a source as they are, with their boxes in the model's rows.

    Crowds and boxes without area are left out.

    Raises:
        InputError: as `BoxImages`.
    """
    return BoxImages(source, classes, (1, 1), (0, 0, 0), _as_read, read)


def _as_read(image: UInt8Array, boxes_xyxy: FloatArray, mask: UInt8Array | None = None) -> Augmented:
    return Augmented(image, boxes_xyxy, np.arange(len(boxes_xyxy)), mask)


def _unboxed(image: UInt8Array, index: int) -> Sample:
    return Sample(
        image=image,
        boxes_xyxy=np.empty((0, 4), dtype=np.float32),
        class_ids=np.empty(0, dtype=np.int64),
        image_id=index,
        scale=float("nan"),
        size_hw=(image.shape[0], image.shape[1]),
    )


class JointImages(Dataset[JointSample]):
    """Images with boxes, with masks, or with both, on one canvas.

    Args:
        canvas_hw: height and width of the canvas; None leaves images as they are, for a file that lays them out itself.
        fill_color: colour of the canvas beside the image: the model's mean, RGB.
        boxes: the images with boxes, as `boxed_images` gives them.
        masks: the images with masks. If both are given, these are the images, and each must be in the annotations.
        augmenter: the random changes of the image; None letter-boxes it, as prediction does.
        evaluation: whether samples have masks and instances at original size.

    Raises:
        InputError: an image with a mask is not in the annotations.
    """

    def __init__(
        self,
        canvas_hw: tuple[int, int] | None,
        fill_color: tuple[int, int, int],
        *,
        boxes: BoxImages | None = None,
        masks: Masks | None = None,
        augmenter: ImageAugmenter | None = None,
        evaluation: bool = False,
    ) -> None:
        assert boxes is not None or masks is not None
        self.canvas_hw = canvas_hw
        self.fill_color = fill_color
        self.boxes = boxes
        self.masks = masks
        self.augmenter = augmenter
        self.evaluation = evaluation
        # Held as an array, which forked workers share.
        self._places = np.arange(0 if boxes is None else len(boxes))
        if boxes is not None and masks is not None:
            self._places = np.array(_places(masks.files, boxes), dtype=np.int64)

    @property
    def name(self) -> str:
        """What messages call the set."""
        if self.masks is not None:
            return self.masks.files.source
        assert self.boxes is not None
        return self.boxes.name

    def image_path(self, index: int) -> Path:
        """The file of an image."""
        if self.masks is not None:
            return self.masks.files.pairs[index].image
        assert self.boxes is not None
        return self.boxes.image_path(index)

    def image_id(self, index: int) -> int:
        """The id by which records know an image: that of its annotations, or else its place in the set of masks."""
        return index if self.boxes is None else int(self.boxes.source.image_ids[self._places[index]])

    def labels(self) -> SampleLabels:
        """Which classes of boxes and of pixels the images show; the two kinds stay apart."""
        parts = []
        if self.boxes is not None:
            parts.append(self.boxes.labels().taken(self._places))
        if self.masks is not None:
            parts.append(mask_labels(self.masks.files, self.masks.rows))
        return together(parts)

    def __len__(self) -> int:
        return len(self._places) if self.masks is None else len(self.masks.files.pairs)

    def __getitem__(self, index: int) -> JointSample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        found, rows = self._read(index)
        pair = None if self.masks is None else self.masks.files.pairs[index]
        sample = self._changed(found, rows) if self.augmenter is not None else self._letterboxed(found, rows)
        if not self.evaluation or pair is None or rows is None:
            return sample
        return sample._replace(truth=rows, instance_ids=_read_instances(pair, rows.shape))

    def _read(self, index: int) -> tuple[Sample, UInt8Array | None]:
        """The unchanged image with its boxes, and its mask of the same size."""
        if self.masks is None:
            assert self.boxes is not None
            return self.boxes[int(self._places[index])], None
        pair = self.masks.files.pairs[index]
        found = None if self.boxes is None else self.boxes[int(self._places[index])]
        if found is None:
            image, rows = read_pair(self.masks.files, pair, self.masks.rows, self.masks.read)
            return _unboxed(image, index), rows
        try:
            rows = self.masks.rows[self.masks.files.read_mask(pair.mask)]
        except InputError as error:
            raise SampleError(str(error)) from None
        size_hw = (rows.shape[0], rows.shape[1])
        if found.size_hw != size_hw:
            (height, width), (mask_height, mask_width) = found.size_hw, size_hw
            msg = (
                f"image '{pair.image}' is {width}x{height} (width x height) as its boxes were drawn, but its mask "
                f"'{pair.mask}' is {mask_width}x{mask_height}. Give both for one frame."
            )
            raise SampleError(msg)
        return found, counted(rows, found.valid)

    def _changed(self, found: Sample, rows: UInt8Array | None) -> JointSample:
        assert self.augmenter is not None
        image, boxes, kept, mask = self.augmenter(found.image, found.boxes_xyxy, rows)
        labelled = found._replace(image=image, boxes_xyxy=boxes, class_ids=found.class_ids[kept])
        return self._sample(labelled, mask)

    def _letterboxed(self, found: Sample, rows: UInt8Array | None) -> JointSample:
        size_hw = found.size_hw
        letterbox = Letterbox.own(size_hw) if self.canvas_hw is None else Letterbox.fit(size_hw, self.canvas_hw)
        boxes = letterbox.to_canvas(found.boxes_xyxy)
        inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        labelled = found._replace(
            image=letterbox.apply(found.image, self.fill_color),
            boxes_xyxy=boxes[inside],
            class_ids=found.class_ids[inside],
            scale=letterbox.scale,
        )
        if rows is None:
            return self._sample(labelled, None)
        mask = pad_to_canvas(resize_labels(rows, letterbox.scaled_hw), letterbox.canvas_hw, IGNORED)
        return self._sample(labelled, mask)

    def _sample(self, labelled: Sample, mask: UInt8Array | None) -> JointSample:
        drawn = np.full(labelled.image.shape[:2], IGNORED, dtype=np.uint8) if mask is None else mask
        return JointSample(labelled, drawn, boxed=self.boxes is not None, masked=self.masks is not None)


def collate(samples: Sequence[JointSample]) -> JointBatch:
    """Stack training samples of one canvas; boxes are padded to the largest number of any sample, class ids with -1."""
    return JointBatch(**_stacked(samples))


def collate_evaluation(samples: Sequence[JointSample]) -> JointEvaluationBatch:
    """The same with masks and instances at original size."""
    truth = [sample.truth for sample in samples]
    return JointEvaluationBatch(
        **_stacked(samples), truth=truth, instance_ids=[sample.instance_ids for sample in samples]
    )


def _stacked(samples: Sequence[JointSample]) -> dict[str, torch.Tensor]:
    labels = {
        "masks": torch.stack(
            [torch.from_numpy(mask) for mask in on_one_canvas([sample.mask for sample in samples], IGNORED)]
        ),
        "boxed": torch.tensor([sample.boxed for sample in samples]),
        "masked": torch.tensor([sample.masked for sample in samples]),
    }
    boxes = collate_boxes([sample.labelled for sample in samples])._asdict()
    del boxes["views"]  # an evaluation passes over each image once
    return boxes | labels


def _places(files: MaskSource, boxes: BoxImages) -> list[int]:
    """The place of each image with a mask in the annotations."""
    source = boxes.source
    known = {os.path.normpath(source.image_path(place)): place for place in range(len(boxes))}
    places = [known.get(os.path.normpath(pair.image), -1) for pair in files.pairs]
    missing = [pair.image for pair, place in zip(files.pairs, places, strict=True) if place < 0]
    if missing:
        msg = (
            f"{len(missing)} of {len(places)} images have no entry in '{source.source}', whose images begin with "
            f"'{source.image_path(0)}'; the first is '{missing[0]}'. Give the annotations of these images; "
            "'python -m joint boxes' makes those of Cityscapes."
        )
        raise InputError(msg)
    return places


def _read_instances(pair: Pair, size_hw: tuple[int, ...]) -> Int32Array:
    instance_ids = read_instances_of(pair, size_hw)
    return _NO_INSTANCES if instance_ids is None else instance_ids
