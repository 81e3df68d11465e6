"""Trainings that are killed and resumed see the batches of an uninterrupted training, and end with its weights."""

from __future__ import annotations

import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from detection.data.classes import BoxClasses
from engine.cli.runs import RandomState
from engine.reading.options import Reading
from joint.data.module import JointDataModule
from segmentation.data.cityscapes.labels import CITYSCAPES
from tests.joint.sets import two

# The network's canvas, and epochs of 4 steps: within 9 steps no pass of a set ends with one.
EPOCHS: dict[str, Any] = {"canvas_size": None, "ratio": (2, 1), "steps_per_epoch": 4}


class Watching(LightningModule):
    """A weight that every batch moves, and a record of the batches."""

    canvas_hw = (64, 64)
    network = SimpleNamespace(takes_pictures=False)
    fill_color = (124, 116, 104)
    reading = Reading()
    segmentation_classes = CITYSCAPES

    def __init__(self, classes: BoxClasses, die_at: int = -1) -> None:
        super().__init__()
        self.classes = classes
        self.die_at = die_at
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.seen: list[tuple[int, ...]] = []

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        if self.global_step == self.die_at:
            raise ConnectionError
        parts = (batch.images, batch.boxes_xyxy, batch.class_ids, batch.masks, batch.boxed, batch.image_ids)
        self.seen.append(tuple(zlib.crc32(part.contiguous().numpy().tobytes()) for part in parts))
        noise = torch.rand(3)  # as dropout draws it
        target = batch.images.float().mean((0, 2, 3)) / 255 + batch.masked.float().mean() + noise
        return (self.weight - target).square().sum()

    def validation_step(self, batch: Any, _: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def fitted(data: JointDataModule, task: Watching, folder: Path, **options: Any) -> Trainer:
    seed_everything(5, workers=True, verbose=False)
    every = ModelCheckpoint(folder, "{step}", save_top_k=-1, every_n_train_steps=1, save_on_train_epoch_end=False)
    ends = ModelCheckpoint(folder, "end-{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    resumed = options.pop("ckpt_path", None)
    trainer = Trainer(
        accelerator="cpu", max_epochs=3, log_every_n_steps=1, callbacks=[every, ends, RandomState()], **quiet, **options
    )
    trainer.fit(task, data, ckpt_path=resumed, weights_only=True if resumed else None)
    return trainer


@pytest.fixture(scope="module")
def uninterrupted(photos: Path, streets: Path, tmp_path_factory: pytest.TempPathFactory) -> Watching:
    data = two(photos, streets, **EPOCHS)
    task = Watching(data.classes)
    fitted(data, task, tmp_path_factory.mktemp("whole"))
    return task


@pytest.mark.by_default("8-2-2")
@pytest.mark.parametrize(("die_at", "workers", "later"), [(6, 0, 2), (6, 2, 0), (8, 2, 2)])
def test_a_killed_training_goes_on_bit_for_bit(
    photos: Path, streets: Path, tmp_path: Path, uninterrupted: Watching, die_at: int, workers: int, later: int
) -> None:
    """Augmented images, labels, order and weights are the same; epochs of 4 steps, cut within one or at its end."""
    assert len(uninterrupted.seen) == 12
    data = two(photos, streets, num_workers=workers, **EPOCHS)
    killed = Watching(data.classes, die_at)
    with pytest.raises(ConnectionError):
        fitted(data, killed, tmp_path)
    resumed = Watching(data.classes)
    path = tmp_path / f"step={die_at}.ckpt"
    fitted(two(photos, streets, num_workers=later, **EPOCHS), resumed, tmp_path / "later", ckpt_path=path)
    assert killed.seen + resumed.seen == uninterrupted.seen
    assert torch.equal(resumed.weight, uninterrupted.weight)
    assert len(set(uninterrupted.seen)) == 12


def test_the_end_of_an_epoch_is_a_place_to_go_on_from(
    photos: Path, streets: Path, tmp_path: Path, uninterrupted: Watching
) -> None:
    """Lightning gives the loader state of such a checkpoint to no loader."""
    data = two(photos, streets, **EPOCHS)
    with pytest.raises(ConnectionError):
        fitted(data, Watching(data.classes, 9), tmp_path)
    resumed = Watching(data.classes)
    data = two(photos, streets, **EPOCHS)
    fitted(data, resumed, tmp_path / "later", ckpt_path=tmp_path / "end-epoch=1.ckpt")
    assert resumed.seen == uninterrupted.seen[8:]
    assert torch.equal(resumed.weight, uninterrupted.weight)


def test_shorter_epochs_skip_nothing(photos: Path, streets: Path, tmp_path: Path, uninterrupted: Watching) -> None:
    data = two(photos, streets, **EPOCHS)
    task = Watching(data.classes)
    fitted(data, task, tmp_path, limit_train_batches=3)
    assert task.seen == uninterrupted.seen[:9]
    resumed = Watching(data.classes)
    data = two(photos, streets, **EPOCHS)
    path = tmp_path / "step=4.ckpt"
    fitted(data, resumed, tmp_path / "later", limit_train_batches=3, ckpt_path=path)
    assert resumed.seen == uninterrupted.seen[4:9]


def test_a_second_training_begins_anew(photos: Path, streets: Path, tmp_path: Path, uninterrupted: Watching) -> None:
    data = two(photos, streets, **EPOCHS)
    for name in ("one", "two"):
        task = Watching(data.classes)
        fitted(data, task, tmp_path / name, limit_train_batches=2)
        assert task.seen == uninterrupted.seen[:6]
