"""One broken image among many costs only itself, in the `predict` of every task, as its user meets it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engine.tasks import find_task
from tests.before.test_before import DATA, PICTURES
from tests.detection.small import command

BROKEN = {"a_empty.png": b"", "b_text.jpg": b"<html>404</html>", "z_cut.png": PICTURES[0].read_bytes()[:300]}


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("task", ["detection", "segmentation", "joint"])
@pytest.mark.by_default("segmentation-2")
def test_the_others_are_done_and_the_broken_ones_named(task, num_workers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for path in PICTURES:
        shutil.copy(path, "in")
    for name, content in BROKEN.items():
        Path("in", name).write_bytes(content)
    line = (
        f"predict --ckpt_path {DATA / f'{task}.ckpt'} --source in --output out --trainer.accelerator cpu "
        f"--num_workers {num_workers} --batch_size 2"
    )
    said = command(line, find_task(task))
    count = len(PICTURES) + len(BROKEN)
    assert said.code == 2
    assert f"3 of {count} could not be done, the first: cannot read image 'in/a_empty.png'" in said.err
    assert "All are listed in 'out/failed.jsonl'; the others are finished." in said.err
    assert "Traceback" not in said.err
    listed = [json.loads(row) for row in Path("out/failed.jsonl").read_text().splitlines() if row]
    assert {Path(one["source"]).name for one in listed} == set(BROKEN)
    assert all(Path(one["source"]).name in one["error"] for one in listed)
    finished = [json.loads(row) for row in Path("out/finished.jsonl").read_text().splitlines() if row]
    assert {Path(one["source"]).name for one in finished} == {path.name for path in PICTURES}
    for name in BROKEN:
        Path("in", name).unlink()
    again = command(line, find_task(task))
    assert again.code == 0
    assert f"{len(PICTURES)} of {len(PICTURES)} are finished" in again.out + again.err
    assert not Path("out/failed.jsonl").exists()
