"""Boundary IoU: how far the bands along true and drawn outlines agree, for all classes of an image at once."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from segmentation.data.classes import IGNORED
from segmentation.scores.confusion import Counts, Floats, UInt8Array

STANDARD_RATIO = 0.02  # of the diagonal; Cityscapes' instances are measured with 0.005
_FRAME = -2  # what lies beside the image


class Bands(NamedTuple):
    """Pixels of an image, or of a set, in the bands along outlines.

    Attributes:
        both: (K,) pixels in the true and the drawn band of a class.
        either: (K,) pixels in one of them at least.
    """

    both: Counts
    either: Counts

    def iou(self) -> Floats:
        """(K,) boundary IoU; NaN for a class without a band."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.true_divide(self.both, self.either))


def boundary_bands(
    predicted_rows: UInt8Array, true_rows: UInt8Array, count: int, ratio: float = STANDARD_RATIO
) -> Bands:
    """The bands of each class in one image.

    The band of a class holds its pixels that are at most d pixels, counted as a king moves in chess, from a pixel that
    is not of the class; what lies beside the image is of no class. d is the share `ratio` of the diagonal, at least 1.
    Source: Cheng et al., CVPR 2021, "Boundary IoU", which erodes each mask d times by 3 x 3 (boundary-iou-api,
    `mask_to_boundary`); one distance map of all outlines gives the same bands. Pixels that are not counted belong to
    no band and make no outline.

    Args:
        predicted_rows: (H, W) rows of the class list.
        true_rows: (H, W) rows of the class list, `IGNORED` where nothing is counted.
        count: number of classes K.
        ratio: share of the diagonal.
    """
    reach = max(1, round(ratio * math.hypot(*true_rows.shape)))
    uncounted = true_rows == IGNORED
    true, drawn = (np.where(uncounted, np.int16(-1), rows) for rows in (true_rows, predicted_rows))
    near_true, near_drawn = _near_outline(true, reach), _near_outline(drawn, reach)
    agree = near_true & near_drawn & (true == drawn)
    in_true, in_drawn = _counts(true[near_true], count), _counts(drawn[near_drawn], count)
    both = _counts(true[agree], count)
    return Bands(both, in_true + in_drawn - both)


def _near_outline(rows: npt.NDArray[np.int16], reach: int) -> npt.NDArray[np.bool_]:
    """Where a pixel of another class, or the end of the image, is at most `reach` pixels away."""
    framed = np.pad(rows, 1, constant_values=_FRAME)
    outline = np.zeros(framed.shape, np.uint8)
    height, width = framed.shape
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        near = framed[: height - down, max(0, -right) : width - max(0, right)]
        far = framed[down:, max(0, right) : width + min(0, right)]
        differ = (near != far) & (near != -1) & (far != -1)
        outline[: height - down, max(0, -right) : width - max(0, right)] |= differ
        outline[down:, max(0, right) : width + min(0, right)] |= differ
    # Each pixel of an outline touches another class, so that one step less is left to go.
    apart = cv2.distanceTransform(1 - outline, cv2.DIST_C, 3)
    near_outline = (apart <= reach - 1)[1:-1, 1:-1]
    return np.asarray(near_outline & (rows >= 0))


def _counts(rows: npt.NDArray[np.int16], count: int) -> Counts:
    """(K,) pixels of each class; a drawn row beyond the list, which is no class, is left out."""
    return np.bincount(rows, minlength=256)[:count]
