"""A checkpoint file is the former one or the new one, whole, whatever fails while it is written."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from engine.outputs import atomic_path, durable_path, write_json
from engine.training.whole_files import WholeFiles

OLD = {"state_dict": {"w": torch.arange(5.0)}, "epoch": 1}
NEW = {"state_dict": {"w": torch.arange(3000.0)}, "epoch": 2}


def epoch_of(path: Path) -> int:
    epoch: int = torch.load(path, weights_only=True)["epoch"]
    return epoch


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class PowerCutError(Exception):
    """What a kill would cut short."""


@pytest.mark.parametrize("part", ["state_dict", "current_model_state"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_replace_nothing(tmp_path, part, value):
    path = tmp_path / "last.ckpt"
    io = WholeFiles()
    io.save_checkpoint(OLD, path)
    broken = {**NEW, part: {"layer.weight": torch.tensor([1.0, value])}}
    with pytest.raises(InputError, match=r"not finite any more, 'layer.weight' first, so '.*last.ckpt' is left"):
        io.save_checkpoint(broken, path)
    assert epoch_of(path) == 1


def test_the_temporary_folder_is_not_used(tmp_path, monkeypatch):
    """It may lie on another file system, from which a file is copied piece by piece."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "run").mkdir()
    with (
        mock.patch("tempfile.mkstemp", side_effect=AssertionError),
        mock.patch("shutil.move", side_effect=AssertionError),
    ):
        WholeFiles().save_checkpoint(NEW, tmp_path / "run/last.ckpt")
    assert epoch_of(tmp_path / "run/last.ckpt") == 2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 4), st.sampled_from([atomic_path, durable_path]))
def test_a_writer_that_fails_leaves_the_former_file(tmp_path_factory, written, way):
    path = tmp_path_factory.mktemp("any") / "table.json"
    write_json(path, {"a": 1})

    def write():
        with way(path) as beside:
            beside.write_bytes(b"12345"[:written])
            raise PowerCutError

    with pytest.raises(PowerCutError):
        write()
    assert path.read_text() == '{"a": 1}'
    assert names(path.parent) == ["table.json"]
