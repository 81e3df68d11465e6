"""The parts of the third task."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from engine.tasks import TaskSpec
from engine.training.checkpoints import read_checkpoint
from engine.training.recipe import Optimizer, Schedule
from engine.training.task import DenseTask
from tests.toy_task.spec import SPEC

ADAM = Optimizer(name="adamw", lr=0.05, lr_batch=0)


class Accuracy(float):
    def as_dict(self, prefix: str) -> dict[str, float]:
        return {f"{prefix}accuracy": float(self)}

    def table(self) -> str:
        return f"accuracy {float(self):.3f}"


def build(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 1))


def load(source: str) -> nn.Sequential:
    checkpoint = read_checkpoint(source, SPEC.name)
    network = build(checkpoint.model["width"])
    network.load_state_dict({name.removeprefix("network."): value for name, value in checkpoint.state_dict.items()})
    return network


class SignTask(DenseTask):
    spec: ClassVar[TaskSpec] = SPEC
    part: ClassVar[str] = "network"

    def __init__(self, width: int = 8, optimizer: Optimizer = ADAM, schedule: Schedule = Schedule()) -> None:
        """The network and its recipe.

        Args:
            width: hidden numbers.
        """
        super().__init__(optimizer, schedule)
        self.width, self.right = width, []

    def build(self) -> nn.Module:
        return build(self.width)

    def description(self) -> str:
        return f"a toy of width {self.width}; four numbers"

    def network_settings(self) -> dict[str, Any]:
        return {"width": self.width}

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = nn.functional.soft_margin_loss(self.network(batch[0]).squeeze(1), batch[1])
        self.watch(loss, batch_idx)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.right = []

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.right += [self.network(batch[0]).squeeze(1).sign() == batch[1]]

    def evaluate(self, split: str) -> Accuracy:
        return Accuracy(float(torch.cat(self.right).float().mean()))


class SignData(LightningDataModule):
    def __init__(self, batch_size: int = 16) -> None:
        super().__init__()
        self.batch_size = batch_size

    def _loader(self, seed: int) -> DataLoader[Any]:
        numbers = torch.randn(256, 4, generator=torch.Generator().manual_seed(seed))
        return DataLoader(TensorDataset(numbers, numbers.sum(1).sign()), self.batch_size)

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader(0)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader(1)


class SignTrainer(Trainer):
    def predict(self, model: LightningModule, ckpt_path: str, source: list[float], **_: Any) -> None:  # type: ignore[override]
        """Print the sign of a sum."""
        print(int(load(ckpt_path)(torch.tensor([source])).sign()))
