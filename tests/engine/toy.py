"""A tiny task for the command line: one linear layer with batch norm that learns the sign of a sum."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from engine.cli.effdense_cli import run_cli
from engine.errors import InputError
from engine.tasks import TaskSpec
from engine.training.checkpoints import save_metadata
from engine.training.recipe import Optimizer, Schedule, build_optimizer, build_scheduler

_OPTIMIZER = Optimizer(lr=0.1, lr_batch=8, weight_decay=4e-5)
_SCHEDULE = Schedule(warmup_epochs=0.5, warmup_start=0.1)


class ToyTask(LightningModule):
    def __init__(
        self,
        size: Literal["small", "large"] = "small",
        width: int = 4,
        dropout: float = 0.0,
        optimizer: Optimizer = _OPTIMIZER,
        schedule: Schedule = _SCHEDULE,
    ) -> None:
        """The network of the toy task.

        Args:
            size: Which one.
            width: Its channels.
            dropout: Share of inputs left out.
            optimizer: Update rule.
            schedule: Learning rate.
        """
        super().__init__()
        self.size, self.width = size, width
        self.optimizer, self.schedule = optimizer, schedule
        self.net = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Dropout(dropout), nn.Linear(width, 1))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, targets = batch
        loss = nn.functional.mse_loss(self.net(inputs).squeeze(1), targets)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        inputs, targets = batch
        score = -nn.functional.mse_loss(self.net(inputs).squeeze(1), targets)
        self.log("val_score", score, prog_bar=True)

    def configure_optimizers(self) -> Any:
        steps, epochs = int(self.trainer.estimated_stepping_batches), self.trainer.max_epochs or 1
        optimizer = build_optimizer(self, self.optimizer, 8)
        scheduler = build_scheduler(optimizer, self.schedule, steps, epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        model = {"size": self.size, "width": self.width, "optimizer": asdict(self.optimizer)}
        save_metadata(checkpoint, "toy", model)


class Broken(torch.utils.data.Dataset[Tensor]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        msg = "'a.jpg' is not an image. Remove it."
        raise InputError(msg)


class ToyData(LightningDataModule):
    def __init__(self, images: int = 32, broken: bool = False, workers: int = 0, by_epoch: bool = True) -> None:
        super().__init__()
        self.images, self.broken, self.workers, self.by_epoch = images, broken, workers, by_epoch

    def _loader(self, seed: int, shuffle: bool) -> DataLoader[Any]:
        if self.broken:
            return DataLoader(Broken(), num_workers=self.workers)
        inputs = torch.randn(self.images, 4, generator=torch.Generator().manual_seed(seed))
        pairs = TensorDataset(inputs, inputs.sum(1).sign())
        if not self.by_epoch:
            return DataLoader(pairs, batch_size=8, shuffle=shuffle)
        # It orders the samples by seed and epoch; Lightning tells it the epoch.
        sampler = DistributedSampler(pairs, num_replicas=1, rank=0, shuffle=shuffle)
        return DataLoader(pairs, batch_size=8, sampler=sampler)

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader(1, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader(2, shuffle=False)


class Crash(Callback):
    """Stops the program when an epoch begins, as a power cut would."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            msg = "power cut"
            raise RuntimeError(msg)


class ToyTrainer(Trainer):
    def predict(  # type: ignore[override]
        self, model: Any, source: str, output: str = "out", datamodule: Any = None, ckpt_path: str | None = None
    ) -> None:
        """Predict on images.

        Args:
            source: What to read.
            output: Where to write.
        """
        Path(output).write_text(f"{source} {model.size} {model.width} {ckpt_path}")


SPEC = TaskSpec(
    name="toy",
    title="A toy.",
    examples=("fit --model.width 3",),
    about={"fit": "train", "validate": "score", "test": "score", "predict": "write", "shout": "shout"},
    module="tests.engine.toy:ToyTask",
    data="tests.engine.toy:ToyData",
    trainer="tests.engine.toy:ToyTrainer",
    predictor="tests.engine.toy:ToyTask",
    commands={"shout": "tests.engine.toy_shout"},
    monitor="val_score",
    checkpoint_args=("size", "width"),
    resume_args=("optimizer",),
    demo="toy/demo",
    first_page={"fit": ("model.size", "model.width", "model.optimizer.lr", "trainer.max_epochs")},
    renamed={"model.wideness": "model.width", "data.pictures": "data.images", "origin": "source"},
    trainer_defaults={"accelerator": "cpu", "devices": 1, "max_epochs": 2, "log_every_n_steps": 1},
)


def main(argv: list[str]) -> int:
    """The commands of the trainer, with the errors of the parser."""
    return run_cli(SPEC, argv, "python -m toy")
