"""The last steps of a training, until somebody looks at their losses: looking makes the host wait for the device."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Images(Protocol):
    """What is asked of a batch whose contents can be shown."""

    @property
    def images(self) -> Tensor:
        """(B, 3, H, W) RGB in 0..255."""
        ...

    def _asdict(self) -> dict[str, object]:
        """Its fields by their names."""
        ...


class Step(NamedTuple):
    """A step of a training.

    Attributes:
        number: optimiser steps that were done before it.
        loss: () what it minimises, without gradient.
        parts: (), the parts of the loss by their names, without gradient.
        batch: what it was computed of, on the device; None if that is not known.
    """

    number: int
    loss: Tensor
    parts: Mapping[str, Tensor]
    batch: object = None


class LastSteps:
    """The steps since the last look, the oldest of which are forgotten.

    Args:
        length: the most that are remembered.
    """

    def __init__(self, length: int) -> None:
        self._steps: deque[Step] = deque(maxlen=length)

    def add(self, step: Step) -> None:
        """Remember a step."""
        self._steps.append(step)

    def first_bad(self) -> Step | None:
        """The first step whose loss is not finite, if there is one; all others are forgotten. Waits once."""
        if not self._steps:
            return None
        finite = torch.stack([step.loss for step in self._steps]).isfinite().tolist()
        bad = next((step for step, sound in zip(self._steps, finite, strict=True) if not sound), None)
        self._steps.clear()
        return bad
