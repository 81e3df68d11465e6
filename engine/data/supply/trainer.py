"""What a data module asks Lightning's trainer, in places that its types leave out."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, cast

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

CHECKPOINTS = "checkpoints"  # the folder of them in the folder of a run


class _Epochs(Protocol):
    """The parts of Lightning's count of epochs that its types leave out."""

    started: int
    processed: int


class _Overfits(Protocol):
    """The same of its trainer."""

    overfit_batches: int | float


def within_epoch(trainer: Trainer | None) -> bool:
    """Whether a training is within an epoch, and not at its last batch."""
    if trainer is None:
        return False
    loop = trainer.fit_loop
    epochs = cast("_Epochs", loop.epoch_progress.current)
    return epochs.started != epochs.processed and not loop.epoch_loop.batch_progress.is_last_batch


def overfit_count(trainer: Trainer | None, steps: int) -> int | None:
    """The first batches, this many, are all that a training with `trainer.overfit_batches` sees; None sees all.

    Args:
        trainer: the trainer.
        steps: batches of an epoch.
    """
    asked = 0 if trainer is None else cast("_Overfits", trainer).overfit_batches
    if not asked:
        return None
    return max(1, int(asked * steps)) if isinstance(asked, float) else asked


def folder_of_run(trainer: Trainer | None) -> Path | None:
    """The folder of a training's run, the same on every process; None where there is none."""
    if trainer is None:
        return None
    saving = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    places = [Path(callback.dirpath) for callback in saving if callback.dirpath is not None]
    if places:
        return places[0].parent if places[0].name == CHECKPOINTS else places[0]
    return Path(trainer.log_dir) if trainer.loggers and trainer.log_dir else None
