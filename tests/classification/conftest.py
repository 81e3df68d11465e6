"""A set and a training of it, made once."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def color_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `colors/` and `small.yaml`."""
    from tests.classification.small import write_set

    folder: Path = tmp_path_factory.mktemp("colors")
    write_set(folder)
    return folder


@pytest.fixture(scope="session")
def trained(color_set: Path) -> Path:
    """The folder of a short training, with pictures."""
    from tests.classification.small import command

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(color_set)
        said = command("fit --config small.yaml --run.name trained --run.pictures true")
    assert said.code == 0, said.err
    return color_set / "runs/classification/trained"


@pytest.fixture
def here(color_set: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the set as the working folder."""
    monkeypatch.chdir(color_set)
    return color_set
