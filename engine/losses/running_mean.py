"""A mean over the last steps of a training, by which the losses of small batches are divided."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class RunningMean:
    """The exponential mean of a number that each step counts, such as the positive anchors of its batch.

    After t steps it is v_t / w_t with v_t = m v_(t-1) + (1 - m) x_t and w_t = 1 - m^t, so that the first step's is its
    own count: Kingma & Ba, "Adam" (arXiv 1412.6980), section 3. Without w_t, and begun at 100, it is the normaliser of
    RetinaNet in detectron2 (`modeling/meta_arch/retinanet.py`).

    All is computed where the counts are, so that a step waits for no device. Where the counts are those of all
    processes, so is the mean.

    Args:
        momentum: m, the weight of the steps before.
    """

    def __init__(self, momentum: float) -> None:
        self.momentum = momentum
        self._sum: Tensor | None = None
        self._weight: Tensor | None = None

    def after(self, count: Tensor, counted: Tensor | None = None) -> Tensor:
        """The mean with another step.

        Args:
            count: () of the step, over all processes.
            counted: () whether the step counted anything at all; else the mean stays. None for always.
        """
        before = (count.new_zeros(()), count.new_zeros(())) if self._sum is None else (self._sum, self._weight)
        past = tuple(part.to(count) for part in before if part is not None)
        now = tuple(
            self.momentum * part + (1 - self.momentum) * value
            for part, value in zip(past, (count.detach(), torch.ones_like(count)), strict=True)
        )
        if counted is not None:
            now = tuple(torch.where(counted, new, old) for new, old in zip(now, past, strict=True))
        self._sum, self._weight = now
        # Before anything was counted there is nothing to divide either.
        return torch.where(self._weight > 0, self._sum / self._weight, torch.ones_like(self._sum))

    def state(self) -> dict[str, float]:
        """The mean as plain numbers, for a checkpoint; this waits for the device."""
        if self._sum is None or self._weight is None:
            return {}
        return {"sum": float(self._sum), "weight": float(self._weight)}

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from a state; an empty one begins anew."""
        self._sum = self._weight = None
        if state:
            self._sum, self._weight = (torch.tensor(state[name], dtype=torch.float64) for name in ("sum", "weight"))
