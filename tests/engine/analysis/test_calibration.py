"""The calibration errors are those of torchmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from engine.analysis.calibration import reliability


@pytest.mark.parametrize("bins", [5, 10, 15])
def test_errors_are_those_of_torchmetrics(bins):
    rng = np.random.default_rng(bins)
    scores = rng.beta(0.7, 2, 4000).astype(np.float32)
    right = rng.random(4000) < np.sqrt(scores)
    found = reliability(scores, right, bins)
    given = torch.from_numpy(scores), torch.from_numpy(right.astype(int))
    for norm, ours in (("l1", found.expected_error), ("max", found.largest_error)):
        assert ours == pytest.approx(float(binary_calibration_error(*given, n_bins=bins, norm=norm)), abs=1e-6)
    assert found.counts.sum() == 4000


def test_ends_and_empty_bins():
    found = reliability(np.array([0.0, 1.0, 1.0]), np.array([False, True, False]), 4)
    assert found.counts.tolist() == [1, 0, 0, 2]
    np.testing.assert_array_equal(found.right, [0, np.nan, np.nan, 0.5])
    assert found.expected_error == pytest.approx((0 * 1 + 0.5 * 2) / 3)
    assert math.isnan(reliability(np.empty(0), np.empty(0, bool)).expected_error)
