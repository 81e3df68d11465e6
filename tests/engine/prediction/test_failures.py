"""Sources that could not be done are listed with their reasons, and nothing else is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.errors import InputError, OutputError
from engine.outputs import write_text
from engine.prediction.failures import Failures, failure_message
from engine.prediction.journal import Finished
from engine.prediction.predictor import Predictor
from engine.prediction.results import Results
from engine.prediction.streaming import PredictingModule
from engine.prediction.trainer import PredictionTrainer, Work
from tests.engine.prediction.test_streaming import Means


class Task(PredictingModule):
    """Answers whatever it is asked; its network has no weights that matter."""


class MeanResults(Results):
    """A text for each image; `closed` is the name that cannot be written, as on a full disk."""

    closed = None
    unreadable = None
    tables = ("means.txt",)

    def outputs(self, file, name, *, every=False):
        return [name.with_name(f"{name.name}.txt")]

    def write(self, image, paths, answer):
        if paths[0].stem == self.unreadable:
            msg = f"cannot read image '{paths[0].stem}.png'"
            raise InputError(msg)
        if paths[0].stem == self.closed:
            msg = "the disk is full"
            raise OutputError(msg)
        write_text(paths[0], f"{answer[0]}")
        return {}

    def write_tables(self, journal):
        names = [Path(one.source).name for one in journal.entries(Finished)]
        write_text(journal.folder / "means.txt", "\n".join(names))


@pytest.fixture(scope="module")
def trainer():
    quiet = {"enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
    return PredictionTrainer(accelerator="cpu", devices=1, logger=False, **quiet)


def predict(trainer, source, output, results=None, batch_size=3):

    work = Work(str(source), str(output), False, batch_size, 0)
    predictor: Predictor = Means(torch.nn.Linear(1, 1))
    trainer.stream(Task(), None, work, work.sources(), predictor, results or MeanResults(), {})


def make_images(folder, broken):
    folder.mkdir(exist_ok=True)
    for number, bad in enumerate(broken):
        path = folder / f"{number:02}.png"
        if bad:
            path.write_bytes(b"\x89PNG\r\n\x1a\n" if number % 2 else b"")
        else:
            Image.fromarray(np.full((9, 12 + number % 2, 3), number, np.uint8)).save(path)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.booleans(), min_size=2, max_size=9), st.integers(1, 4))
def test_every_image_is_either_done_or_listed(trainer, tmp_path_factory, broken, batch_size):
    """And the run after the images were mended does those that were listed, no others."""
    folder = tmp_path_factory.mktemp("any")
    make_images(folder / "in", broken)
    bad = {f"{number:02}.png" for number, bad in enumerate(broken) if bad}
    good = {f"{number:02}.png" for number, bad in enumerate(broken) if not bad}
    if bad:
        with pytest.raises(InputError, match=rf"{len(bad)} of {len(broken)} could not be done"):
            predict(trainer, folder / "in", folder / "out", batch_size=batch_size)
    else:
        predict(trainer, folder / "in", folder / "out", batch_size=batch_size)
    assert {Path(name).name for name in Failures(folder / "out").reasons()} == bad
    assert set((folder / "out/means.txt").read_text().split()) == good
    times = {path: path.stat().st_mtime_ns for path in (folder / "out").glob("??.txt")}
    assert {path.stem + ".png" for path in times} == good
    make_images(folder / "in", [one and None for one in broken]) if not good else None
    for name in bad:
        Image.new("RGB", (5, 5)).save(folder / "in" / name)
    predict(trainer, folder / "in", folder / "out", batch_size=batch_size)
    assert not (folder / "out/failed.jsonl").exists()
    assert set((folder / "out/means.txt").read_text().split()) == good | bad
    if good:
        assert all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_an_image_that_cannot_be_drawn_is_listed(trainer, tmp_path):
    make_images(tmp_path / "in", [False] * 4)
    results = MeanResults()
    results.unreadable = "01"
    with pytest.raises(InputError, match=r"1 of 4 could not be done: cannot read image '01\.png'"):
        predict(trainer, tmp_path / "in", tmp_path / "out", results)
    assert (tmp_path / "out/means.txt").read_text().split() == ["00.png", "02.png", "03.png"]


def test_a_result_that_cannot_be_written_ends_the_work(trainer, tmp_path):
    """What was finished stays, and the next run goes on there."""
    make_images(tmp_path / "in", [False] * 6)
    results = MeanResults()
    results.closed = "04"
    with pytest.raises(OutputError, match="the disk is full"):
        predict(trainer, tmp_path / "in", tmp_path / "out", results)
    assert (tmp_path / "out/means.txt").read_text().split() == ["00.png", "01.png", "02.png", "03.png"]
    assert not (tmp_path / "out/failed.jsonl").exists()
    predict(trainer, tmp_path / "in", tmp_path / "out")
    assert len((tmp_path / "out/means.txt").read_text().split()) == 6


def test_a_source_that_is_gone_is_no_failure_of_the_next_run(trainer, tmp_path):
    make_images(tmp_path / "in", [False, True])
    with pytest.raises(InputError, match="1 of 2"):
        predict(trainer, tmp_path / "in", tmp_path / "out")
    (tmp_path / "in/01.png").unlink()
    predict(trainer, tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out/failed.jsonl").exists()


def test_one_image_alone_is_one_short_message(trainer, tmp_path):
    make_images(tmp_path / "in", [True])
    path = tmp_path / "in/00.png"
    with pytest.raises(InputError, match=rf"^cannot read image '{path}': "):
        predict(trainer, path, tmp_path / "out")


def test_all_that_fail_leave_no_others():
    message = failure_message({"/a.png": "it is empty.", "/b.png": "so is this."}, 2, Path("out/failed.jsonl"))
    assert (
        message == "2 of 2 could not be done, the first: '/a.png': it is empty. All are listed in 'out/failed.jsonl'."
    )
