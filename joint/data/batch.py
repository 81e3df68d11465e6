"""The batches that the loader gives to the joint network and its measures: images with boxes, masks, or both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from detection.data.batch import DetectionBatch


class JointBatch(NamedTuple):
    """Training images on one canvas, each with the labels that it has.

    Attributes:
        images: (B, 3, H, W) uint8 RGB; each image lies at the top left of its canvas, the rest has the mean colour.
        boxes_xyxy: (B, N, 4) float32, pixels of the canvas.
        class_ids: (B, N) int64 rows of the detector's class list; -1 is padding.
        masks: (B, H, W) uint8 rows of the segmenter's class list; 255 is not counted, as beside the image.
        boxed: (B,) bool, whether the image has box labels; this is true of an annotated image without any object.
        masked: (B,) bool, whether the image has a mask; an image without one has 255 everywhere.
        image_ids: (B,) int64 ids of the annotation file; for images without boxes their places in the set of masks.
        scales: (B,) float32 canvas pixels per original pixel; NaN for an augmented image, which cannot be mapped back.
        sizes_hw: (B, 2) int64 height and width of the original image.
    """

    images: Tensor
    boxes_xyxy: Tensor
    class_ids: Tensor
    masks: Tensor
    boxed: Tensor
    masked: Tensor
    image_ids: Tensor
    scales: Tensor
    sizes_hw: Tensor

    def detection(self) -> DetectionBatch:
        """All images as a detector alone takes them."""
        return _detection(self)


class JointEvaluationBatch(NamedTuple):
    """Letter-boxed images, each with the labels that it has, and their masks at original size.

    No two images with masks have the same id, and no two images with boxes, so that the duplicates of a distributed
    sampler can be dropped.

    Attributes:
        images: see `JointBatch`.
        boxes_xyxy: see `JointBatch`.
        class_ids: see `JointBatch`.
        masks: see `JointBatch`.
        boxed: see `JointBatch`.
        masked: see `JointBatch`.
        image_ids: see `JointBatch`.
        scales: see `JointBatch`; none is NaN.
        sizes_hw: see `JointBatch`.
        truth: B arrays (H0, W0) uint8 rows of the segmenter's class list at the original size; (0, 0) for an image
            without a mask.
        instance_ids: B arrays (H0, W0) int32 as in Cityscapes' `_instanceIds.png`; (0, 0) for an image without them.
    """

    images: Tensor
    boxes_xyxy: Tensor
    class_ids: Tensor
    masks: Tensor
    boxed: Tensor
    masked: Tensor
    image_ids: Tensor
    scales: Tensor
    sizes_hw: Tensor
    truth: list[npt.NDArray[np.uint8]]
    instance_ids: list[npt.NDArray[np.int32]]

    def detection(self) -> DetectionBatch:
        """All images as a detector alone takes them."""
        return _detection(self)


def _detection(batch: JointBatch | JointEvaluationBatch) -> DetectionBatch:
    return DetectionBatch(
        batch.images, batch.boxes_xyxy, batch.class_ids, batch.image_ids, batch.scales, batch.sizes_hw
    )
