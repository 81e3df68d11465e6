"""A training image scaled, cropped and mirrored with its boxes and its mask: the recipe that needs no library.

Both ways to it, this one and `engine.data.scale_jitter` among further changes of albumentations, draw the same random
numbers and give the same boxes. Prediction resizes by Pillow; training by torch's antialiased filter, which is the same
triangle, weighed by other roundings: values differ by at most 2 of 255, and it takes a fifth of the time.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.reading.images import FloatArray, Letterbox, Scalar, UInt8Array, clip_boxes, fill_beside, nearest_places
from engine.threads import opencv_on_one_thread

IGNORED = 255  # the label of mask pixels that no loss and no metric counts
LEAST_SIDE = 1e-3  # pixels; thinner boxes count as empty, and float32 cannot place them
Ints = npt.NDArray[np.int64]


class Augmented(NamedTuple):
    """One changed sample, on the canvas.

    Attributes:
        image: (H, W, 3) uint8.
        boxes_xyxy: (M, 4) float32, pixels of the canvas; M is at most the number of given boxes.
        kept: (M,) int64, the places of these boxes among the given ones, by which labels are selected.
        mask: (H, W) uint8 labels, if a mask was given.
    """

    image: UInt8Array
    boxes_xyxy: FloatArray
    kept: npt.NDArray[np.int64]
    mask: UInt8Array | None = None


class Scaling(NamedTuple):
    """How an image is scaled, and which part of it is shown.

    Attributes:
        scaled_hw: height and width of the whole scaled image.
        offset_yx: where the part begins, in scaled pixels.
        crop_hw: height and width of the part.
    """

    scaled_hw: tuple[int, int]
    offset_yx: tuple[int, int]
    crop_hw: tuple[int, int]


def drawn_scaling(
    numbers: random.Random, image_hw: tuple[int, int], canvas_hw: tuple[int, int], scales: tuple[float, float]
) -> Scaling:
    """Draw the scale and the place of the part of an image that a canvas shows.

    This is done as in google/automl `dataloader.py` (`set_training_random_scale_factors`, `resize_and_crop_image`):
    the factor is uniform, the aspect ratio stays, and the crop may lie anywhere.

    Args:
        numbers: the random numbers.
        image_hw: height and width of the image.
        canvas_hw: height and width of the canvas.
        scales: smallest and largest multiple of the letter-box size.
    """
    factor = numbers.uniform(*scales)
    target_h, target_w = (max(1, int(factor * side)) for side in canvas_hw)
    scaled_h, scaled_w = Letterbox.fit(image_hw, (target_h, target_w)).scaled_hw
    offset_y = int(max(0, scaled_h - canvas_hw[0]) * numbers.random())
    offset_x = int(max(0, scaled_w - canvas_hw[1]) * numbers.random())
    crop_hw = (min(scaled_h, canvas_hw[0]), min(scaled_w, canvas_hw[1]))
    return Scaling((scaled_h, scaled_w), (offset_y, offset_x), crop_hw)


def scaled_part(image: UInt8Array, scaling: Scaling, image_hw: tuple[int, int] | None = None) -> UInt8Array:
    """The part of a scaled (H, W, 3) image, by torch's antialiased bilinear filter.

    The filter sees the pixels around the part, so that it equals the same part of the whole scaled image. What lies
    to the right of it and below is not computed; torch has no argument to begin elsewhere than at the first pixel.

    Args:
        image: the image, or a smaller copy of it as `read_jpeg` gives it.
        scaling: the scale and the part.
        image_hw: height and width of the image itself; None where no copy is given.

    Returns:
        `scaling.crop_hw` pixels, perhaps a view of the image.
    """
    import torch
    from torch.nn.functional import interpolate

    ends = [start + count for start, count in zip(scaling.offset_yx, scaling.crop_hw, strict=True)]
    shown = np.s_[scaling.offset_yx[0] : ends[0], scaling.offset_yx[1] : ends[1]]
    if scaling.scaled_hw == image.shape[:2]:
        return image[shown]
    needed, factors = [], []
    whole_hw = image.shape[:2] if image_hw is None else image_hw
    reduced = next(by for by in (1, 2, 4, 8) if tuple(math.ceil(side / by) for side in whole_hw) == image.shape[:2])
    for end, side, whole, scaled in zip(ends, image.shape[:2], whole_hw, scaling.scaled_hw, strict=True):
        per = whole / reduced / scaled  # the last pixel of a copy may reach over the image
        needed.append(side if end == scaled else min(side, math.ceil(end * per + max(per, 1.0)) + 1))
        factors.append(1 / per * (1 + 1e-9))  # so that rounding down never takes the last row
    # In this order torch sees that colours lie last, and neither copies them apart nor gives them so.
    part = np.require(image[: needed[0], : needed[1]], requirements="W")  # torch warns about others
    pixels = torch.from_numpy(part)[None].permute(0, 3, 1, 2)
    scaled_pixels = interpolate(pixels, scale_factor=factors, mode="bilinear", antialias=True)
    result: UInt8Array = scaled_pixels[0].permute(1, 2, 0).numpy()[shown]
    return result


@dataclass(frozen=True)
class Crop:
    """What happens to one image: it is scaled and cropped, then mirrored, then laid at the top left of the canvas.

    Attributes:
        scaling: the scale and the crop.
        canvas_hw: height and width of the canvas, which the crop fits on.
        mirrored: whether left and right change places.
        upside_down: whether top and bottom do.
    """

    scaling: Scaling
    canvas_hw: tuple[int, int]
    mirrored: bool = False
    upside_down: bool = False

    def image(
        self, image: UInt8Array, fill_color: tuple[int, int, int], image_hw: tuple[int, int] | None = None
    ) -> UInt8Array:
        """The image or its copy, see `scaled_part`, on the canvas, whose rest is `fill_color`; a new array."""
        opencv_on_one_thread()
        import cv2

        height, width = self.scaling.crop_hw
        part = scaled_part(image, self.scaling, image_hw)
        canvas = np.empty((*self.canvas_hw, 3), np.uint8)
        fill_beside(canvas, self.scaling.crop_hw, fill_color)
        if self.mirrored or self.upside_down:
            # Each pixel once, and backwards; NumPy's reversed views take many times as long.
            both = self.mirrored and self.upside_down
            cv2.flip(part, -1 if both else int(self.mirrored), dst=canvas[:height, :width])
        else:
            canvas[:height, :width] = part
        return canvas

    def labels(self, labels: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """The (H, W[, L]) labels on the canvas, whose rest is `IGNORED`; a new array."""
        scaled_hw, offset_yx, crop_hw = self.scaling
        rows, columns = (
            nearest_places(count, offset, side, scaled)
            for count, offset, side, scaled in zip(crop_hw, offset_yx, labels.shape[:2], scaled_hw, strict=True)
        )
        if self.upside_down:
            rows = rows[::-1]
        if self.mirrored:
            columns = columns[::-1]
        canvas = np.full((*self.canvas_hw, *labels.shape[2:]), IGNORED, labels.dtype)
        canvas[: crop_hw[0], : crop_hw[1]] = labels.take(rows, 0).take(columns, 1)
        return canvas

    def boxes(
        self, boxes_xyxy: FloatArray, image_hw: tuple[int, int], min_side: float, min_visible: float
    ) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Boxes on the canvas, clipped to the crop.

        Args:
            boxes_xyxy: (N, 4) pixels of the image, within it.
            image_hw: its height and width.
            min_side: boxes with a shorter side, in canvas pixels, are dropped.
            min_visible: boxes of which the crop shows a smaller part are dropped.

        Returns:
            (M, 4) pixels of the canvas.
            (N,) which of the boxes they are.
        """
        (scaled, offset, crop, image) = (
            np.array([y_x[1], y_x[0]] * 2, np.float64) for y_x in (*self.scaling, image_hw)
        )
        # In shares of image and crop, rounded as albumentations rounds them: boxes are equal to the last bit.
        shares = (boxes_xyxy.astype(np.float64) / image).astype(np.float32)
        moved = (shares * image / image * scaled - offset) / crop * crop
        inside = moved.clip(0, crop)
        seen = _areas(inside) >= min_visible * _areas(moved)
        inside /= crop
        if self.mirrored:
            inside[:, [0, 2]] = 1 - inside[:, [2, 0]]
        if self.upside_down:
            inside[:, [1, 3]] = 1 - inside[:, [3, 1]]
        inside *= crop
        placed = inside.astype(np.float32)
        kept = seen & large_enough(placed, min_side)
        return placed[kept], kept


