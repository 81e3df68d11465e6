"""The course of the learning rate goes on by epochs when a resumed training has other steps in an epoch."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from tests.detection.small import command, write_set

LINE = "fit --config small.yaml --run.name it --trainer.limit_val_batches 0 --model.optimizer.lr_batch 4"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    write_set(folder)
    return folder


@pytest.fixture
def here(drawn, tmp_path, monkeypatch):
    for name in ("scenes", "small.yaml"):
        (tmp_path / name).symlink_to(drawn / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rates():
    with Path("runs/detection/it/metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    name = next(key for key in rows[0] if key.startswith("lr-"))
    return [float(row[name]) for row in rows if row[name]]


def expected(step, total, warmup, peak):
    """The config's: a linear warm-up, then a cosine to 0; written anew from the paper's words."""
    if step < warmup:
        return None  # its start is another test's
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


@pytest.mark.parametrize(("batch", "steps"), [(2, 6), (6, 2)])
def test_a_smaller_and_a_larger_batch(here, batch, steps):
    """Twelve images: three steps an epoch at first. The peak follows the batch, as lr_batch says."""
    assert command(f"{LINE} --trainer.max_epochs 2").code == 0
    said = command(f"{LINE} --trainer.max_epochs 4 --ckpt_path last --data.batch_size {batch}")
    assert said.code == 0, said.err
    assert f"an epoch has {steps} steps, before 3" in said.err
    assert "its course goes on after 2 epochs" in said.err
    peak = 2e-3 * batch / 4
    wanted = [expected(step, 4 * steps, 3, peak) for step in range(2 * steps, 4 * steps)]
    assert rates() == pytest.approx(wanted, rel=1e-6)
    assert min(rates()) > 0


def test_the_same_training_goes_on_without_a_word(here):
    assert command(f"{LINE} --trainer.max_epochs 2").code == 0
    said = command(f"{LINE} --trainer.max_epochs 4 --ckpt_path last")
    assert said.code == 0
    assert "goes on" not in said.err
    assert rates() == pytest.approx([expected(step, 12, 3, 2e-3) for step in range(6, 12)], rel=1e-6)
    # All is done: nothing is trained, and that is said.
    said = command(f"{LINE} --trainer.max_epochs 4 --ckpt_path last")
    assert said.code == 0
    assert "all epochs of this training are done: trainer.max_epochs is 4" in said.err
    assert "larger --trainer.max_epochs" in said.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--trainer.max_epochs -1", "Give trainer.max_epochs or trainer.max_steps above 0"),
        ("--trainer.max_epochs null --trainer.max_time 00:00:01:00", "Give trainer.max_epochs or trainer.max_steps"),
        ("--trainer.logger WandbLogger", "wandb"),
        ("--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val_ap --trainer.callbacks.mode=up", "up"),
        (
            "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val_los",
            "'val_los', which this training of detection never logs",
        ),
        (
            "--trainer.callbacks+ tests.detection.small.StillNorms "
            "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=theirs",
            "`theirs` which is not available",  # after the first epoch, as the other callback may log anything
        ),
        ("--data.batch_size 1 --data.image_size 64 --model.architecture.image_size 64", "Give --data.batch_size 2"),
    ],
)
def test_mistakes_are_one_short_message(here, options, message):
    said = command(f"{LINE} {options}")
    assert said.code == 2, said.err
    error = said.err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in said.err


def test_a_constant_rate_needs_no_end(here):
    line = f"{LINE} --trainer.max_epochs -1 --trainer.max_time 00:00:00:03 --model.schedule.name constant"
    said = command(line)
    assert said.code == 0, said.err
    assert rates()[-1] == pytest.approx(2e-3)


def test_without_validation_there_is_no_best(here):
    none = "--data.val_images null --data.val_annotations null"
    said = command(f"fit --config small.yaml --run.name it --trainer.max_epochs 1 {none}")
    assert said.code == 0, said.err
    assert "there is no validation, so no checkpoint is the best: use --ckpt_path last" in said.err
    assert "HINT" not in said.err
    assert "zero" not in said.err
    kept = sorted(path.name for path in Path("runs/detection/it/checkpoints").iterdir())
    assert kept == ["last.ckpt"]
