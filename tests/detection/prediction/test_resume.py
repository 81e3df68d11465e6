"""A killed prediction continues where it stopped, on one process or two, and ends like an undisturbed one."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
from contextlib import redirect_stderr

import numpy as np
import pytest
import torch
from PIL import Image

from detection.data.classes import BoxClasses
from detection.network.family import DetectorOverrides
from detection.prediction.document import JSON_NAME
from detection.prediction.trainer import DetectionTrainer
from detection.task import DetectionTask
from engine.errors import InputError
from engine.prediction.journal import Journal
from engine.prediction.trainer import asked
from tests.ports import be_process, free_port

COUNT = 9  # odd, so that two processes do not share evenly
SHAPE = DetectorOverrides(image_size=(128, 128), fpn_channels=16, fpn_cells=1, head_repeats=1)


def predict(source, output, devices=1, **settings):
    """Predict as the command does, with random weights; one image at a time, so that sums are the same."""
    torch.manual_seed(0)
    task = DetectionTask("lite0", SHAPE, classes=BoxClasses.numbered(3), backbone_weights=None)
    quiet = {
        "enable_progress_bar": False,
        "logger": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
    }
    strategy = "ddp" if devices > 1 else "auto"
    trainer = DetectionTrainer(accelerator="cpu", devices=devices, strategy=strategy, **quiet)
    options = {"score_threshold": 0.005, "batch_size": 1, "num_workers": 0} | settings
    trainer.predict(task, source=str(source), output=str(output), **options)
    return task


def killed_after(count, source, output):
    """One process that is killed when it begins to write down its last image."""
    added = Journal.add

    def add(journal, record):
        if sum(1 for _ in journal.manifest.entries()) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        added(journal, record)

    Journal.add = add
    torch.set_num_threads(1)
    predict(source, output)


def one_of_two(rank, port, source, output):
    """One process of two, set up as torchrun does it."""
    be_process(rank, 2, port)
    torch.set_num_threads(1)
    with redirect_stderr(io.StringIO()):
        predict(source, output, devices=2)
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume") / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        image = rng.integers(0, 256, (40 + 9 * number, 100 - 5 * number, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


def finished(output):
    lines = (output / "finished.jsonl").read_text().splitlines()
    return [json.loads(line)["source"] for line in lines if line]


def test_killed_and_resumed_is_undisturbed(images, tmp_path):
    whole, out, two = tmp_path / "whole", tmp_path / "out", tmp_path / "two"
    predict(images, whole)
    multiprocessing.set_forkserver_preload(["detection.prediction.trainer"])
    context = multiprocessing.get_context("forkserver")
    killed = context.Process(target=killed_after, args=(4, images, out))
    port = free_port()
    pair = [context.Process(target=one_of_two, args=(rank, port, images, two)) for rank in range(2)]
    for process in (killed, *pair):
        process.start()
    for process in (killed, *pair):
        process.join(200)
    assert killed.exitcode == -signal.SIGKILL
    assert [process.exitcode for process in pair] == [0, 0]
    assert len(finished(out)) == 4
    assert not (out / JSON_NAME).exists()
    before = {source: os.stat(out / os.path.basename(source)).st_mtime_ns for source in finished(out)}
    predict(images, out)
    assert {source: os.stat(out / os.path.basename(source)).st_mtime_ns for source in before} == before
    for folder in (whole, out, two):
        assert len(finished(folder)) == len(set(finished(folder))) == COUNT
    document = json.loads((whole / JSON_NAME).read_text())
    assert len(document["images"]) == COUNT
    assert len({annotation["score"] for annotation in document["annotations"]}) > 5 * COUNT
    assert (out / JSON_NAME).read_bytes() == (whole / JSON_NAME).read_bytes()
    assert (two / JSON_NAME).read_bytes() == (whole / JSON_NAME).read_bytes()


def test_a_table_that_was_not_written_is_written_by_the_next_run(images, tmp_path, monkeypatch):
    out = tmp_path / "out"
    predict(images / "0.png", out)
    old = (out / JSON_NAME).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("engine.prediction.writer.PredictionWriter.on_predict_end", lambda *_: None)
        predict(images, out)
    assert (out / JSON_NAME).read_bytes() == old
    predict(images, out)
    assert len(json.loads((out / JSON_NAME).read_text())["images"]) == COUNT


def test_other_settings_are_refused_and_overwritten_on_demand(images, tmp_path):
    out, source = tmp_path / "out", images / "1.png"
    task = predict(source, out, pictures=False)
    assert task.predictor is None  # nothing is left in the task
    assert sorted(path.name for path in out.iterdir()) == sorted([JSON_NAME, "finished.jsonl", "settings.json"])
    for settings, named in (
        ({"score_threshold": 0.5}, "postprocess was"),
        ({"canvas": "tight"}, "canvas was 128 x 128"),
    ):
        with pytest.raises(InputError, match=rf"other settings: {named}.*--overwrite true"):
            predict(source, out, **settings)
    predict(source, out, canvas="tight", overwrite=True)
    assert json.loads((out / "settings.json").read_text())["canvas"] == "128 x 128, no larger than needed"


def test_weights_that_a_checkpoint_replaces_are_not_read():
    """The settings of a fine-tuning name published weights; `predict` with its checkpoint must not fetch them."""
    task = DetectionTask("lite0", SHAPE, classes=BoxClasses.numbered(3), pretrained="none.pth", backbone_weights=None)
    assert asked(task, DetectionTask, "best.ckpt").network.config.name == "lite0"
    task = DetectionTask("lite0", SHAPE, classes=BoxClasses.numbered(3), pretrained="none.pth", backbone_weights=None)
    with pytest.raises(InputError, match=r"none\.pth"):
        _ = asked(task, DetectionTask, None).network
