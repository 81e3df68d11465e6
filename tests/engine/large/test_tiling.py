"""Tiles: every pixel is covered, weights sum to 1, origins lie on the network's grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from engine.large.tiling import Axis, Tiling


@st.composite
def axes(draw):
    align = draw(st.sampled_from([1, 8, 32]))
    window = draw(st.integers(2 * align, 300))
    overlap = draw(st.integers(0, window - align))
    return Axis(draw(st.integers(1, 3000)), window, overlap, draw(st.integers(0, overlap // 2)), align)


@settings(max_examples=300, deadline=None)
@given(axes())
def test_every_axis(axis):
    assert axis.origins[0] == 0
    assert all(origin % axis.align == 0 for origin in axis.origins)
    assert axis.spans[-1].stop == axis.length
    for span in axis.spans[:-1]:
        assert span.stop - span.start == axis.window
    last = axis.spans[-1]
    assert last.stop - last.start > min(axis.window, axis.length) - axis.align
    for before, after in zip(axis.spans, axis.spans[1:], strict=False):
        assert before.start < after.start
        assert before.stop - after.start >= axis.overlap
    total = np.zeros(axis.length)
    for number, (span, weight) in enumerate(zip(axis.spans, axis.weights, strict=True)):
        assert (weight >= 0).all()
        assert (weight <= 1).all()
        assert number == 0 or not weight[: axis.margin].any()
        assert number == len(axis) - 1 or not weight[len(weight) - axis.margin :].any()
        total[span] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_no_more_tiles_than_the_overlap_needs():
    assert Axis(1000, 256, 64, 0).origins == (0, 186, 372, 558, 744)  # 4 steps of at most 192
    assert Axis(256, 256, 64, 32).origins == (0,)
    assert Axis(257, 256, 64, 32).origins == (0, 1)
    assert Axis(10, 256, 64, 32).spans == (slice(0, 10),)
    assert len(Axis(20_000, 1024, 256, 64, 32)) == 26


def test_weights_are_a_truncated_gaussian():
    axis = Axis(160, 100, 40, 10)
    first, second = axis.weights
    assert axis.origins == (0, 60)
    gauss = np.exp(-0.5 * ((np.arange(100) - 49.5) / 12.5) ** 2)
    # In the middle of the overlap both tiles have the same weight; nearer to one tile, that one has more.
    np.testing.assert_allclose(first[79:81] + second[19:21], 1, atol=1e-6)
    np.testing.assert_allclose(first[70:90], second[10:30][::-1], atol=1e-6)
    expected = gauss[70:90] / (gauss[70:90] + gauss[10:30])
    np.testing.assert_allclose(first[70:90], expected, rtol=1e-5)
    np.testing.assert_array_equal(first[:70], 1)
    np.testing.assert_array_equal(first[90:], 0)


def test_a_margin_of_half_the_overlap_cuts():
    first, second = Axis(160, 100, 40, 20).weights
    np.testing.assert_array_equal(first, np.arange(100) < 80)
    np.testing.assert_array_equal(second, np.arange(100) >= 20)


def test_two_sides():
    tiling = Tiling((100, 210), window=64, overlap=16, margin=4, align=16)
    total, tiles = np.zeros((100, 210)), list(tiling)
    assert len(tiles) == len(tiling) == 2 * 5
    for tile in tiles:
        weights = tiling.weights(tile)
        assert weights.shape == tile.size_hw
        assert weights.dtype == np.float32
        total[tile.rows, tile.columns] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert [tile.rows.start for tile in tiles] == [0] * 5 + [48] * 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 64, 16, 4, 32), "at least 1"),
        ((100, 63, 16, 4, 32), "window is 63 px; it must be at least 64"),
        ((100, 64, 33, 4, 32), "overlap is 33 px of a window of 64 px; allowed are 0 to 32"),
        ((100, 64, -1, 0, 32), "overlap is -1"),
        ((100, 64, 16, 9, 32), "margin is 9 px with an overlap of 16 px; allowed are 0 to 8"),
        ((100, 64, 16, -1, 32), "margin is -1"),
    ],
)
def test_bad_values(values, message):
    with pytest.raises(InputError, match=message):
        Axis(*values)
    with pytest.raises(InputError, match=message):
        Tiling((values[0], 50), *values[1:])
