"""The moving average of the weights (EMA) that is validated, saved and used for predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from engine.checked import checked
from engine.errors import InputError
from engine.numbers import NonNegativeInt, ZeroToBelowOne

BEGIN = 0.75  # share of a training after which equal averaging begins


class EMA(WeightAveraging):
    """Average the weights with a decay that warms up, and validate and save the average.

    After update number t the average is d * average + (1 - d) * weights with d = min(decay, (1 + t) / (10 + t)),
    TensorFlow's `ExponentialMovingAverage(num_updates=t)`, which the official EfficientDet trains with
    (google/automl, `efficientdet/det_model_fn.py`). The first update copies the weights. As there, batch-norm
    statistics are averaged like weights; counters (integer buffers) are copied.

    In a checkpoint `state_dict` holds the average and `current_model_state` the weights that training resumes
    from. Before the first update the average is the untrained network, so the weights themselves are validated
    and saved until then (Lightning's own callback does not: its issues 21724 and 21754). Sharded models (FSDP) are
    not supported.

    Args:
        decay: Weight of the past in the average; 0 turns the averaging off.
        start_step: Number of optimiser steps before the first update.
        kind: exponential, as above, or equal, in which each step after `begin` counts alike: stochastic weight
            averaging (Izmailov et al., arXiv 1803.05407), for a rate that stays high to the end; decay and start_step
            are then not given.
        begin: The share of the training after which equal averaging begins; null is 0.75, as in that paper.

    Raises:
        InputError: an option is given that the kind does not have.
    """

    @checked
    def __init__(
        self,
        decay: ZeroToBelowOne = 0.9998,
        start_step: NonNegativeInt = 0,
        kind: Literal["exponential", "equal"] = "exponential",
        begin: ZeroToBelowOne | None = None,
    ) -> None:
        super().__init__(multi_avg_fn=self._update)
        _refuse_other(kind, decay, start_step, begin)
        self.decay = decay
        self.start_step = start_step
        self.kind = kind
        self.begin = BEGIN if begin is None else begin
        self._swapped = False

    @property
    def updates(self) -> int:
        """Number of updates that the average holds."""
        return 0 if self._average_model is None else int(self._average_model.n_averaged)

    def _update(self, averages: Sequence[Tensor], weights: Sequence[Tensor], _updates: Tensor | int) -> None:
        # Called with tensors of one device and dtype. The count is read from the CPU (see setup), not from the
        # argument, whose reading would make the host wait for the GPU at every step.
        if averages[0].is_floating_point():
            count = self.updates
            decay = min(self.decay, (1 + count) / (10 + count)) if self.kind == "exponential" else count / (1 + count)
            # The copy is made before a trainer of other precision (64-true, bf16-true) converts the network.
            same = [weight.to(averages[0].dtype) for weight in weights]
            torch._foreach_lerp_(list(averages), same, 1 - decay)
        else:
            torch._foreach_copy_(list(averages), list(weights))

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether the average takes in the weights after this step."""
        return step_idx is not None and step_idx >= self.start_step

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the first step of equal averaging.

        Raises:
            InputError: the training has no end, of which the beginning would be a share.
        """
        if self.kind == "equal" and self._average_model is not None:
            steps: float = trainer.estimated_stepping_batches
            if not math.isfinite(steps):
                msg = (
                    "ema.kind is equal, which begins at a share of the training, and this one has no end. Give "
                    "--trainer.max_epochs or --trainer.max_steps."
                )
                raise InputError(msg)
            self.start_step = int(self.begin * steps)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the averaged copy when training begins."""
        if self.decay == 0:
            return
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and self._average_model is not None:
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: object, batch_idx: int
    ) -> None:
        """Update the average after an optimiser step."""
        if self._average_model is not None:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do nothing: the average follows steps, not epochs."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average in the place of the weights, once there is an average."""
        if self.updates:
            self._swap_models(pl_module)
            self._swapped = True

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the weights back to training."""
        if self._swapped:
            self._swap_models(pl_module)
            self._swapped = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the weights back when a validation is interrupted, because a checkpoint may follow."""
        self.on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the network."""
        if self.updates:
            super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, object]) -> None:
        """Put the average under `state_dict` and the weights under `current_model_state`."""
        if self.updates:
            super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, object]) -> None:
        """Resume weights and average; a checkpoint without an average starts both from its weights."""
        weights = checkpoint.get("current_model_state")
        if self._average_model is not None and weights is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
        elif self._average_model is not None:
            self._average_model.module.load_state_dict(pl_module.state_dict())
        elif isinstance(weights, Mapping) and trainer.training:
            # The averaging was turned off: training goes on from the weights that the optimiser's state belongs to.
            pl_module.load_state_dict(weights)


def _refuse_other(kind: str, decay: float, start_step: int, begin: float | None) -> None:
    """Do nothing if the options belong to the kind.

    Raises:
        InputError: one does not.
    """
    if kind == "exponential" and begin is not None:
        msg = f"ema.begin is {begin}, but only kind equal begins at a share of the training. Give --ema.start_step."
        raise InputError(msg)
    if kind == "equal" and ((decay, start_step) != (0.9998, 0)):
        msg = (
            f"ema.kind is equal, and ema.decay is {decay}, ema.start_step {start_step}: each step counts alike, from "
            "ema.begin on. Leave both out (--ema.decay 0.9998 --ema.start_step 0 over a config that has them)."
        )
        raise InputError(msg)
