"""Gradual unfreezing: the backbone learns stage after stage, the last one first."""

from __future__ import annotations

from collections.abc import Iterator

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import Optimizer

from engine.checked import checked
from engine.errors import InputError
from engine.numbers import NonNegativeFloat
from engine.training.recipe import Staged


class Unfreezing(Callback):
    """Unfreeze the backbone gradually (Howard and Ruder, arXiv 1801.06146, section 3.3).

    A frozen stage learns nothing and keeps its batch norms' statistics. What `model.frozen_stages` freezes stays so.

    Args:
        epochs: epochs between one stage of the backbone and the one before it; at first all are frozen. Parts of an
            epoch are allowed; 0 trains all from the start.
    """

    @checked
    def __init__(self, epochs: NonNegativeFloat = 0.0) -> None:
        self.epochs = epochs
        self._backbones: list[nn.Module] = []
        self._wanted: set[int] = set()  # parameters that would learn without this
        self._frozen = -1  # stages, before the first step none are known
        self._steps = 1.0  # optimiser steps between two stages

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the stages.

        Raises:
            InputError: the network's backbone does not say what its stages are.
        """
        if not self.epochs:
            return
        self._backbones = [part for part in pl_module.modules() if isinstance(part, nn.Module) and _staged(part)]
        if not self._backbones:
            msg = (
                f"unfreeze.epochs is {self.epochs:g}, but the network's backbone does not say what its stages are. "
                "Leave it out."
            )
            raise InputError(msg)
        batches = trainer.num_training_batches / trainer.accumulate_grad_batches
        self._steps = max(1.0, self.epochs * batches)
        self._wanted = {id(p) for part in self._backbones for p in part.parameters() if p.requires_grad}
        self._frozen = -1

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Freeze and unfreeze where this step begins another stage, or where a validation may have changed modes."""
        if not self._backbones:
            return
        stages = max(len(_stages(part)) for part in self._backbones)
        frozen = max(0, stages - int(trainer.global_step / self._steps))
        if frozen == self._frozen and batch_idx:
            return
        self._frozen = frozen
        for part in self._backbones:
            part.train()  # which keeps what the network itself freezes
        for module in self._modules():
            module.eval()
        if trainer.world_size == 1:  # several devices expect the gradients that they began with
            closed = {id(p) for module in self._modules() for p in module.parameters()}
            for part in self._backbones:
                for parameter in part.parameters():
                    parameter.requires_grad_(id(parameter) in self._wanted and id(parameter) not in closed)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Take the gradients of frozen stages away, so that neither momentum nor decay moves them."""
        for module in self._modules() if self._frozen > 0 else ():
            for parameter in module.parameters():
                parameter.grad = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the parameters as they were given."""
        for part in self._backbones:
            for parameter in part.parameters():
                parameter.requires_grad_(id(parameter) in self._wanted)
        self._backbones = []

    def _modules(self) -> Iterator[nn.Module]:
        for part in self._backbones:
            for stage in _stages(part)[: max(self._frozen, 0)]:
                yield from stage


def _staged(part: nn.Module) -> bool:
    return isinstance(part, Staged)


def _stages(part: nn.Module) -> list[list[nn.Module]]:
    assert isinstance(part, Staged)
    return [list(stage) for stage in part.stages()]
