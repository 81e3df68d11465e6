"""The course of the learning rate goes on by epochs when a resumed training has other steps in an epoch."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import yaml

from engine.tasks import find_task
from tests.detection.small import command, write_few, write_set

LINE = "fit --config small.yaml --run.name it --trainer.limit_val_batches 0 --model.optimizer.lr_batch 4"
WARMUP = 3


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Twelve scenes for training, and each task's config for them."""
    from tests.joint import small as joint
    from tests.segmentation import small as segmentation

    folder = tmp_path_factory.mktemp("drawn")
    write_set(folder)
    (folder / "streets.yaml").write_text(yaml.safe_dump(segmentation.STREETS))
    data = {**joint.CONFIG["data"], "format": "both", "root": "scenes"}
    (folder / "both.yaml").write_text(yaml.safe_dump({**joint.CONFIG, "data": data}))
    return folder


@pytest.fixture
def here(drawn, tmp_path, monkeypatch):
    for path in drawn.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rates(task="detection"):
    """The learning rate of every step, which all groups of weights share."""
    with Path(f"runs/{task}/it/metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [key for key in rows[0] if key.startswith("lr-") and not key.endswith("momentum")]
    groups = [[float(row[name]) for row in rows if row[name]] for name in names]
    assert len(groups) > 1
    assert all(group == groups[0] for group in groups)
    return groups[0]


def expected(step, total, peak, fall="cosine"):
    """The configs': behind the warm-up a cosine to 0, or a power of what is left; anew from the papers' words."""
    assert step >= WARMUP, "its start is another test's"
    done = (step - WARMUP) / (total - WARMUP)
    return peak * (0.5 * (1 + math.cos(math.pi * done)) if fall == "cosine" else (1 - done) ** 0.9)


CONFIGS = {
    "detection": ("small.yaml", 2e-3, "cosine"),
    "segmentation": ("streets.yaml", 1e-2, "poly"),
    "joint": ("both.yaml", 5e-3, "cosine"),
}
SLOW = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "change", "steps", "factor"),
    [
        ("detection", "--data.batch_size 2", 6, 0.5),
        ("detection", "--data.batch_size 6", 2, 1.5),
        pytest.param("detection", "--data.train_annotations few.json", 2, 1, marks=SLOW),
        pytest.param("detection", "--trainer.accumulate_grad_batches 3", 1, 3, marks=SLOW),
        ("segmentation", "--data.batch_size 2", 6, 0.5),
        pytest.param("segmentation", "--data.batch_size 6", 2, 1.5, marks=SLOW),
        pytest.param("segmentation", "--data.repeat 2", 6, 1, marks=SLOW),
        pytest.param("segmentation", "--trainer.accumulate_grad_batches 3", 1, 3, marks=SLOW),
        ("joint", "--data.batch_size 6", 2, 1.5),
        pytest.param("joint", "--data.batch_size 2", 6, 0.5, marks=SLOW),
        pytest.param("joint", "--data.steps_per_epoch 5", 5, 1, marks=SLOW),
        pytest.param("joint", "--trainer.accumulate_grad_batches 3", 1, 3, marks=SLOW),
    ],
)
def test_other_batches_and_other_data(here, task, change, steps, factor):
    """Twelve images: three steps of four an epoch at first. The peak follows the batch, as lr_batch says."""
    config, lr, fall = CONFIGS[task]
    write_few(8)
    line = LINE.replace("small.yaml", config) + f" --model.schedule.warmup_steps {WARMUP}"
    first = command(f"{line} --trainer.max_epochs 2 --data.batch_size 4", find_task(task))
    assert first.code == 0, first.err
    size = "" if "batch_size" in change else "--data.batch_size 4"
    said = command(f"{line} --trainer.max_epochs 4 --ckpt_path last {size} {change}", find_task(task))
    assert said.code == 0, said.err
    assert f"steps of an epoch: {steps}, before 3" in said.err
    assert ("the peak of the learning rate is" in said.err) == (factor != 1)
    assert "its course goes on after 2 epochs" in said.err
    found, each = rates(task), 3 if "accumulate" in change else 1  # a row for every batch of a step
    assert len(found) == 2 * steps * each
    behind = range(max(2 * steps, WARMUP), 4 * steps)
    wanted = [expected(step, 4 * steps, lr * factor, fall) for step in behind for _ in range(each)]
    assert found[-len(wanted) :] == pytest.approx(wanted, rel=1e-6)
    assert min(found) > 0


@pytest.mark.slow
def test_the_same_training_goes_on_without_a_word(here):
    assert command(f"{LINE} --trainer.max_epochs 2").code == 0
    said = command(f"{LINE} --trainer.max_epochs 4 --ckpt_path last")
    assert said.code == 0
    assert "goes on" not in said.err
    assert rates() == pytest.approx([expected(step, 12, 2e-3) for step in range(6, 12)], rel=1e-6)
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
            # Found after the first epoch, as the callback before it may log anything.
            "`theirs` which is not available",
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


@pytest.mark.slow
def test_a_constant_rate_needs_no_end(here):
    line = f"{LINE} --trainer.max_epochs -1 --trainer.max_time 00:00:00:08 --model.schedule.name constant"
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
