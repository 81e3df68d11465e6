"""The boundary F-score against all pairs of boundary pixels."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from segmentation.scores.boundary import boundary_f_scores, tolerance_in_pixels


def brute_force(predicted, true, count, reach):
    """Pixel by pixel, from the definition."""
    height, width = true.shape

    def points(rows, label):
        found = []
        for y in range(height):
            for x in range(width):
                if true[y, x] == 255 or rows[y, x] != label:
                    continue
                for ny, nx in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                    inside = 0 <= ny < height and 0 <= nx < width
                    if inside and true[ny, nx] != 255 and rows[ny, nx] != label:
                        found.append((y, x))
                        break
        return found

    def share(some, others):
        near = [any((y - v) ** 2 + (x - u) ** 2 <= reach**2 for v, u in others) for y, x in some]
        return sum(near) / len(near)

    scores = []
    for label in range(count):
        drawn, wanted = points(predicted, label), points(true, label)
        if not drawn and not wanted:
            scores.append(np.nan)
        elif not drawn or not wanted:
            scores.append(0.0)
        else:
            precision, recall = share(drawn, wanted), share(wanted, drawn)
            scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return scores


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32), st.tuples(st.integers(1, 14), st.integers(1, 14)), st.sampled_from([1, 1.5, 2, 3.61, 5, 40])
)
def test_equals_all_pairs_of_boundary_pixels(seed, size_hw, reach):
    rng = np.random.default_rng(seed)
    cell = rng.integers(1, 5)
    coarse = rng.choice([0, 1, 2, 255], (-(-size_hw[0] // cell), -(-size_hw[1] // cell)), p=[0.4, 0.3, 0.2, 0.1])
    true = np.repeat(np.repeat(coarse, cell, 0), cell, 1)[: size_hw[0], : size_hw[1]].astype(np.uint8)
    predicted = np.where(rng.random(size_hw) < 0.2, rng.choice([0, 1, 3, 255], size_hw), np.roll(true, 1, 1) % 4)
    predicted = predicted.astype(np.uint8)
    expected = brute_force(predicted, true, 4, reach)
    np.testing.assert_allclose(boundary_f_scores(predicted, true, 4, reach), expected, rtol=0, atol=1e-12)


def square(offset, size=40):
    rows = np.zeros((100, 100), np.uint8)
    rows[20 + offset : 20 + offset + size, 20 + offset : 20 + offset + size] = 1
    return rows


def test_what_the_tolerance_means():
    # Shifted by 3 in both directions, a straight edge is 3 away; the corners are further.
    assert boundary_f_scores(square(3), square(0), 2, 2).max() < 0.1
    assert boundary_f_scores(square(3), square(0), 2, 5).tolist() == [1, 1]
    assert boundary_f_scores(square(0), square(0), 2, 1).tolist() == [1, 1]
    # A share of the diagonal.
    assert tolerance_in_pixels(0.0075, (1024, 2048)) == pytest.approx(0.0075 * math.hypot(1024, 2048))
    share = 3.2 / math.hypot(100, 100)
    np.testing.assert_array_equal(
        boundary_f_scores(square(3), square(0), 2, share), boundary_f_scores(square(3), square(0), 2, 3.2)
    )


def test_borders_of_the_image_and_of_what_is_not_counted_are_no_boundary():
    rows = np.zeros((20, 20), np.uint8)
    assert np.isnan(boundary_f_scores(rows, rows, 2, 1)).all()
    true = rows.copy()
    true[:, 10:] = 255
    predicted = rows.copy()
    predicted[:, 10:] = 1
    assert np.isnan(boundary_f_scores(predicted, true, 2, 1)).all()


def test_a_large_map_of_many_distances_equals_squared_distances():
    rng = np.random.default_rng(1)
    true = (rng.random((70, 90)) < 0.002).astype(np.uint8)
    predicted = (rng.random((70, 90)) < 0.002).astype(np.uint8)
    for reach in (math.sqrt(13), 6.0, math.sqrt(200), 17.2):
        expected = brute_force(predicted, true, 2, reach + 1e-9)
        np.testing.assert_allclose(boundary_f_scores(predicted, true, 2, reach + 1e-9), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tolerance", [0, -1, math.nan, math.inf])
def test_tolerances_that_are_none(tolerance):
    with pytest.raises(InputError, match=r"the boundary tolerance is .*; allowed are"):
        boundary_f_scores(square(0), square(0), 2, tolerance)
