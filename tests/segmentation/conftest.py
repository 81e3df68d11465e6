"""Small sets and trainings on them, made once for all tests of the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

NAMES = ("scenes", "things", "streets.yaml", "things.yaml")


@pytest.fixture(scope="session")
def street_set(tmp_path_factory) -> Path:
    """A folder with `scenes/`, `things/` and their configs."""
    from tests.segmentation.small import write_set

    folder = tmp_path_factory.mktemp("streets")
    write_set(folder)
    return folder


@pytest.fixture
def here(street_set, tmp_path, monkeypatch) -> Path:
    """An empty working folder from which the sets are found."""
    for name in NAMES:
        (tmp_path / name).symlink_to(street_set / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _fit(folder: Path, line: str) -> None:
    from tests.segmentation.small import command

    before = Path.cwd()
    os.chdir(folder)
    try:
        said = command(f"fit {line}")
    finally:
        os.chdir(before)
    assert said.code == 0, said.err


@pytest.fixture(scope="session")
def trained(street_set) -> Path:
    """The folder of a run that has learnt the streets."""
    longer = "--trainer.max_epochs 4 --trainer.check_val_every_n_epoch 2"
    _fit(street_set, f"--config streets.yaml --run.name learnt {longer} --data.augmentation.scale_min 0.8")
    return street_set / "runs/segmentation/learnt"


@pytest.fixture(scope="session")
def trained_things(street_set) -> Path:
    """The folder of a run that has learnt the discs."""
    _fit(street_set, "--config things.yaml --run.name things --trainer.max_epochs 5 --data.repeat 2")
    return street_set / "runs/segmentation/things"
