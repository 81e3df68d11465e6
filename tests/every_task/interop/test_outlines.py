"""Polygons along the edges of pixels lose nothing: pycocotools draws the same mask from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco

from engine.interop.outlines import polygons_of

MASKS = arrays.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1))


def drawn(polygons, size_hw):
    """The mask of polygons, each an outline without its holes."""
    whole = np.zeros(size_hw, np.uint8)
    for outline, holes in polygons:
        region = one(outline, size_hw)
        for hole in holes:
            region &= 1 - one(hole, size_hw)
        whole |= region
    return whole


def one(ring, size_hw):
    return coco.decode(coco.merge(coco.frPyObjects([ring.ravel().astype(float).tolist()], *size_hw)))


def area(ring):
    x, y = ring.T.astype(np.int64)
    return abs(int((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())) / 2


@settings(max_examples=100, deadline=None)
@given(MASKS)
@example(np.zeros((3, 4), np.uint8))
@example(np.ones((1, 1), np.uint8))
@example(np.eye(5, dtype=np.uint8))
@example(np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]], np.uint8))
def test_the_mask_comes_back(mask):
    found = polygons_of(mask)
    for outline, holes in found:
        for ring in (outline, *holes):
            steps = np.roll(ring, -1, 0) - ring
            assert ((steps == 0).sum(1) == 1).all(), "edges run along rows and columns"
    assert sum(area(outline) - sum(map(area, holes)) for outline, holes in found) == mask.sum()
    np.testing.assert_array_equal(drawn(found, mask.shape), mask)


@pytest.mark.parametrize("kind", [np.bool_, np.uint8])
def test_a_large_mask_far_from_the_corner(kind):
    rows, columns = np.mgrid[:700, :900]
    distance = np.hypot(rows - 400, columns - 500)
    mask = ((distance < 250) & (distance > 90)) | ((rows > 690) & (columns > 880))
    found = polygons_of(mask.astype(kind) * (1 if kind is np.bool_ else 255))
    assert sorted(len(holes) for _, holes in found) == [0, 1]
    np.testing.assert_array_equal(drawn(found, mask.shape), mask)
