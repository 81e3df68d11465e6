"""The best and the last checkpoint: by score, after a move, beside callbacks of the user."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from engine.training.checkpoint_files import best_of
from engine.training.keeping import make_checkpointing


class Scored(LightningModule):
    """One weight, and a given score after each epoch."""

    def __init__(self, scores):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.scores = scores

    def training_step(self, batch, batch_idx):
        return self.layer(batch).mean()

    def validation_step(self, batch, batch_idx):
        self.log("val_ap", torch.tensor(self.scores[self.current_epoch]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(folder, scores, ckpt_path=None, more=(), **settings):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "num_sanity_val_steps": 0}
    callbacks = [*make_checkpointing(folder, "val_ap", "max", True, **settings), *more]
    trainer = Trainer(max_epochs=len(scores), accelerator="cpu", callbacks=callbacks, **quiet)
    loader = DataLoader(torch.ones(4, 1), 2)
    trainer.fit(Scored(scores), loader, loader, ckpt_path=ckpt_path, weights_only=True)
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_the_best_and_the_last(tmp_path):
    assert fit(tmp_path, [0.2, 0.5, 0.3]) == ["best-epoch001-val_ap0.5000.ckpt", "last.ckpt"]


def test_a_run_that_was_moved_keeps_its_best(tmp_path):
    """Its state names files by the folder that it was in."""
    fit(tmp_path / "here", [0.5])
    shutil.move(tmp_path / "here", tmp_path / "there")
    last = tmp_path / "there/checkpoints/last.ckpt"
    assert fit(tmp_path / "there", [0.5, 0.2], last) == ["best-epoch000-val_ap0.5000.ckpt", "last.ckpt"]
    assert fit(tmp_path / "there", [0.5, 0.2, 0.6], last) == ["best-epoch002-val_ap0.6000.ckpt", "last.ckpt"]


def test_a_best_file_that_is_gone_is_no_best(tmp_path):
    fit(tmp_path, [0.5])
    (tmp_path / "checkpoints/best-epoch000-val_ap0.5000.ckpt").unlink()
    last = tmp_path / "checkpoints/last.ckpt"
    assert fit(tmp_path, [0.5, 0.2], last) == ["best-epoch001-val_ap0.2000.ckpt", "last.ckpt"]


@pytest.mark.parametrize("nothing", [float("nan"), float("inf")])
def test_what_is_no_score_is_never_the_best(tmp_path, nothing):
    assert fit(tmp_path, [nothing, nothing]) == ["last.ckpt"]
    assert fit(tmp_path / "b", [nothing, 0.0, nothing]) == ["best-epoch001-val_ap0.0000.ckpt", "last.ckpt"]


def test_callbacks_of_the_user_stand_beside_ours(tmp_path):
    """Also those with the same settings as ours, whose states must not be mixed."""
    own = [ModelCheckpoint(tmp_path / "mine", every_n_epochs=1, save_top_k=-1)]
    own.append(ModelCheckpoint(tmp_path / "mine", filename="m", monitor="val_ap", mode="max"))
    found = fit(tmp_path, [0.2, 0.1], more=own, save_steps=1)
    assert found == ["best-epoch000-val_ap0.2000.ckpt", "last.ckpt"]
    assert len(list((tmp_path / "mine").iterdir())) == 3


def test_checkpoints_of_before_keep_their_best(tmp_path):
    """Their state was written by Lightning's own class."""
    place = tmp_path / "checkpoints"
    former = ModelCheckpoint(
        place, filename="best-epoch{epoch:03d}-val_ap{val_ap:.4f}", monitor="val_ap", mode="max",
        auto_insert_metric_name=False, enable_version_counter=False,
    )  # fmt: skip
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "num_sanity_val_steps": 0}
    trainer = Trainer(max_epochs=1, accelerator="cpu", callbacks=[former], **quiet)
    loader = DataLoader(torch.ones(4, 1), 2)
    trainer.fit(Scored([0.5]), loader, loader)
    trainer.save_checkpoint(place / "last.ckpt")
    assert fit(tmp_path, [0.5, 0.2], place / "last.ckpt") == ["best-epoch000-val_ap0.5000.ckpt", "last.ckpt"]


def test_best_is_the_file_with_the_best_score(tmp_path):
    """Not the newest: a copy or a move changes the times of files."""
    names = ["best-epoch000-val_ap0.5000.ckpt", "best-epoch004-val_ap0.2000.ckpt", "best.ckpt", "best-val_apnan.ckpt"]
    files = [tmp_path / name for name in names]
    for number, path in enumerate(files):
        path.write_text("x")
        os.utime(path, (number, number))
    assert best_of(files, "max") == files[0]
    assert best_of(files, "min") == files[1]
    assert best_of([Path(files[2])], "max") == files[2]
