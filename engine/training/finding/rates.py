"""A learning-rate range test as arithmetic: the rates that are tried, and what the losses say of them.

The test is that of Smith, "Cyclical Learning Rates for Training Neural Networks" (arXiv 1506.01186, section 3.3), with
a rate that grows by one factor from step to step, as in fastai's `lr_find`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

SMOOTHING = 0.9  # of the mean of the losses; fastai's 0.98 lags by fifty steps, half of a test
_LAG = round(SMOOTHING / (1 - SMOOTHING))  # steps by which that mean is late: the mean age of what it holds
_WORSE = 4.0  # times the lowest loss so far, where fastai ends
_SKIPPED = 10  # steps at the start, in which the mean of the losses is that of a few batches


def rate_at(step: int, steps: int, lowest: float, highest: float) -> float:
    """The rate of a step.

    Args:
        step: its number, from 0.
        steps: how many there are, at least 2.
        lowest: that of the first step.
        highest: that of the last one.

    >>> [round(rate_at(step, 3, 0.001, 0.1), 6) for step in range(3)]
    [0.001, 0.01, 0.1]
    """
    return float(lowest * (highest / lowest) ** (step / (steps - 1)))


@dataclass(frozen=True)
class Suggestion:
    """What a range test says.

    Attributes:
        steepest: the rate at which the loss falls fastest.
        lowest: the rate at which it is lowest.
    """

    steepest: float
    lowest: float

    @property
    def rate(self) -> float:
        """A tenth of the rate of the lowest loss: at that rate itself the loss is about to rise (fastai's rule)."""
        return self.lowest / 10


@dataclass
class RangeTest:
    """The losses of a range test.

    Attributes:
        rates: the rate of each step so far.
        losses: the loss of each.
        smooth: the mean of the losses, as `SMOOTHING` weighs them, without the bias of its start.
    """

    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    smooth: list[float] = field(default_factory=list)
    _mean: float = 0.0

    def add(self, rate: float, loss: float) -> bool:
        """Take the loss of a step in; whether a further one is worth while."""
        if not math.isfinite(loss):
            return False
        self.rates.append(rate)
        self.losses.append(loss)
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * loss
        self.smooth.append(self._mean / (1 - SMOOTHING ** len(self.losses)))
        return len(self.smooth) <= _SKIPPED or self.smooth[-1] <= _WORSE * min(self.smooth)

    def suggestion(self) -> Suggestion | None:
        """What to take; None where the loss never fell."""
        smooth = self.smooth[_SKIPPED:]
        if len(smooth) < 3:
            return None
        place = smooth.index(min(smooth))
        falls = _slopes([math.log(rate) for rate in self.rates[_SKIPPED:]], smooth)[: place + 1]
        if place == 0 or min(falls) >= 0:
            return None
        return Suggestion(*(self.rates[_SKIPPED + max(0, at - _LAG)] for at in (falls.index(min(falls)), place)))


def _slopes(places: Sequence[float], values: Sequence[float]) -> list[float]:
    """The slope at each place, between its neighbours."""
    last = len(places) - 1
    return [
        (values[min(number + 1, last)] - values[max(number - 1, 0)])
        / (places[min(number + 1, last)] - places[max(number - 1, 0)])
        for number in range(len(places))
    ]
