"""A callback that writes what a training sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Sizes(Callback):
    """Writes the side of the images, and the dropout, of every step to a file."""

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self.seen: list[tuple[int, float]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.seen.append((batch.images.shape[-1], pl_module.classifier.head.dropout.p))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.file.write_text(json.dumps(self.seen))
