"""A data module under Lightning's trainer: resuming with other batches, overfitting, and what its loaders are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from engine.data.module import SplitData
from engine.errors import InputError, SampleError
from engine.reading.options import Reading

COUNT = 12


class Places:
    """Each sample is its place and a random number."""

    name = "places"

    def __init__(self, folder: Path, bad: tuple[int, ...] = ()) -> None:
        self.folder = folder
        self.bad = bad

    def image_path(self, index: int) -> Path:
        return self.folder / f"{index}.png"

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[float, float]:
        if index in self.bad:
            msg = f"cannot read image '{index}.png'."
            raise SampleError(msg)
        return float(index), float(torch.rand(()))


class PlaceData(SplitData[Any, Any, Any]):
    collate = staticmethod(torch.tensor)
    collate_whole = staticmethod(torch.tensor)

    def __init__(
        self, folder: Path, batch_size: int, bad: tuple[int, ...] = (), workers: int = 0, **options: Any
    ) -> None:
        super().__init__(batch_size, workers, **options)
        self.places = Places(folder, bad)

    def has(self, split: str) -> bool:
        return True

    def training_sets(self) -> list[Places]:
        return [self.places]

    def whole_sets(self, split: str) -> list[Places]:
        return [self.places]


class Seeing(LightningModule):
    """Remembers its batches."""

    fill_color = (0, 0, 0)
    reading = Reading()

    def __init__(self, die_at: int = -1) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[Any] = []
        self.die_at = die_at

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        if self.global_step == self.die_at:
            raise ConnectionError
        self.seen.append(batch.tolist())
        return self.weight * batch.sum()

    def validation_step(self, batch: torch.Tensor, _: int) -> None:
        assert batch.device.type == "cpu"

    def configure_optimizers(self) -> torch.optim.Optimizer:
        assert (
            self.trainer.estimated_stepping_batches
        )  # which loads the data, before the checkpoint's progress is known
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Saving(ModelCheckpoint):
    """Saves every time, under the name of the moment."""

    def __init__(self, folder: Path, name: str, **when: Any) -> None:
        super().__init__(folder, name, save_top_k=-1, auto_insert_metric_name=False, **when)

    @property
    def state_key(self) -> str:
        return str(self.filename)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for number in range(COUNT):
        (tmp_path / "in" / f"{number}.png").touch()
    return tmp_path


def fit(folder: Path, batch_size: int, die_at: int = -1, ckpt: str | None = None, **options: Any) -> list[Any]:
    task = Seeing(die_at)
    saving = [
        Saving(folder, "step{step}", every_n_train_steps=1),
        Saving(folder, "end{epoch}", save_on_train_epoch_end=True),
        Saving(folder, "val{epoch}", save_on_train_epoch_end=False),
    ]
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", callbacks=saving, **{"max_epochs": 3} | quiet | options)
    data = PlaceData(folder / "in", batch_size)
    path = None if ckpt is None else folder / f"{ckpt}.ckpt"
    try:
        trainer.fit(task, data, ckpt_path=path, weights_only=True if ckpt else None)
    except ConnectionError:
        assert die_at >= 0
    return task.seen


def samples(batches: list[Any]) -> list[Any]:
    return [sample for batch in batches for sample in batch]


@pytest.mark.parametrize("ckpt", ["end0", "val0"])
def test_batches_of_another_size_after_an_epoch(folder, ckpt):
    """No image is left out and none comes twice: every pass is whole, as in one training without an interruption."""
    whole = fit(folder, 3)
    assert [len(batch) for batch in whole] == [3] * 12
    before = fit(folder, 3, die_at=4)
    assert before == whole[:4]
    after = fit(folder, 2, ckpt=ckpt)
    assert [len(batch) for batch in after[-12:]] == [2] * 12
    assert samples(before + after)[: 3 * COUNT] == samples(whole)


def test_batches_of_another_size_within_an_epoch(folder):
    fit(folder, 3, die_at=6)
    with pytest.raises(
        InputError, match="saved within an epoch, and cannot go on with 2 in place of 3 images per step"
    ):
        fit(folder, 2, ckpt="step6")
    assert samples(fit(folder, 3, ckpt="step6")) == samples(fit(folder, 3))[18:]


def test_validation_within_an_epoch_is_a_place_to_go_on_from(folder):
    whole = fit(folder, 2, val_check_interval=2)
    fit(folder, 2, die_at=9, val_check_interval=2)
    assert fit(folder, 2, ckpt="step8", val_check_interval=2) == whole[8:]


def test_overfitting_takes_the_same_batches(folder):
    seen = fit(folder, 3, overfit_batches=2)
    assert len(seen) == 6
    assert seen == seen[:2] * 3
    assert seen[0] != seen[1]
    assert fit(folder, 3, overfit_batches=0.25) == seen[:1] * 3


def test_only_cuda_gets_pinned_memory(folder):
    data = PlaceData(folder / "in", 2)
    data.setup("fit")
    assert not data.val_dataloader().pin_memory
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", max_epochs=1, enable_checkpointing=False, **quiet)
    trainer.fit(Seeing(), data)
    assert not trainer.val_dataloaders.pin_memory


@pytest.mark.by_default("True-2", "False-0")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kept", [True, False])
def test_the_list_is_in_the_folder_of_the_run(folder, caplog, workers, kept):
    """A resumed training adds to it; a run that keeps nothing has the names in the line."""
    options: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options |= {"max_epochs": 1, "enable_checkpointing": kept, "default_root_dir": folder}
    for bad in ((3, 5), (5, 7)):
        saving = [ModelCheckpoint(folder / "run" / "checkpoints")] if kept else []
        trainer = Trainer(accelerator="cpu", callbacks=saving, **options)
        trainer.fit(Seeing(), PlaceData(folder / "in", 3, bad, workers, on_bad_image="skip"))
    lines = [line for line in caplog.messages if "could not be used" in line]
    said = "4 images could not be used: 2 of train; 2 of val, whose scores are those of the other 10; "
    assert [line.startswith(said) for line in lines] == [True, True]
    listed = folder / "run" / "bad_images.jsonl"
    assert listed.exists() == kept
    if kept:
        found = [json.loads(line) for line in listed.read_text().splitlines()]
        assert [(entry["split"], Path(entry["image"]).stem) for entry in found] == [
            (split, place) for split in ("train", "val") for place in "357"
        ]
    else:
        assert all(f"{number}.png" in lines[1] for number in (5, 7))
