"""Early stopping by the task's own measure."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities import rank_zero_info

from engine.checked import checked
from engine.errors import InputError
from engine.numbers import NonNegativeFloat, PositiveInt
from engine.training.task import DenseTask


class Stopping(Callback):
    """End a training that no longer gets better.

    Args:
        patience: validations in a row without a better measure (val_ap, val_miou), after which the training ends; null
            trains to the end. Learning rates that fall to the end gain most there: give it to constant ones.
        min_delta: by how much the measure has to be better to count.
    """

    @checked
    def __init__(self, patience: PositiveInt | None = None, min_delta: NonNegativeFloat = 0.0) -> None:
        if patience is None and min_delta:
            msg = f"stop.min_delta is {min_delta:g}, but stop.patience is not given. Give --stop.patience 10."
            raise InputError(msg)
        self.patience = patience
        self.min_delta = min_delta
        self._stopping: EarlyStopping | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the measure of the task.

        Raises:
            InputError: nothing is validated.
        """
        if self.patience is None or stage != "fit" or self._stopping is not None:
            return
        assert isinstance(pl_module, DenseTask)
        spec = pl_module.spec
        self._stopping = EarlyStopping(
            spec.monitor, self.min_delta, self.patience, mode=spec.monitor_mode, check_on_train_epoch_end=False
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do nothing if something is validated.

        Raises:
            InputError: nothing is.
        """
        if self._stopping is not None and not trainer.enable_validation:
            msg = f"stop.patience is {self.patience}, but nothing is validated. Give a validation set, or leave it out."
            raise InputError(msg)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the measure with the best one."""
        if self._stopping is None or trainer.sanity_checking:
            return
        self._stopping.on_validation_end(trainer, pl_module)
        if self._stopping.stopped_epoch:
            best = float(self._stopping.best_score)
            rank_zero_info(
                f"the training ends early: {self._stopping.monitor} was not above {best:.4g} in {self.patience} "
                "validations in a row"
            )

    def state_dict(self) -> dict[str, object]:
        """The best measure, and how long ago it was."""
        return {} if self._stopping is None else dict(self._stopping.state_dict())

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Go on from it, with the patience that is given now."""
        if self._stopping is not None and state_dict:
            self._stopping.load_state_dict({**state_dict, "patience": self.patience, "stopped_epoch": 0})
