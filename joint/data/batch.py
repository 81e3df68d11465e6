"""What the loader hands to the joint network and to the measures: images with boxes, with masks, or with both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from detection.data.batch import DetectionBatch


class JointBatch(NamedTuple):
    """Training images on one canvas with the labels that each has.

    Attributes:
        images: (B, 3, H, W) uint8 RGB; each image lies at the top left of its canvas, the rest is mean colour.
        boxes_xyxy: (B, N, 4) float32, pixels of the canvas.
        class_ids: (B, N) int64 rows of the detector's class list; -1 is padding.
        masks: (B, H, W) uint8 rows of the segmenter's class list; 255 is not counted, as beside the image.
        boxed: (B,) bool, whether the image has box labels; one with labels but without any object has.
        masked: (B,) bool, whether the image has a mask; that of one without is 255 all over.
        image_ids: (B,) int64 ids of the annotation file; for images without boxes their places in the set of masks.
        scales: (B,) float32 canvas pixels per original pixel; NaN for an augmented image, which has no way back.
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
    """Letter-boxed images with the labels that each has, and their masks at original size.

    An image's id is no other image's with a mask, and no other image's with boxes, by which doubles of a distributed
    sampler are dropped.

    Attributes:
        images: as in `JointBatch`.
        boxes_xyxy: as there.
        class_ids: as there.
        masks: as there.
        boxed: as there.
        masked: as there.
        image_ids: as there.
        scales: as there; none is NaN.
        sizes_hw: as there.
        truth: B arrays (H0, W0) uint8 rows of the segmenter's class list at the original size; (0, 0) for an image
            without a mask.
        instance_ids: B arrays (H0, W0) int32 as in Cityscapes' `_instanceIds.png`; (0, 0) where there is none.
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