@dataclass(frozen=True)
class DrawnCrop:
    """What happens to one image of a known size, decided before it is read.

    Attributes:
        crop: the change.
        image_hw: height and width of the image.
        fill_color: colour of the canvas beside it.
        min_side: boxes with a shorter side, in canvas pixels, are dropped.
        min_visible: boxes of which the crop shows a smaller part are dropped.
    """

    crop: Crop
    image_hw: tuple[int, int]
    fill_color: tuple[int, int, int]
    min_side: float
    min_visible: float

    @property
    def needed_hw(self) -> tuple[int, int]:
        """Height and width that the image is scaled to."""
        return self.crop.scaling.scaled_hw

    def __call__(self, image: UInt8Array, boxes_xyxy: FloatArray, mask: UInt8Array | None = None) -> Augmented:
        """Change the image; see `CropAugmenter`. The image may be a smaller copy: see `scaled_part`."""
        whole, places = whole_boxes(boxes_xyxy, self.image_hw)
        boxes, kept = self.crop.boxes(whole, self.image_hw, self.min_side, self.min_visible)
        labels = None if mask is None else self.crop.labels(checked_labels(mask))
        return Augmented(self.crop.image(image, self.fill_color, self.image_hw), boxes, places[kept], labels)


class CropAugmenter:
    """Scales, crops and mirrors, with the random numbers and the boxes of albumentations (`Augmenter`).

    Args:
        canvas_hw: height and width of the canvas.
        fill_color: its colour beside the image.
        scales: smallest and largest multiple of the letter-box size.
        flips: probabilities that left and right change places, and that top and bottom do.
        min_side: boxes with a shorter side, in canvas pixels, are dropped.
        min_visible: boxes of which the crop shows a smaller part are dropped.
    """

    def __init__(
        self,
        canvas_hw: tuple[int, int],
        fill_color: tuple[int, int, int],
        scales: tuple[float, float],
        flips: tuple[float, float],
        min_side: float,
        min_visible: float,
    ) -> None:
        self.canvas_hw = canvas_hw
        self.fill_color = fill_color
        self.scales = scales
        self.flips = flips
        self.min_side = min_side
        self.min_visible = min_visible

    def __call__(self, image: UInt8Array, boxes_xyxy: FloatArray, mask: UInt8Array | None = None) -> Augmented:
        """Change one sample. The same state of torch's generator gives the same change.

        Args:
            image: (H, W, 3) uint8 RGB.
            boxes_xyxy: (N, 4) pixels of the image. Boxes are clipped to the image; a box without area is dropped.
            mask: (H, W[, L]) uint8 labels.
        """
        return self.drawn((image.shape[0], image.shape[1]))(image, boxes_xyxy, mask)

    def drawn(self, image_hw: tuple[int, int]) -> DrawnCrop:
        """Draw what happens to an image of a height and width."""
        numbers = random.Random(sample_seed())
        numbers.random()  # albumentations asks whether anything happens at all
        scaling = drawn_scaling(numbers, image_hw, self.canvas_hw, self.scales)
        mirrored, upside_down = (_happens(numbers, probability) for probability in self.flips)
        crop = Crop(scaling, self.canvas_hw, mirrored, upside_down)
        return DrawnCrop(crop, image_hw, self.fill_color, self.min_side, self.min_visible)


