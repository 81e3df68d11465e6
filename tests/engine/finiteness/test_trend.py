"""A loss that rises for good is told once; noise, a jump and a warm-up are not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.finiteness.trend import Trend

NOISE = np.random.default_rng(0).normal(0, 0.3, 2000)


def told(losses: list[float], steps: int = 2000) -> list[tuple[int, str]]:
    trend = Trend(steps)
    found = [(number, trend.add([(number, loss)])) for number, loss in enumerate(losses)]
    return [(number, line) for number, line in found if line is not None]


@pytest.mark.parametrize(
    "losses",
    [
        [3 * math.exp(-step / 400) + 1 + NOISE[step] for step in range(2000)],
        [2.0 + NOISE[step] for step in range(2000)],
        [1.0 if step < 1000 else 1.7 for step in range(2000)],  # a jump, as when mosaic ends
        [1.0 if step % 500 else 1e6 for step in range(100)],  # within the first window
        [-1.0 + step / 1000 for step in range(2000)],  # a loss that weighs itself
    ],
)
def test_ordinary_courses(losses):
    assert told(losses) == []


def test_a_divergence_is_told_once():
    losses = [3 * math.exp(-step / 400) + 0.5 if step < 1000 else 1.0 * 1.003 ** (step - 1000) for step in range(2000)]
    ((number, line),) = told(losses)
    assert 1100 <= number <= 1700
    assert "the training diverges" in line
    assert "at step 999 to" in line


def test_windows_follow_the_length():
    assert [Trend(steps).window for steps in (10, 400, 2000, 90_000, math.inf)] == [20, 20, 100, 200, 200]
    trend, same = Trend(400), []
    for number in range(80):
        loss = 1.0 if number < 40 else 9.0
        same.append(trend.add([(number, loss), (number, loss)]))  # looked at twice
    assert [number for number, line in enumerate(same) if line] == [79]
