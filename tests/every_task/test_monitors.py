"""What a task states that it logs, and callbacks that act on what it never logs, or in the wrong direction."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from engine.errors import InputError
from engine.tasks import find_task
from engine.training.keeping import check_monitors
from tests.detection.small import command
from tests.every_task.watching import Metrics, seen

LOGGED = {"train_loss": "min", "val_ap": "max", "other": None}
# With every option that adds a name.
EVERY = {
    "detection": "",
    "segmentation": "--model.loss.dice 1 --model.loss.lovasz 1 --model.loss.focal 1 --model.boundary 2 "
    "--model.architecture.aux_head true",
    "joint": "--model.segmentation_loss.dice 1 --model.segmenter.architecture.aux_head true",
}


@pytest.mark.parametrize("options", ["every", "none", "no validation"])
@pytest.mark.by_default("segmentation-every")
def test_what_a_task_states_is_what_it_logs(task, options, monkeypatch):
    stated = []
    monkeypatch.setattr("engine.training.task.check_monitors", lambda _, logged, *__: stated.append(set(logged)))
    line = "fit --config small.yaml --trainer.max_epochs 1 --trainer.num_sanity_val_steps 0"
    line += {"every": f" {EVERY[task]}", "none": "", "no validation": " --trainer.limit_val_batches 0"}[options]
    found = seen(task, line)
    assert [{name for name in found if not name.startswith("lr-")}] == stated
    assert ("val_loss" in found) == (options != "no validation")


@pytest.mark.by_default("segmentation")
def test_a_validation_in_a_later_epoch_is_known_from_the_start(task):
    """Where no batch is validated before the training either, its scores may be monitored all the same."""
    line = "fit --config small.yaml --trainer.max_epochs 2 --trainer.check_val_every_n_epoch 2 --run.name later"
    words = f"{line} --trainer.num_sanity_val_steps 0 --trainer.limit_train_batches 1 --trainer.limit_val_batches 1"
    best = find_task(task).monitor
    callback = f"--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor={best} --trainer.callbacks.mode=max"
    assert command(f"{words} {callback}", find_task(task)).code == 0
    assert best in Path(f"runs/{task}/later/metrics.csv").read_text()


@pytest.mark.by_default("detection")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "monitor=val_los",
            "EarlyStopping has monitor 'val_los', which this training of TASK never logs. Did",
        ),
        ("monitor=BEST", "'BEST' with mode min, but a larger BEST is better. Give it mode max: --trainer.callbacks"),
    ],
)
def test_a_monitor_is_checked_before_the_first_step(task, options, message):
    best = find_task(task).monitor
    words = f"--trainer.callbacks+=EarlyStopping --trainer.callbacks.{options.replace('BEST', best)}"
    said = command(f"fit --config small.yaml {words} --run.name it", find_task(task))
    assert said.code == 2
    error = said.err.strip().splitlines()[-1]
    assert message.replace("TASK", task).replace("BEST", best) in error
    assert "Traceback" not in said.err
    metrics = Path(f"runs/{task}/it/metrics.csv")
    assert not metrics.exists() or "train_loss" not in metrics.read_text()


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (EarlyStopping("train_loss_epoch"), "Did you mean 'train_loss'? It logs train_loss, val_ap, other."),
        (
            EarlyStopping("train_loss", mode="max"),
            "mode max, but a smaller train_loss is better. Give it mode min",
        ),
        (ModelCheckpoint(monitor="val_ap"), "ModelCheckpoint has monitor 'val_ap' with mode min, but a larger"),
        (ModelCheckpoint(monitor="val_f"), "ModelCheckpoint has monitor 'val_f', which this training of it never logs"),
    ],
)
def test_what_is_refused(callback, message):
    with pytest.raises(InputError) as error:
        check_monitors([callback], LOGGED, "it")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_taken():
    kept = [ModelCheckpoint(), ModelCheckpoint(monitor="step"), ModelCheckpoint(monitor="val_ap", mode="max")]
    stops = [EarlyStopping("train_loss"), EarlyStopping("lr-SGD/pg1"), EarlyStopping("other", mode="max")]
    check_monitors([*kept, *stops], LOGGED, "it")
    # Another's callback, or a class derived from the task's, may log anything; a direction stays wrong.
    check_monitors([EarlyStopping("theirs"), Metrics("none.json")], LOGGED, "it")
    check_monitors([EarlyStopping("theirs")], LOGGED, "it", complete=False)
    with pytest.raises(InputError, match="mode max"):
        check_monitors([EarlyStopping("val_ap"), Metrics("none.json")], LOGGED, "it")
