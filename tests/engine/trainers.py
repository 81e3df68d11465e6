"""What a data module asks of a trainer, without one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch


def trainer_of(task: Any, world: int = 1, rank: int = 0) -> Any:
    """A trainer of a task on CPU, as far as data modules know it."""
    return SimpleNamespace(
        lightning_module=task,
        world_size=world,
        global_rank=rank,
        num_devices=world,
        overfit_batches=0,
        loggers=[],
        checkpoint_callbacks=[],
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
