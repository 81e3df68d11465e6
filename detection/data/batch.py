"""What the loader hands to the model, and what the model hands back."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class View(NamedTuple):
    """The images of a batch as one more pass over them has them: larger, smaller, or mirrored.

    Attributes:
        images: (B, 3, H', W') uint8 RGB canvases.
        scales: (B,) float32 their pixels per original pixel.
    """

    images: Tensor
    scales: Tensor


class DetectionBatch(NamedTuple):
    """Letter-boxed images with their boxes, padded to the largest number of boxes in any of them.

    Attributes:
        images: (B, 3, H, W) uint8 RGB; each image lies at the top left of its canvas, the rest is mean colour.
        boxes_xyxy: (B, N, 4) float32, pixels of the canvas.
        class_ids: (B, N) int64 rows of the class list; -1 is padding.
        image_ids: (B,) int64 ids of the annotation file, or running numbers for images without one.
        scales: (B,) float32 canvas pixels per original pixel.
        sizes_hw: (B, 2) int64 height and width of the original image.
        masks: of each image (N, H, W) uint8, 1 where each of its objects is on the canvas, in the order of its boxes;
            None for a network without masks.
        views: the images once more for each further pass that an evaluation makes.
    """

    images: Tensor
    boxes_xyxy: Tensor
    class_ids: Tensor
    image_ids: Tensor
    scales: Tensor
    sizes_hw: Tensor
    masks: tuple[Tensor, ...] | None = None
    views: tuple[View, ...] = ()


class Detections(NamedTuple):
    """Found boxes, highest score first, padded to M per image.

    Attributes:
        boxes_xyxy: (B, M, 4) float32; pixels of the frame that the producing function names.
        scores: (B, M) float32 in [0, 1]; 0 in empty slots.
        class_ids: (B, M) int64 rows of the class list; -1 marks an empty slot.
        masks: (B, m, S, S) probabilities of the object within its box, for the first m slots; None without masks.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    class_ids: Tensor
    masks: Tensor | None = None
