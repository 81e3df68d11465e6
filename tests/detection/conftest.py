"""A small set of scenes and a training on it, made once for all tests of the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def small_set(tmp_path_factory) -> Path:
    """A folder with `scenes/` and `small.yaml`."""
    from tests.detection.small import write_set

    folder = tmp_path_factory.mktemp("small")
    write_set(folder)
    return folder


@pytest.fixture
def here(small_set, tmp_path, monkeypatch) -> Path:
    """An empty working folder from which the small set is found."""
    for name in ("scenes", "small.yaml"):
        (tmp_path / name).symlink_to(small_set / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def trained(small_set) -> Path:
    """The folder of a run that has learnt the small set."""
    from tests.detection.small import command

    before = Path.cwd()
    os.chdir(small_set)
    try:
        longer = "--trainer.max_epochs 12 --trainer.check_val_every_n_epoch 6"
        said = command(f"fit --config small.yaml --run.name learnt {longer} --data.augmentation.scale_min 0.8")
    finally:
        os.chdir(before)
    assert said.code == 0, said.err
    return small_set / "runs/detection/learnt"
