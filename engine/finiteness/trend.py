"""Whether the loss of a training rises for good."""

from __future__ import annotations

from collections.abc import Iterable

RISE = 2.0  # times the lowest mean; mosaic's end, unfrozen stages and warm-ups move a loss by less
_LEAST, _MOST, _PARTS = 20, 200, 20  # steps of a window, and how many of them a training has at best


class Trend:
    """Compares the mean loss of the last steps with the lowest mean so far.

    Args:
        steps: of the whole training; the windows are a twentieth of it, from 20 to 200 steps.
    """

    def __init__(self, steps: float) -> None:
        self.window = round(min(max(steps / _PARTS, _LEAST), _MOST))
        self._losses: list[float] = []
        self._lowest: tuple[float, int] | None = None
        self._risen = 0
        self._end = 0

    def add(self, losses: Iterable[tuple[int, float]]) -> str | None:
        """Take steps by number and loss, in order.

        Returns:
            A sentence, once, when two windows in a row are above twice the lowest; None else.
        """
        found = None
        for number, loss in losses:
            if number < self._end:  # the same step again
                continue
            self._end = number + 1
            self._losses.append(loss)
            if len(self._losses) == self.window:
                found = self._compare(sum(self._losses) / self.window, number) or found
                self._losses = []
        return found

    def _compare(self, mean: float, number: int) -> str | None:
        before = self._lowest
        if before is None or mean < before[0]:
            self._lowest, self._risen = (mean, number), 0
            return None
        # A loss that learns its own weights may be below 0; what twice of it means is not known.
        self._risen = self._risen + 1 if 0 < RISE * before[0] < mean else 0
        if self._risen != 2:
            return None
        return (
            f"the loss has risen from {before[0]:.3g} at step {before[1]} to {mean:.3g} at step {number}: the training "
            "diverges"
        )
