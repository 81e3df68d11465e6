"""Confusion matrices of label maps, and the scores that follow from them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.reading.images import UInt8Array as UInt8Array
from segmentation.data.classes import IGNORED

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def count_pairs(true: UInt8Array, predicted: UInt8Array) -> Counts:
    """How often each pair of values occurs at the same pixel.

    Args:
        true: (H, W) any values.
        predicted: (H, W) any values.

    Returns:
        (256, 256) pixels by true value and predicted value.

    Raises:
        ValueError: the maps differ in size or are not uint8.
    """
    if true.shape != predicted.shape or true.dtype != np.uint8 or predicted.dtype != np.uint8:
        msg = f"label maps do not fit: {true.dtype}{true.shape} and {predicted.dtype}{predicted.shape}"
        raise ValueError(msg)
    # One 16-bit number per pixel: a quarter of the memory that two 64-bit indices would move.
    codes = true.astype(np.uint16)
    codes <<= 8
    codes |= predicted
    return np.bincount(codes.ravel(), minlength=256 * 256).reshape(256, 256)


def class_confusion(pairs: Counts, count: int) -> Counts:
    """The confusion matrix of K classes from the counts of row numbers.

    Args:
        pairs: (256, 256) from `count_pairs`; a true `IGNORED` is not counted.
        count: K.

    Returns:
        (K, K + 1) pixels by true class and predicted class; the last column holds pixels that were given no class.

    Raises:
        ValueError: a true row is beyond the classes and not `IGNORED`.
    """
    strange = np.flatnonzero(pairs[count:IGNORED].any(axis=1)) + count
    if strange.size:
        msg = f"the true class map has row {strange[0]}, but there are {count} classes"
        raise ValueError(msg)
    return np.concatenate([pairs[:count, :count], pairs[:count, count:].sum(axis=1, keepdims=True)], axis=1)


def class_ious(confusion: Counts) -> Floats:
    """Intersection over union of each class from a (K, K + 1) matrix; NaN where it is neither true nor predicted."""
    hits = np.diagonal(confusion)
    predicted = confusion[:, : len(confusion)].sum(axis=0)
    return _ratio(hits, confusion.sum(axis=1) + predicted - hits)


def class_accuracies(confusion: Counts) -> Floats:
    """Share of each class's true pixels that were found, from a (K, K + 1) matrix; NaN where there are none."""
    return _ratio(np.diagonal(confusion), confusion.sum(axis=1))


def pixel_accuracy(confusion: Counts) -> float:
    """Share of the counted pixels that are right, from a (K, K + 1) matrix; NaN if none is counted."""
    return float(_ratio(np.trace(confusion), confusion.sum()))


def mean_of_valid(values: Floats) -> float:
    """The mean of the values that are not NaN; NaN if there is none."""
    valid = values[~np.isnan(values)]
    # Added one after the other, as the official script does; NumPy's pairwise sum may differ in the last digit.
    return sum(valid.tolist()) / len(valid) if len(valid) else float("nan")


def _ratio(part: npt.NDArray[np.generic], whole: npt.NDArray[np.generic]) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.asarray(np.true_divide(part, whole))
