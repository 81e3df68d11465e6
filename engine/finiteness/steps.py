"""The last steps of a training, until somebody looks at their losses: looking makes the host wait for the device."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from engine.finiteness.gradients import GradientNorms


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
        gradients: how large its gradients are; None until they are known, or where that is not looked at.
    """

    number: int
    loss: Tensor
    parts: Mapping[str, Tensor]
    batch: object = None
    gradients: GradientNorms | None = None

    @property
    def sound(self) -> Tensor:
        """() whether loss and gradients are finite, on the device."""
        finite = self.loss.isfinite()
        return finite if self.gradients is None else finite & self.gradients.sound


class Looked(NamedTuple):
    """What was seen of the steps since the last look.

    Attributes:
        losses: the number and the loss of each.
        bad: the first that is not finite; None if all are.
    """

    losses: tuple[tuple[int, float], ...]
    bad: Step | None


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

    def learned(self, step: Step) -> None:
        """Remember the gradients too of the step that was added last, whether it was looked at since or not."""
        if self._steps and self._steps[-1].loss is step.loss:
            self._steps.pop()
        self._steps.append(step)

    def look(self) -> Looked:
        """The losses since the last look, and the first step that is not finite; all are forgotten. Waits once."""
        if not self._steps:
            return Looked((), None)
        kept = list(self._steps)
        self._steps.clear()
        # One transfer: losses in double precision, so that none becomes infinite by it.
        both = torch.stack([torch.stack([step.loss.double(), step.sound.double()]) for step in kept]).tolist()
        bad = next((step for step, (_, sound) in zip(kept, both, strict=True) if not sound), None)
        return Looked(tuple((step.number, loss) for step, (loss, _) in zip(kept, both, strict=True)), bad)
