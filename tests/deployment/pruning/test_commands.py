"""Every command of every task takes a pruned checkpoint as it takes any other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deployment.__main__ import main
from tests.every_task.test_what_shapes_an_answer import BRIEF, CONFIGS, TASKS, run, trained

__all__ = ["trained"]


def widths(path: Path | str) -> list[object]:
    """The stored widths of a checkpoint's parts."""
    model = torch.load(path, weights_only=True)["effdense"]["model"]
    parts = [model] if "architecture" in model else [model["detector"], model["segmenter"]]
    return [part["architecture"]["widths"] for part in parts]


def further(task, tmp_path):
    """A pruned checkpoint, the last one of a training that began with it, and the words of such a training."""
    whole, slim = Path(f"runs/{task}/version_0/checkpoints/last.ckpt"), tmp_path / "slim.ckpt"
    assert main(["prune", "--ckpt_path", str(whole), "--output", str(slim), "--share", "0.4"]) == 0
    assert all(widths(slim))
    fit = f"fit --config {CONFIGS[task]} {BRIEF} --run.root {tmp_path / 'runs'}"
    said = run(task, f"{fit} --run.name first --model.pretrained {slim}")
    assert said.code == 0, said.err
    return slim, tmp_path / f"runs/{task}/first/checkpoints/last.ckpt", fit


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_training_further(task, trained, monkeypatch, tmp_path):
    monkeypatch.chdir(trained)
    slim, tuned, fit = further(task, tmp_path)
    assert widths(tuned) == widths(slim)
    before, after = (torch.load(path, weights_only=True)["state_dict"] for path in (slim, tuned))
    assert {key: value.shape for key, value in before.items()} == {
        key: value.shape for key, value in after.items() if key in before
    }
    assert any(not torch.equal(before[key], after[key]) for key in before)
    said = run(task, f"{fit} --ckpt_path {slim}")
    assert said.code == 2
    assert "Give it as --model.pretrained" in said.err


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_going_on_and_answers(task, trained, monkeypatch, tmp_path):
    monkeypatch.chdir(trained)
    slim, tuned, fit = further(task, tmp_path)
    said = run(task, f"{fit} --run.name second --trainer.max_epochs 2 --ckpt_path {tuned}")
    assert said.code == 0, said.err
    assert widths(tmp_path / f"runs/{task}/second/checkpoints/last.ckpt") == widths(slim)
    said = run(task, f"validate --config {CONFIGS[task]} --ckpt_path {tuned} --trainer.limit_val_batches 1")
    assert said.code == 0, said.err
    picture = next(Path("scenes/leftImg8bit/val").rglob("*.png"))
    said = run(task, f"predict --ckpt_path {tuned} --source {picture} --output {tmp_path / 'out'}")
    assert said.code == 0, said.err
