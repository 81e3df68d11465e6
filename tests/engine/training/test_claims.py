"""Only one training at a time writes to a run's folder."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.cli.runs import Run, claim_run
from engine.errors import InputError
from engine.training.claims import Claim, claim_next


def test_a_claimed_run_is_refused(tmp_path):
    claim = Claim(tmp_path / "run")
    with pytest.raises(InputError, match=r"another training writes to the run '.*run' at this moment. Wait until"):
        Claim(tmp_path / "run")
    (tmp_path / "run/metrics.csv").write_text("a")
    claim.release()
    Claim(tmp_path / "run").release()
    assert (tmp_path / "run/metrics.csv").exists()


def test_a_run_in_which_nothing_was_written_leaves_no_folder(tmp_path):
    Claim(tmp_path / "run").release()
    assert not (tmp_path / "run").exists()


def test_many_that_begin_at_once_get_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda _: claim_next(tmp_path), range(16)))
    assert sorted(claim.folder.name for claim in claims) == sorted(f"version_{n}" for n in range(16))


def hold(folder, ready):
    claim = claim_run(Run(str(folder)), "toy", None)
    ready.set()
    signal.pause()
    claim.release()


def test_a_killed_training_leaves_its_folder_free(tmp_path):
    """The lock is the system's: nobody has to clean up after a kill."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(20)
    folder = tmp_path / "toy/version_0"
    with pytest.raises(InputError, match="another training"):
        Claim(folder)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/.last.77.part.ckpt").write_text("half")
    (folder / "checkpoints/last.ckpt").write_text("whole")
    claim = claim_run(Run(str(tmp_path)), "toy", folder / "checkpoints/last.ckpt")
    assert claim.folder == folder
    assert sorted(path.name for path in folder.rglob("*")) == ["checkpoints", "last.ckpt"]


def test_a_half_written_file_is_no_checkpoint(tmp_path):
    """A run that has nothing else can be begun again under its name."""
    place = Path(tmp_path, "toy/mine/checkpoints")
    place.mkdir(parents=True)
    (place / ".last.77.part.ckpt").write_text("half")
    assert claim_run(Run(str(tmp_path), "mine"), "toy", None).folder == tmp_path / "toy/mine"
