"""Training with the rounding of int8, for networks that lose too much by it afterwards."""

from __future__ import annotations

from typing import Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from engine.checked import checked
from engine.distributed import all_reduce_max
from engine.quantisation.simulation import Int8Simulation
from engine.training.task import DenseTask


class Int8Training(Callback):
    """Round weights and the inputs of layers to int8 in every pass of a training, and in its validations.

    What is saved is a checkpoint in floating point like any other, for `deployment quantize` or `export`.

    Args:
        simulate: whether it is done: for some epochs of fine-tuning with a low rate (`--model.pretrained X.ckpt`).
        weight_bits: of the weights; 7 for files that x86 processors without VNNI are to compute.
    """

    @checked
    def __init__(self, simulate: bool = False, weight_bits: Literal[7, 8] = 8) -> None:
        self.simulate = simulate
        self.weight_bits: Literal[7, 8] = weight_bits
        self._simulation: Int8Simulation | None = None
        self._stored: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        if not self.simulate:
            return
        assert isinstance(pl_module, DenseTask)
        self._simulation = Int8Simulation(pl_module.built, self.weight_bits)
        self._simulation.restore(self._stored)
        self._simulation.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: object, batch_idx: int
    ) -> None:
        """Let the ranges follow, on all devices alike."""
        if self._simulation is not None:
            self._simulation.follow(all_reduce_max)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave a network in floating point."""
        if self._simulation is not None:
            self._stored = dict(self._simulation.ranges)
            self._simulation.stop()
            self._simulation = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """As at the end."""
        self.on_fit_end(trainer, pl_module)

    def state_dict(self) -> dict[str, object]:
        """The ranges, with which a training goes on exactly."""
        ranges = self._stored if self._simulation is None else self._simulation.ranges
        return {"ranges": {name: pair.cpu() for name, pair in ranges.items()}} if self.simulate else {}

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Take them from a checkpoint."""
        ranges = state_dict.get("ranges")
        if isinstance(ranges, dict):
            self._stored = ranges
