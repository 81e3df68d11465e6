"""The arithmetic of what is found by trying: rates against a loss that is known, batches against a memory that is."""

from __future__ import annotations

import math

import pytest

from engine.errors import InputError
from engine.training.finding.batches import Trial, container_free_mib, find_batch, largest
from engine.training.finding.range_test import FindRate
from engine.training.finding.rates import RangeTest, rate_at


def test_rates_are_numpys_geometric_row():
    import numpy as np

    found = [rate_at(step, 50, 1e-6, 10.0) for step in range(50)]
    np.testing.assert_allclose(found, np.geomspace(1e-6, 10, 50))


def descent(curvature: float, steps: int = 200) -> RangeTest:
    """Gradient descent on curvature / 2 * x^2, which diverges at rates above 2 / curvature."""
    test, x = RangeTest(), 1.0
    for step in range(steps):
        rate = rate_at(step, steps, 1e-5, 1e3)
        if not test.add(rate, curvature / 2 * x * x + 1.0):
            break
        x -= rate * curvature * x
    return test


@pytest.mark.parametrize("curvature", [0.1, 1.0, 30.0])
def test_the_suggestion_is_below_the_rate_that_diverges(curvature):
    test = descent(curvature)
    found = test.suggestion()
    assert found is not None
    diverges = 2 / curvature
    assert len(test.rates) < 200
    assert test.rates[-1] > diverges
    # From a hundredth of the rate that diverges, and below it.
    assert diverges / 100 < found.rate < diverges / 2
    assert found.steepest <= found.lowest


def test_a_loss_that_never_falls_gives_no_rate():
    test = RangeTest()
    for step in range(60):
        assert test.add(rate_at(step, 60, 1e-6, 1.0), 1.0 + step / 100)
    assert test.suggestion() is None
    assert not test.add(1.0, math.nan)
    assert len(test.losses) == 60


def test_the_mean_is_the_weighted_mean():
    test = RangeTest()
    losses = [3.0, 1.0, 2.0, 5.0]
    for loss in losses:
        test.add(0.1, loss)
    weights = [0.9**age for age in range(len(losses))][::-1]
    expected = sum(weight * loss for weight, loss in zip(weights, losses, strict=True)) / sum(weights)
    assert test.smooth[-1] == pytest.approx(expected)


class Known:
    """A memory in which a step takes `base + images * each`."""

    def __init__(self, base: float, each: float, limit: float) -> None:
        self.base, self.each, self.limit = base, each, limit
        self.tried: list[int] = []

    def limit_mib(self) -> float:
        return self.limit

    def peak_mib(self, step):
        step()
        peak = self.base + self.each * self.tried[-1]
        return None if peak > 2 * self.limit else peak


@pytest.mark.parametrize(("base", "each", "limit"), [(300, 100, 1000), (500, 9, 8000), (10, 400, 900), (20, 300, 980)])
def test_the_batch_is_the_largest_that_fits(base, each, limit):
    memory = Known(base, each, limit)
    found = find_batch(memory, memory.tried.append, most=64)
    right = max(images for images in range(1, 65) if base + images * each <= limit)
    assert found.images == right
    assert len(memory.tried) == len(set(memory.tried))
    assert max(memory.tried) <= max(4, right * 2)


def test_a_single_image_is_tried_last():
    memory = Known(300, 100, 450)
    assert find_batch(memory, memory.tried.append, most=64).images == 1
    assert memory.tried == [2, 1]


def test_a_batch_is_never_above_the_most():
    memory = Known(100, 0.001, 1000)
    assert find_batch(memory, memory.tried.append, most=6).images <= 6
    assert memory.tried == [2, 4]
    assert largest([Trial(1, 50.0), Trial(2, 49.0)], 1000.0, 64) == 2


def test_an_image_that_does_not_fit_is_refused():
    memory = Known(900, 200, 1000)
    with pytest.raises(InputError, match=r"a step of one image does not fit the 1\.0 GiB"):
        find_batch(memory, memory.tried.append, most=64)


def test_the_containers_memory(tmp_path):
    assert container_free_mib(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1\n")
    assert container_free_mib(tmp_path) is None
    (tmp_path / "memory.max").write_text(f"{4 << 30}\n")
    (tmp_path / "memory.current").write_text(f"{1 << 30}\n")
    assert container_free_mib(tmp_path) == 3072
    old = tmp_path / "old/memory"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text(f"{2 << 20}")
    (old / "memory.usage_in_bytes").write_text(f"{3 << 20}")
    assert container_free_mib(tmp_path / "old") == 0


def test_options_of_the_test_that_cannot_apply_are_refused():
    with pytest.raises(InputError, match=r"lr_find\.steps is not given"):
        FindRate(lowest=1e-4)
    with pytest.raises(InputError, match="at least 20 steps"):
        FindRate(steps=5)
    with pytest.raises(InputError, match="from a lower to a higher"):
        FindRate(steps=50, lowest=1.0, highest=0.1)
