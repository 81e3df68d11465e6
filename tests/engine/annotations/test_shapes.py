"""Shapes: their boxes and areas against NumPy by hand, and painted masks against bytes of Label Studio's own packer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.annotations.bits import brush_alpha
from engine.annotations.shapes import (
    Shape,
    area_of,
    box,
    ellipse,
    extent_xyxy,
    joined_shapes,
    mask_part,
    mask_pixels,
    turned_box,
)
from engine.errors import InputError

numbers = st.floats(-500, 500)
sides = st.floats(1, 300)


@given(numbers, numbers, sides, sides, st.floats(-720, 720))
def test_turned_boxes(x: float, y: float, width: float, height: float, degrees: float) -> None:
    shape = turned_box("a", (x, y, x + width, y + height), degrees, (x + width / 3, y))
    turn = np.exp(1j * np.radians(degrees))
    pivot = x + width / 3 + 1j * y
    points = pivot + turn * (np.array([x + 1j * y + c for c in (0, width, width + 1j * height, 1j * height)]) - pivot)
    expected = (points.real.min(), points.imag.min(), points.real.max(), points.imag.max())
    np.testing.assert_allclose(extent_xyxy(shape), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(area_of(shape), width * height, rtol=1e-9)


@given(numbers, numbers, sides, sides, st.floats(-360, 360))
def test_ellipses(x: float, y: float, across: float, along: float, degrees: float) -> None:
    shape = ellipse("a", (x, y), (across, along), degrees)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    half = np.hypot(across * cos, along * sin), np.hypot(across * sin, along * cos)
    expected = (x - half[0], y - half[1], x + half[0], y + half[1])
    np.testing.assert_allclose(extent_xyxy(shape), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(area_of(shape), np.pi * across * along, rtol=2e-3)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_masks_keep_their_pixels(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).random((height, width)) < 0.3
    part = mask_part(pixels, 5, -3)
    if part is None:
        assert not pixels.any()
        return
    whole = np.zeros_like(pixels)
    top, left = part.top + 3, part.left - 5
    whole[top : top + part.height, left : left + part.width] = mask_pixels(part)
    np.testing.assert_array_equal(whole, pixels)
    assert area_of(Shape("a", "mask", masks=(part,))) == pixels.sum()


def test_holes_and_parts() -> None:
    ring, hole = (0.0, 0.0, 8.0, 0.0, 8.0, 8.0, 0.0, 8.0), (2.0, 2.0, 4.0, 2.0, 4.0, 4.0, 2.0, 4.0)
    shape = Shape("a", "polygon", (ring,), (hole,))
    assert area_of(shape) == 60
    both = joined_shapes([shape, box("a", (10, 1, 12, 2), crowd=True)])
    assert extent_xyxy(both) == (0, 0, 12, 8)
    assert area_of(both) == 62
    assert both.crowd


# What `mask2rle` of label-studio-sdk 2.1.2 makes of this mask.
PAINTED = ["000000000", "001111100", "001011100", "001111100", "000000000", "000000001"]
PACKED = [
    *(0, 0, 0, 216, 57, 27, 254, 43, 0, 194, 127, 247, 192, 35, 255, 140, 2, 223, 253, 240, 12, 39, 255, 146, 192, 35),
    *(255, 0),
]


def test_painted_masks_of_label_studio() -> None:
    alpha = brush_alpha(PACKED, 54, "here").reshape(6, 9)
    assert ["".join(str(int(value > 0)) for value in row) for row in alpha] == PAINTED
    with pytest.raises(InputError, match="54 pixels and its image 55"):
        brush_alpha(PACKED, 55, "here")
    with pytest.raises(InputError, match="ends before"):
        brush_alpha(PACKED[:-4], 54, "here")
    with pytest.raises(InputError, match="no byte"):
        brush_alpha([*PACKED, 256], 54, "here")
