"""The boundary F-score: how much of the drawn outlines lies on the true ones, and of the true ones on the drawn."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from engine.errors import InputError
from segmentation.data.classes import IGNORED
from segmentation.scores.confusion import Floats, UInt8Array

STANDARD_TOLERANCE = 0.0075

BoolArray = npt.NDArray[np.bool_]


def check_tolerance(tolerance: float) -> None:
    """Do nothing if `tolerance` is an allowed one.

    Raises:
        InputError: it is not above 0 or not finite.
    """
    if not 0 < tolerance < math.inf:
        msg = (
            f"the boundary tolerance is {tolerance}; allowed are shares of the diagonal below 1, such as "
            f"{STANDARD_TOLERANCE}, and pixels from 1."
        )
        raise InputError(msg)


def tolerance_in_pixels(tolerance: float, size_hw: tuple[int, int]) -> float:
    """The tolerance in pixels: below 1 it is given as a share of the image's diagonal, from 1 on in pixels.

    Raises:
        InputError: it is not above 0 or not finite.
    """
    check_tolerance(tolerance)
    return tolerance if tolerance >= 1 else tolerance * math.hypot(*size_hw)


def boundary_f_scores(
    predicted_rows: UInt8Array, true_rows: UInt8Array, count: int, tolerance: float = STANDARD_TOLERANCE
) -> Floats:
    """The boundary F-score of each class in one image.

    A pixel is on a class's boundary if it is of the class and one of its four neighbours is of another; the image's
    border is no boundary, and neither are pixels that are not counted, whose true class is unknown. Precision is the
    share of the drawn boundary pixels that have a true one within the tolerance, recall the share of the true ones
    that have a drawn one; F is 2PR / (P + R). Source: Csurka et al., BMVC 2013, "What is a good evaluation measure
    for semantic segmentation?"; they too take 0.75 % of the diagonal, and average the images' scores.

    Args:
        predicted_rows: (H, W) rows of the class list.
        true_rows: (H, W) rows of the class list, `IGNORED` where nothing is counted.
        count: number of classes K.
        tolerance: largest Euclidean distance between the centres of pixels: below 1 a share of the diagonal, from 1
            on pixels.

    Returns:
        (K,) scores in [0, 1]; 0 for a class with a boundary in one map only, NaN for one with none in both.

    Raises:
        InputError: the tolerance is not above 0.
    """
    reach = tolerance_in_pixels(tolerance, (true_rows.shape[0], true_rows.shape[1]))
    # -1 is not counted; a predicted 255, which is no class, bounds its neighbours as a class does.
    uncounted = true_rows == IGNORED
    true, drawn = (np.where(uncounted, np.int16(-1), rows) for rows in (true_rows, predicted_rows))
    true_edges, drawn_edges = _edges(true), _edges(drawn)
    present = np.bincount(drawn[drawn_edges], minlength=256) + np.bincount(true[true_edges], minlength=256)
    scores = np.full(count, np.nan)
    for row in np.flatnonzero(present[:count]).tolist():
        scores[row] = _f_score(drawn_edges & (drawn == row), true_edges & (true == row), reach)
    return scores


def _edges(rows: npt.NDArray[np.int16]) -> BoolArray:
    """Where a counted pixel has a counted neighbour of another class."""
    edges = np.zeros(rows.shape, np.bool_)
    counted = rows >= 0
    for near, far in (((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
                      ((slice(None), slice(None, -1)), (slice(None), slice(1, None)))):  # fmt: skip
        differ = (rows[near] != rows[far]) & counted[near] & counted[far]
        edges[near] |= differ
        edges[far] |= differ
    return edges


def _f_score(drawn: BoolArray, true: BoolArray, reach: float) -> float:
    if not drawn.any() or not true.any():
        return 0.0
    # What lies outside both outlines cannot be near either.
    box = _bounding_box(drawn | true)
    drawn, true = drawn[box], true[box]
    precision = np.count_nonzero(_near(true, reach)[drawn]) / np.count_nonzero(drawn)
    recall = np.count_nonzero(_near(drawn, reach)[true]) / np.count_nonzero(true)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _bounding_box(mask: BoolArray) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _near(mask: BoolArray, reach: float) -> BoolArray:
    """Where a pixel of the mask lies within `reach` pixels."""
    apart = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Squares of distances are whole numbers; rounded, they no longer carry the float32 root's error.
    return np.asarray(np.rint(np.square(apart, dtype=np.float64)) <= reach * reach)