def sample_seed() -> int:
    """A seed from torch's generator.

    That differs between workers, ranks and epochs, and follows the seed of the run (`engine.data.loader`), where the
    generators of other libraries would be in one state in every worker.
    """
    import torch

    return int(torch.randint(2**63 - 1, ()).item())


def checked_labels(mask: UInt8Array) -> UInt8Array:
    """The mask.

    Raises:
        TypeError: it is of another type than uint8.
    """
    if mask.dtype != np.uint8:
        msg = f"masks are uint8 labels, got {mask.dtype}: albumentations changes wider types on the way"
        raise TypeError(msg)
    return mask


def _areas(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def large_enough(boxes_xyxy: FloatArray, min_side: float) -> npt.NDArray[np.bool_]:
    """(N,) whether both sides of a box have the least length."""
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    least = max(min_side, LEAST_SIDE)
    return (sides[:, 0] >= least) & (sides[:, 1] >= least)


def whole_boxes(boxes_xyxy: FloatArray, size_hw: tuple[int, int]) -> tuple[FloatArray, Ints]:
    """Boxes (N, 4) clipped to an image, without those that then have no area, and their places among the given."""
    boxes = clip_boxes(np.asarray(boxes_xyxy, dtype=np.float32).reshape(-1, 4), size_hw)
    kept = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    return boxes[kept], kept


def _happens(numbers: random.Random, probability: float) -> bool:
    """Whether something of a probability happens; a number is drawn only where it is open, as albumentations does."""
    return probability >= 1 or (probability > 0 and numbers.random() < probability)
