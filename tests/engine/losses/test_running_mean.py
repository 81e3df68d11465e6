"""The running mean of what losses are divided by: its formula, its state, and no wait for the device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.losses.running_mean import RunningMean

COUNTS = [3.0, 1.0, 250.0, 0.0, 17.0, 17.0, 1e6, 2.0]


def by_hand(counts: list[float], momentum: float) -> float:
    """The weighted mean of the counts, the last of which weighs most."""
    weights = momentum ** np.arange(len(counts))[::-1]
    return float((weights * counts).sum() / weights.sum())


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.999])
def test_it_is_the_weighted_mean_of_all_steps(momentum):
    mean = RunningMean(momentum)
    for step in range(1, len(COUNTS) + 1):
        found = mean.after(torch.tensor(COUNTS[step - 1], dtype=torch.float64))
        assert float(found) == pytest.approx(by_hand(COUNTS[:step], momentum), rel=1e-12)


def test_it_becomes_detectron2s_when_its_start_is_forgotten():
    ours, theirs = RunningMean(0.9), 100.0
    generator = np.random.default_rng(0)
    for count in generator.integers(1, 400, 200):
        found = float(ours.after(torch.tensor(float(count), dtype=torch.float64)))
        theirs = 0.9 * theirs + (1 - 0.9) * max(int(count), 1)
    assert found == pytest.approx(theirs, rel=1e-6)


def test_a_step_that_counts_nothing_changes_nothing():
    with_pauses, without = RunningMean(0.8), RunningMean(0.8)
    assert float(with_pauses.after(torch.tensor(0.0), torch.tensor(False))) == 1.0
    for number, count in enumerate(COUNTS):
        expected = without.after(torch.tensor(count))
        assert torch.equal(with_pauses.after(torch.tensor(count), torch.tensor(True)), expected)
        if number % 2:
            assert torch.equal(with_pauses.after(torch.tensor(9e9), torch.tensor(False)), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_goes_on_bit_for_bit(dtype):
    whole, first, second = RunningMean(0.9), RunningMean(0.9), RunningMean(0.9)
    counts = torch.tensor(COUNTS, dtype=dtype)
    expected = [whole.after(count) for count in counts]
    for count in counts[:3]:
        first.after(count)
    second.restore(first.state())
    assert all(torch.equal(second.after(c), e) for c, e in zip(counts[3:], expected[3:], strict=True))
    second.restore({})
    torch.testing.assert_close(second.after(counts[2]), counts[2])  # as at the start


def test_nothing_is_read_from_the_device():
    mean = RunningMean(0.9)
    count = torch.tensor(3.0, device="meta")  # its value cannot be read
    assert mean.after(mean.after(count), torch.tensor(True, device="meta")).device.type == "meta"
