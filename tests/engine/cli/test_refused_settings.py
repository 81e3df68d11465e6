"""Settings that Lightning takes and fails with later, or ignores, are refused at once, in one line, by every task."""

from __future__ import annotations

import pytest
import torch

from engine.cli.main import main
from engine.errors import OutputError
from engine.outputs import make_folder
from tests.engine import toy

SETTINGS = [
    ("--trainer.accumulate_grad_batches 0", "accumulate_grad_batches is 0; allowed: a number of at least 1"),
    ("--trainer.check_val_every_n_epoch 0", "check_val_every_n_epoch is 0; allowed: a number of at least 1"),
    ("--trainer.log_every_n_steps -1", "log_every_n_steps is -1; allowed: a number of at least 0"),
    ("--trainer.gradient_clip_val -1", "gradient_clip_val is -1; allowed: a number of at least 0"),
    ("--seed_everything -1", "seed_everything is -1; allowed: a whole number from 0 to 4294967295"),
    ("--seed_everything 4294967296", "seed_everything is 4294967296; allowed"),
    ("--run.name " + "x" * 201, "run.name has 201 bytes; allowed are 200. Give a shorter one"),
    ("--run.root https://host/runs", "which is an address. Give a folder of this machine"),
]
NO_GPU = ("--trainer.accelerator gpu", "Give --trainer.accelerator cpu")


@pytest.mark.by_default(
    "detection", "check_val_every_n_epoch is 0; allowed: a-joint", "Give --trainer.accelerator cpu-segmentation"
)
@pytest.mark.parametrize("task", ["detection", "segmentation", "joint"])
@pytest.mark.parametrize(("options", "holds"), [*SETTINGS, NO_GPU], ids=lambda value: value[:40])
def test_it_is_one_line(task, options, holds, tmp_path, monkeypatch, capsys):
    if options == NO_GPU[0] and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.chdir(tmp_path)
    assert main([task, "fit", "--trainer.max_epochs", "1", *options.split()]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert holds in error
    assert error.endswith(".")
    assert not (tmp_path / "https:").exists()


def test_the_largest_seed_and_the_longest_name_are_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = f"fit --trainer.max_epochs 1 --seed_everything 4294967295 --run.name {'x' * 200}"
    assert toy.main(line.split()) == 0
    assert list(tmp_path.glob("runs/toy/x*/checkpoints/last.ckpt"))


def test_validating_less_often_than_an_epoch_has_batches(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert toy.main(["fit", "--trainer.max_epochs", "1", "--trainer.val_check_interval", "1000"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: trainer.val_check_interval is 1000, but an epoch has ")
    assert "--trainer.check_val_every_n_epoch null" in error


@pytest.mark.parametrize("given", ["s3://bucket/out", "https:/host/out", "file:///out"])
def test_no_address_becomes_a_folder(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="Give a folder of this machine"):
        make_folder(given)
    assert not list(tmp_path.iterdir())
    assert make_folder("with: colon/out").is_dir()  # an ordinary name
