"""Trainings of every task that are killed at any moment, on a full disk, or begun twice at once, lose nothing."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest
import torch
import yaml

from tests.engine.checkpoints import assert_same_training
from tests.every_task.killed import finish, kill, start, warm_up

KILLS = 5  # for each case: forty in all
LONG = "--trainer.max_epochs 6 --run.save_steps 1 --run.name it"
# What a training has a state of its own for, beside the settings of the small sets.
RECIPE = (
    "--recipe auto --data.augmentation.mosaic 0.5 --data.augmentation.closing 0.3 --model.loss.normaliser running "
    "--data.sampling.name repeat_factor --data.sampling.threshold 0.5"
)
CASES = [(task, workers, "") for task in ("detection", "segmentation", "joint") for workers in (0, 2)]
CASES += [pytest.param("detection", workers, RECIPE, id=f"detection-{workers}-recipe") for workers in (0, 2)]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A folder with the small sets and configs of all tasks."""
    from tests.detection.small import CONFIG, write_set
    from tests.joint import small as joint
    from tests.segmentation import small as segmentation

    warm_up()
    folder = tmp_path_factory.mktemp("sets")
    (folder / "detection").mkdir()
    write_set(folder / "detection")
    assert CONFIG
    (folder / "segmentation").mkdir()
    segmentation.write_set(folder / "segmentation")
    (folder / "joint").mkdir()
    (folder / "joint/scenes").symlink_to(folder / "segmentation/scenes")
    data = {**joint.CONFIG["data"], "format": "both", "root": "scenes"}
    (folder / "joint/both.yaml").write_text(yaml.safe_dump({**joint.CONFIG, "data": data}))
    return folder


CONFIGS = {"detection": "small.yaml", "segmentation": "streets.yaml", "joint": "both.yaml"}


@pytest.fixture
def here(sets, tmp_path):
    """A working folder for a task, and a folder for temporary files on another file system."""

    def make(task):
        folder = tmp_path / task
        folder.mkdir()
        for path in (sets / task).iterdir():
            (folder / path.name).symlink_to(path)
        return folder

    return make


@pytest.fixture
def elsewhere(tmp_path_factory):
    """A folder for temporary files, on another file system than the runs where there is one."""
    shared = Path("/dev/shm")
    folder = shared / f"effdense-{random.randrange(10**9)}" if shared.is_dir() else tmp_path_factory.mktemp("t")
    folder.mkdir(exist_ok=True)
    yield folder
    shutil.rmtree(folder)


def stored(path):
    return torch.load(path, weights_only=True, map_location="cpu")


def begun(run, since):
    """Wait until a training writes to its run, which it does before its first step."""
    config = run / "config.yaml"
    for _ in range(1200):
        if config.exists() and config.stat().st_mtime >= since:
            return
        time.sleep(0.05)
    raise AssertionError(run)


@pytest.mark.slow
@pytest.mark.parametrize(("task", "workers", "more"), CASES)
def test_killed_at_random_moments(task, workers, more, here, elsewhere):
    """There is always a whole last.ckpt once there was one, and the end is that of an undisturbed training."""
    folder = here(task)
    line = f"fit --config {CONFIGS[task]} {LONG} --data.num_workers {workers} {more}"
    whole = line.replace("--run.name it", "--run.name whole")
    process = start(task, whole, folder, elsewhere)
    begun(folder / f"runs/{task}/whole", time.time())
    begin = time.perf_counter()
    process.join(300)
    assert process.exitcode == 0
    trained = time.perf_counter() - begin
    seed = random.randrange(10**6)
    print(f"{task}, {workers} workers: seed {seed}, undisturbed {trained:.1f} s")
    moments = random.Random(seed)
    last = folder / f"runs/{task}/it/checkpoints/last.ckpt"
    killed, steps = 0, []
    while killed < KILLS:
        now = time.time()
        process = start(task, f"{line} --ckpt_path last" if last.exists() else line, folder, elsewhere)
        begun(last.parents[1], now)
        alive = kill(process, moments.uniform(0, trained / 3))
        killed += alive
        if last.exists():
            steps.append(stored(last)["global_step"])  # it is whole
        else:
            assert not steps, "a checkpoint that was there is gone"
        if not alive:
            break
    assert steps == sorted(steps)
    assert finish(task, f"{line} --ckpt_path last" if last.exists() else line, folder, elsewhere) == 0
    undisturbed, end = stored(folder / f"runs/{task}/whole/checkpoints/last.ckpt"), stored(last)
    assert_same_training(undisturbed, end)
    assert not list(last.parent.glob(".*"))
    print(f"  {killed} kills, at steps {steps} of {end['global_step']}")
    assert killed >= min(KILLS, 3)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["detection", "segmentation", "joint"])
def test_a_full_disk(task, here, elsewhere):
    """One short message, the former checkpoint whole, and the training goes on when there is room."""
    folder = here(task)
    line = f"fit --config {CONFIGS[task]} {LONG}"
    assert finish(task, line.replace("--run.name it", "--run.name whole"), folder, elsewhere) == 0
    assert finish(task, line.replace("max_epochs 6", "max_epochs 1"), folder, elsewhere) == 0
    last = folder / f"runs/{task}/it/checkpoints/last.ckpt"
    before = last.read_bytes()
    assert finish(task, f"{line} --ckpt_path last", folder, elsewhere, largest=len(before) // 2) == 2
    assert last.read_bytes() == before
    said = (folder / "said.txt").read_text()
    assert "cannot write the checkpoint" in said
    assert "Make room, and go on with --ckpt_path last." in said
    assert "Traceback" not in said
    assert not list(last.parent.glob(".*"))
    assert finish(task, f"{line} --ckpt_path last", folder, elsewhere) == 0
    assert stored(last)["global_step"] == stored(folder / f"runs/{task}/whole/checkpoints/last.ckpt")["global_step"]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["detection", "segmentation", "joint"])
def test_two_begun_at_once(task, here, elsewhere):
    """Without a name each has a folder of its own; with one name, the second is refused."""
    folder = here(task)
    line = f"fit --config {CONFIGS[task]} --trainer.max_epochs 2"
    both = [start(task, line, folder, elsewhere) for _ in range(2)]
    for process in both:
        process.join(300)
    assert [process.exitcode for process in both] == [0, 0]
    runs = sorted(path.parent.parent for path in (folder / f"runs/{task}").glob("*/checkpoints/last.ckpt"))
    assert [run.name for run in runs] == ["version_0", "version_1"]
    rows = [(run / "metrics.csv").read_text().count("\n") for run in runs]
    assert rows[0] == rows[1]
    both = [start(task, f"{line} --run.name one", folder, elsewhere) for _ in range(2)]
    for process in both:
        process.join(300)
    assert sorted(process.exitcode for process in both) == [0, 2]
    assert "another training writes to the run" in (folder / "said.txt").read_text()
    # Going on with one run twice at once is the same.
    more = f"fit --config {CONFIGS[task]} --trainer.max_epochs 4 --run.name one --ckpt_path last"
    both = [start(task, more, folder, elsewhere) for _ in range(2)]
    for process in both:
        process.join(300)
    assert sorted(process.exitcode for process in both) == [0, 2]
