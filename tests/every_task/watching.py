"""Commands of any task, and callbacks that write what a training meets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from engine.tasks import find_task
from tests.detection.small import command


def run(task: str, line: str) -> None:
    """Run a command that must succeed."""
    said = command(line, find_task(task))
    assert said.code == 0, said.err


def seen(task: str, line: str) -> dict[str, float]:
    """All that a command logs."""
    run(task, f"{line} --trainer.callbacks+ {__name__}.Metrics --trainer.callbacks.file seen.json")
    found: dict[str, float] = json.loads(Path("seen.json").read_text())
    return found


class Metrics(Callback):
    """Writes all that was logged to a file when a command ends: a JSON object of names and values."""

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.file.write_text(json.dumps({name: float(value) for name, value in trainer.callback_metrics.items()}))


class Batches(Callback):
    """Writes every batch without its images, as the steps take it, to `PLACE/KIND-NUMBER.pt`."""

    def __init__(self, place: str) -> None:
        self.place = Path(place)

    def _write(self, kind: str, batch: Any, number: int) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        fields = {name: value for name, value in batch._asdict().items() if name != "images"}
        assert batch.images.dtype == torch.uint8
        for name, value in fields.items():
            if isinstance(value, list):
                fields[name] = [torch.from_numpy(np.asarray(each)) for each in value]
        torch.save(fields, self.place / f"{kind}-{number}.pt")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._write("train", batch, trainer.global_step)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._write("val", batch, batch_idx)
