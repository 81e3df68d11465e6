"""`fit --lr_find.steps N`: a learning-rate range test in the place of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from engine.checked import checked
from engine.distributed import is_main
from engine.errors import InputError
from engine.numbers import PositiveFloat, PositiveInt
from engine.outputs import write_text
from engine.training.finding.rates import RangeTest, rate_at
from engine.training.task import DenseTask

FILE = "lr_find.csv"
_LEAST = 20


class Holding(Protocol):
    """What Lightning's Trainer has without declaring it."""

    callbacks: list[Callback]


class FindRate(Callback):
    """Find a learning rate: a test in the place of a training, which leaves no weights behind.

    Args:
        steps: steps of the test, at least 20, in each of which the rate grows by one factor; null trains.
        lowest: the first `model.optimizer.lr` that is tried.
        highest: the last one; the test ends before it where the loss is four times the lowest.

    Raises:
        InputError: a number is out of range.
    """

    @checked
    def __init__(
        self, steps: PositiveInt | None = None, lowest: PositiveFloat = 1e-6, highest: PositiveFloat = 10.0
    ) -> None:
        if steps is None and (lowest, highest) != (1e-6, 10.0):
            msg = (
                f"lr_find.lowest is {lowest:g} and lr_find.highest {highest:g}, but lr_find.steps is not given. Give "
                "--lr_find.steps 100."
            )
            raise InputError(msg)
        if (steps is not None and steps < _LEAST) or lowest >= highest:
            msg = (
                f"lr_find has {steps} steps from {lowest:g} to {highest:g}; allowed are at least {_LEAST} steps from a "
                "lower to a higher rate. Give --lr_find.steps 100."
            )
            raise InputError(msg)
        self.steps = steps
        self.lowest = lowest
        self.highest = highest
        self.test = RangeTest()
        self._losses: list[float] = []  # of the batches of one step

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the trainer take the steps of the test, and neither validate nor keep weights."""
        if self.steps is None or stage != "fit":
            return
        if trainer.ckpt_path is not None:
            msg = (
                f"lr_find tests the start of a training, and ckpt_path is '{trainer.ckpt_path}'. Leave one of them out."
            )
            raise InputError(msg)
        if isinstance(pl_module, DenseTask):
            pl_module.stops_at_bad_loss = False  # it is what ends the test
        loop = trainer.fit_loop
        loop.max_epochs, loop.epoch_loop.max_steps = -1, self.steps
        loop.min_epochs, loop.epoch_loop.min_steps = None, None
        trainer.limit_val_batches, trainer.num_sanity_val_steps = 0, 0
        held = cast("Holding", trainer)
        held.callbacks = [each for each in held.callbacks if not isinstance(each, Checkpoint)]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Set the rate of this step; groups keep their proportions."""
        if self.steps is None:
            return
        assert isinstance(pl_module, DenseTask)
        factor = self._rate(trainer) / pl_module.optimizer.lr
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: object, batch_idx: int
    ) -> None:
        """Take the loss in, and end the test where the loss has become too high."""
        if self.steps is None:
            return
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        assert isinstance(loss, Tensor)
        # Lightning divides the loss of each batch by the number of batches of a step.
        self._losses.append(float(trainer.strategy.reduce(loss.detach())) * trainer.accumulate_grad_batches)
        if len(self._losses) < trainer.accumulate_grad_batches and not trainer.is_last_batch:
            return
        rate = rate_at(len(self.test.losses), self.steps, self.lowest, self.highest)
        going = self.test.add(rate, sum(self._losses) / len(self._losses))
        self._losses = []
        if not going:
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the rates and losses, and say what to take."""
        if self.steps is None or not is_main():
            return
        rows = zip(self.test.rates, self.test.losses, self.test.smooth, strict=True)
        lines = ["lr,loss,smooth", *(f"{rate:.6g},{loss:.6g},{smooth:.6g}" for rate, loss, smooth in rows)]
        where = ""
        if trainer.loggers and trainer.log_dir:
            write_text(Path(trainer.log_dir, FILE), "\n".join(lines) + "\n")
            where = f" The losses are in '{Path(trainer.log_dir, FILE)}'."
        found = self.test.suggestion()
        if found is None:
            rank_zero_info(
                f"lr_find: after {len(self.test.losses)} steps the loss has not fallen, so no rate is suggested. Give "
                f"more --lr_find.steps, or a lower --lr_find.lowest.{where}"
            )
            return
        rank_zero_info(
            f"lr_find: in {len(self.test.losses)} steps the loss was lowest at {found.lowest:.2g} and fell fastest "
            f"at {found.steepest:.2g}. Give --model.optimizer.lr {found.rate:.2g}, a tenth of the lowest's, and "
            f"compare it with neighbours: a hundred steps do not show what a whole training does.{where}"
        )

    def _rate(self, trainer: Trainer) -> float:
        assert self.steps is not None
        return rate_at(len(self.test.losses), self.steps, self.lowest, self.highest)
