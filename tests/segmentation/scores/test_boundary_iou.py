"""Boundary IoU is that of the authors' program, written down here for one mask at a time."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from segmentation.data.classes import IGNORED
from segmentation.scores.boundary_iou import boundary_bands


def band_of(mask, ratio):
    """bowenc0221/boundary-iou-api, `mask_to_boundary`: the mask less its erosion, with a frame of one pixel."""
    height, width = mask.shape
    steps = max(1, round(ratio * np.sqrt(height**2 + width**2)))
    framed = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=steps)
    return (framed - eroded)[1:-1, 1:-1].astype(bool)


def blobs(seed, shape=(70, 90), classes=4):
    """A map of rectangles and discs, and one a little beside it."""
    rng = np.random.default_rng(seed)
    maps = []
    for _ in range(2):
        rows = np.zeros(shape, np.uint8)
        maps.append(rows)
    for _ in range(9):
        row, (y, x), radius = int(rng.integers(classes)), rng.integers(0, 70, 2), int(rng.integers(3, 25))
        for rows in maps:
            moved = int(x + rng.integers(-3, 4)), int(y + rng.integers(-3, 4))
            if row % 2:
                cv2.circle(rows, moved, radius, row, -1)
            else:
                cv2.rectangle(rows, moved, (moved[0] + radius, moved[1] + 2 * radius), row, -1)
    return maps


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ratio", [0.005, 0.02, 0.05])
def test_bands_are_those_of_the_authors(seed, ratio):
    true, drawn = blobs(seed)
    bands = boundary_bands(drawn, true, 5, ratio)
    for row in range(5):
        first, second = band_of(true == row, ratio), band_of(drawn == row, ratio)
        assert bands.both[row] == (first & second).sum()
        assert bands.either[row] == (first | second).sum()
    ious = bands.iou()
    assert np.isnan(ious[4])
    assert np.nanmax(ious) < 1


def test_equal_maps_agree_and_uncounted_pixels_do_not_count():
    true, _ = blobs(3)
    np.testing.assert_array_equal(boundary_bands(true, true, 4).iou(), 1)
    half = true.copy()
    half[:, 45:] = IGNORED
    # What is drawn there does not matter, and the edge of what is counted is no outline.
    bands = boundary_bands(np.where(half == IGNORED, 3, true).astype(np.uint8), half, 4)
    np.testing.assert_array_equal(bands.both, bands.either)
    plain = np.zeros((40, 40), np.uint8)
    plain[:, 20:] = IGNORED
    inside = boundary_bands(np.zeros_like(plain), plain, 1, 1 / 56.6)  # one pixel along three sides of 40 x 20
    assert inside.both.tolist() == [40 + 2 * 20 - 2]
