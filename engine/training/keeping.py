"""Callbacks that keep the best and the last checkpoint of a run, beside any that the user adds, which are checked.

They are several, because one with `save_last="link"` would link the last best checkpoint, not that of the last epoch,
and Lightning's callback saves either after steps or after epochs. The last checkpoint is written at the end of an
epoch, after validation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from engine.errors import InputError, did_you_mean
from engine.training.checkpoint_files import CHECKPOINTS, LAST, Mode

_OWN = ("lightning", "engine")  # packages whose callbacks log nothing that a task does not, but for `lr-NAME`


@runtime_checkable
class _Monitoring(Protocol):
    """A callback that acts on a measure, as EarlyStopping and ModelCheckpoint do."""

    monitor: str | None


@runtime_checkable
class _Moded(Protocol):
    """A callback that takes a larger ("max") or a smaller ("min") measure for better."""

    mode: str


class _Movable(ModelCheckpoint):
    """Lightning's callback with a name of its own, so that it may stand beside one of the user's.

    A run may be moved: the files that the state names are looked for in the folder that the run is in now. Lightning
    itself forgets the best score where the folder has another name, and a worse checkpoint then becomes the best.
    """

    @property
    def _legacy_state_key(self) -> type[Callback]:
        # The name in checkpoints of before, which Lightning's own class wrote.
        key = self.state_key.replace(type(self).__qualname__, "ModelCheckpoint", 1)
        return cast("type[Callback]", key)

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Take the scores, for files that still exist."""
        here, named = Path(self.dirpath or "."), state_dict.get("best_k_models", {})
        assert isinstance(named, Mapping)
        moved = {str(here / Path(path).name): score for path, score in named.items()}
        kept = {path: score for path, score in moved.items() if Path(path).is_file()}
        ordered = sorted(kept, key=lambda path: float(kept[path]), reverse=self.mode == "max")
        best, worst = (ordered[0], ordered[-1]) if ordered else ("", "")
        super().load_state_dict(
            {
                **state_dict,
                "dirpath": self.dirpath,
                "best_k_models": kept,
                "best_model_path": best,
                "best_model_score": kept.get(best),
                "kth_best_model_path": worst,
                "kth_value": kept.get(worst, self.kth_value),
                "last_model_path": "",
            }
        )


class LastCheckpoint(_Movable):
    """Keeps the last checkpoint."""


class LastCheckpointOfSteps(_Movable):
    """Keeps the last checkpoint within epochs too, but not at their last step.

    Lightning takes a checkpoint of the last step for one of the end of the epoch, and leaves out what comes between:
    the validation, and with it the rest of what an epoch counts. The end of the epoch is saved in a moment.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: object, batch_idx: int
    ) -> None:
        """Save after a step that is not the last of its epoch."""
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


class BestCheckpoint(_Movable):
    """Keeps the checkpoint with the best score; NaN, where there is nothing to score, is never the best."""

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether a score is among the best."""
        if current is None or not math.isfinite(float(current)):
            return False
        return super().check_monitor_top_k(trainer, current)


def make_checkpointing(
    folder: Path, monitor: str, mode: Mode, validated: bool, save_steps: int | None = None
) -> list[Callback]:
    """Callbacks that keep the best and the last checkpoint.

    Args:
        folder: The run's folder.
        monitor: Name of the measure by which the best checkpoint is chosen.
        mode: Whether a larger ("max") or a smaller ("min") measure is better.
        validated: Whether the training has a validation at all.
        save_steps: Write the last checkpoint every N steps too.
    """
    place = folder / CHECKPOINTS
    name = Path(LAST).stem
    kept: list[Callback] = [
        LastCheckpoint(place, filename=name, enable_version_counter=False, save_on_train_epoch_end=True)
    ]
    if save_steps is not None:
        kept.append(
            LastCheckpointOfSteps(
                place, filename=name, enable_version_counter=False, every_n_train_steps=save_steps,
                save_on_train_epoch_end=False,
            )
        )  # fmt: skip
    if not validated:
        return kept
    # A "/" in the name of a measure would make a folder.
    shown = re.sub(r"\W", "_", monitor)
    best = BestCheckpoint(
        place,
        filename=f"best-epoch{{epoch:03d}}-{shown}{{{monitor}:.4f}}",
        monitor=monitor,
        mode=mode,
        auto_insert_metric_name=False,
        enable_version_counter=False,
    )
    return [best, *kept]


def check_monitors(
    callbacks: Sequence[Callback], logged: Mapping[str, Mode | None], task: str, complete: bool = True
) -> None:
    """Do nothing if every callback acts on a measure that is logged, in the direction in which it is better.

    A callback of another package may log anything; beside one, only directions are checked.

    Args:
        callbacks: Those of the trainer.
        logged: All names that are logged, each with what is better, as far as that is known.
        task: Name of the task.
        complete: Whether nothing else is logged, as by a class that a user derived from the task's.

    Raises:
        InputError: A measure is never logged, or a callback takes the worse for the better.
    """
    complete = complete and all(type(callback).__module__.partition(".")[0] in _OWN for callback in callbacks)
    for callback in callbacks:
        name, monitor, mode = type(callback).__name__, _monitor_of(callback), _mode_of(callback)
        if monitor is None:
            continue
        if monitor not in logged:
            always = isinstance(callback, ModelCheckpoint) and monitor in ("epoch", "step")
            if not complete or always or monitor.startswith("lr-"):
                continue
            msg = (
                f"{name} has monitor '{monitor}', which this training of {task} never logs."
                f"{did_you_mean(monitor, logged)} It logs {', '.join(logged)}."
            )
            raise InputError(msg)
        better = logged[monitor]
        if better is not None and mode not in (None, better):
            size = "larger" if better == "max" else "smaller"
            msg = (
                f"{name} has monitor '{monitor}' with mode {mode}, but a {size} {monitor} is better. "
                f"Give it mode {better}: --trainer.callbacks.mode={better} right after its monitor."
            )
            raise InputError(msg)


def _monitor_of(callback: object) -> str | None:
    return callback.monitor if isinstance(callback, _Monitoring) else None


def _mode_of(callback: object) -> str | None:
    return callback.mode if isinstance(callback, _Moded) else None
