"""Where a training that goes on stands, when its epochs have another number of steps than before.

A checkpoint counts optimiser steps. With another batch, number of devices or size of the data an epoch has another
number of them, so that the same count means another place in the course of the learning rate. What stays is the number
of epochs done.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch.optim.lr_scheduler import LRScheduler

STEPS_KEY = "steps_per_epoch"


def stored_steps_per_epoch(checkpoint: Mapping[str, object], own: str) -> float | None:
    """Optimiser steps of an epoch of the training that wrote a checkpoint.

    Args:
        checkpoint: its content.
        own: the key of the project's own entry.

    Returns:
        The number that the checkpoint states. One of before states none: if it was written at the end of an epoch, its
        steps by its epochs; else None.
    """
    stated = _inner(checkpoint, own).get(STEPS_KEY)
    if isinstance(stated, int | float):
        return float(stated)
    at_end = _inner(checkpoint, "loops", "fit_loop", "epoch_loop.batch_progress").get("is_last_batch")
    epoch, steps = checkpoint.get("epoch"), checkpoint.get("global_step")
    if not at_end or not isinstance(epoch, int) or not isinstance(steps, int):
        return None
    return steps / (epoch + 1)


def _inner(content: Mapping[str, object], *keys: str) -> Mapping[str, object]:
    """The dictionary below some keys, empty where there is none."""
    for key in keys:
        below = content.get(key)
        content = below if isinstance(below, Mapping) else {}
    return content


def moved_step(step: int, stored: float, present: float) -> int:
    """The step of the present training after as many epochs as `step` steps were before.

    Args:
        step: optimiser steps that were done.
        stored: steps of an epoch then.
        present: steps of an epoch now.

    >>> moved_step(6, stored=2, present=1)  # three epochs
    3
    """
    return round(step / stored * present)


def place_scheduler(scheduler: LRScheduler, step: int, peaks: list[float]) -> None:
    """Set a scheduler, and the learning rates of its optimiser, to a step.

    Args:
        scheduler: one whose learning rates depend only on the step, as LambdaLR's.
        step: optimiser steps done.
        peaks: the learning rate at factor 1 of each group of parameters.
    """
    scheduler.base_lrs = [*peaks]
    scheduler.last_epoch = step
    for group, peak in zip(scheduler.optimizer.param_groups, peaks, strict=True):
        group["initial_lr"] = peak
    rates = [float(rate) for rate in scheduler.get_lr()]
    for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    scheduler._last_lr = [*rates]  # what `get_last_lr` gives to loggers
