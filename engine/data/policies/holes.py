"""Holes in images, as albumentations makes them, but with boxes that stay exact; importing it takes seconds.

albumentations 2.0.8 rounds the corners of every box of an image with a hole down to whole pixels, and fails where it
finds no room for a hole.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from albumentations.augmentations.dropout.transforms import BaseDropout

from engine.reading.images import FloatArray

Ints = npt.NDArray[np.int64]
_TRIES = 100  # of a rectangle; the paper goes on until one fits, which an image of two pixels has not


def around_hole(boxes: FloatArray, hole: npt.NDArray[np.float64]) -> FloatArray:
    """The hulls of what is left of boxes beside a hole; boxes that it covers have no area.

    Args:
        boxes: (N, 4+) left, top, right and bottom in the first columns.
        hole: (4,) in the same unit.
    """
    left, top, right, bottom = boxes[:, :4].T
    found = boxes.copy()
    # Only a hole across the whole height or width takes something off the hull.
    tall = (hole[1] <= top) & (hole[3] >= bottom)
    wide = (hole[0] <= left) & (hole[2] >= right)
    found[:, 0] = np.where(tall & (hole[0] <= left) & (hole[2] > left), np.minimum(hole[2], right), left)
    found[:, 2] = np.where(tall & (hole[2] >= right) & (hole[0] < right), np.maximum(hole[0], left), right)
    found[:, 1] = np.where(wide & (hole[1] <= top) & (hole[3] > top), np.minimum(hole[3], bottom), top)
    found[:, 3] = np.where(wide & (hole[3] >= bottom) & (hole[1] < bottom), np.maximum(hole[1], top), bottom)
    return found


def boxes_beside(bboxes: FloatArray, holes: Ints, params: Mapping[str, tuple[int, ...]]) -> FloatArray:
    """The boxes (N, 4+), in fractions of the image, that holes leave something of."""
    height, width = params["shape"][:2]
    for hole in holes:
        bboxes = around_hole(bboxes, hole / np.array([width, height, width, height]))
        bboxes = bboxes[(bboxes[:, 2] > bboxes[:, 0]) & (bboxes[:, 3] > bboxes[:, 1])]
    return bboxes


class ExactHoles(BaseDropout):
    """Holes that leave of each box the hull of what lies beside them."""

    def apply_to_bboxes(self, bboxes: FloatArray, holes: Ints, **params: tuple[int, ...]) -> FloatArray:
        """What is left of the boxes."""
        return boxes_beside(bboxes, holes, params)


class RandomErasing(ExactHoles):
    """Zhong et al., "Random Erasing Data Augmentation" (arXiv 1708.04896), algorithm 1: a rectangle of noise.

    albumentations' `Erasing` draws smaller areas than the paper's, as each of its areas has to fit at every ratio.

    Args:
        scale: smallest and largest share of the image's area.
        ratio: smallest and largest height by width.
        fill: colour, or "random" for noise.
        fill_mask: label.
        p: how often.
    """

    class InitSchema(BaseDropout.InitSchema):
        """The arguments, as albumentations checks them."""

        scale: tuple[float, float]
        ratio: tuple[float, float]

    def __init__(
        self,
        scale: tuple[float, float],
        ratio: tuple[float, float],
        fill: tuple[float, ...] | float | str = "random",
        fill_mask: float | None = None,
        p: float = 0.5,
    ) -> None:
        super().__init__(fill=fill, fill_mask=fill_mask, p=p)
        self.scale = scale
        self.ratio = ratio

    def get_params_dependent_on_data(
        self, params: Mapping[str, tuple[int, ...]], data: Mapping[str, npt.NDArray[np.uint8]]
    ) -> dict[str, object]:
        """Draw the hole, until one fits, and a seed for its noise."""
        height, width = params["shape"][:2]
        for _ in range(_TRIES):
            area = self.py_random.uniform(*self.scale) * height * width
            ratio = self.py_random.uniform(*self.ratio)
            tall, wide = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
            top, left = self.py_random.randrange(height), self.py_random.randrange(width)
            if top + tall <= height and left + wide <= width:
                seed = self.py_random.randrange(2**32)
                return {"holes": np.array([[left, top, left + wide, top + tall]]), "seed": seed}
        return {"holes": np.empty((0, 4), np.int64), "seed": 0}


class SquareHole(ExactHoles):
    """A square around a point of the image (DeVries & Taylor, "Cutout", arXiv 1708.04552), cut at its edge.

    Args:
        half: half the side, in pixels.
        share: in place of this, half the share of a random box, which the hole then is around a point of.
        fill: colour.
        fill_mask: label.
        p: how often.
    """

    class InitSchema(BaseDropout.InitSchema):
        """The arguments, as albumentations checks them."""

        half: int
        share: float

    def __init__(
        self,
        half: int = 0,
        share: float = 0.0,
        fill: tuple[float, ...] | float = 0,
        fill_mask: float | None = None,
        p: float = 1.0,
    ) -> None:
        super().__init__(fill=fill, fill_mask=fill_mask, p=p)
        self.half = half
        self.share = share

    def get_params_dependent_on_data(
        self, params: Mapping[str, tuple[int, ...]], data: Mapping[str, npt.NDArray[np.float32]]
    ) -> dict[str, object]:
        """Draw the hole; without a box to lie in there is none."""
        height, width = params["shape"][:2]
        sides = np.array([width, height, width, height])
        within, half = np.array([0.0, 0.0, width, height]), np.array([self.half, self.half], np.float64)
        if self.share:
            boxes = data.get("bboxes", np.empty((0, 4), np.float32))
            if not len(boxes):
                return {"holes": np.empty((0, 4), np.int64), "seed": 0}
            within = boxes[self.py_random.randrange(len(boxes)), :4] * sides
            half = self.share * (within[2:] - within[:2])
        centre = np.array([self.py_random.uniform(within[axis], within[axis + 2]) for axis in (0, 1)])
        hole = np.concatenate([centre - half, centre + half]).round().clip(0, sides).astype(np.int64)
        return {"holes": hole[None], "seed": 0}
