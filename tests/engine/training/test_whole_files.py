"""A checkpoint file is the former one or the new one, whole, whatever fails while it is written."""

from __future__ import annotations

import builtins
import errno
import os
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError, OutputError
from engine.outputs import atomic_path, durable_path, write_json
from engine.training.whole_files import WholeFiles, write_checkpoint

OLD = {"state_dict": {"w": torch.arange(5.0)}, "epoch": 1}
NEW = {"state_dict": {"w": torch.arange(3000.0)}, "epoch": 2}


def epoch_of(path: Path) -> int:
    epoch: int = torch.load(path, weights_only=True)["epoch"]
    return epoch


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class PowerCutError(Exception):
    """What a kill would cut short."""


def failing_at(point: int, error: type[BaseException] | OSError, calls: list[str]) -> mock._patch_dict:
    """Patches that let the file system's call number `point` fail, and note all calls."""
    real = {name: getattr(os, name) for name in ("replace", "fsync", "unlink")}

    def faulty(name):
        def call(*args, **kwargs):
            calls.append(name)
            if len(calls) == point:
                raise error
            return real[name](*args, **kwargs)

        return call

    return mock.patch.multiple(os, **{name: faulty(name) for name in ("replace", "fsync")})


@settings(max_examples=30, deadline=None)
@given(point=st.integers(1, 6), full=st.booleans(), former=st.booleans())
def test_a_fault_at_any_point_leaves_a_whole_file(tmp_path_factory, point, full, former):
    folder = tmp_path_factory.mktemp("whole")
    path = folder / "last.ckpt"
    if former:
        write_checkpoint(OLD, path)
    calls: list[str] = []
    error = OSError(errno.ENOSPC, "No space left on device") if full else PowerCutError("power cut")
    failed = False
    with failing_at(point, error, calls):
        try:
            write_checkpoint(NEW, path)
        except (OutputError, PowerCutError):
            failed = True
    # A file system that does not sync folders is no fault.
    assert failed == (point <= (2 if full else 3))
    if path.exists():
        assert epoch_of(path) in ((1, 2) if former else (2,))
    else:
        assert not former
    assert set(names(folder)) <= {"last.ckpt"}  # nothing is left beside it
    if not failed:
        assert epoch_of(path) == 2


def test_it_is_on_the_disk_before_it_takes_the_name(tmp_path):
    calls: list[str] = []
    with failing_at(0, PowerCutError, calls):
        write_checkpoint(NEW, tmp_path / "last.ckpt")
    assert calls == ["fsync", "replace", "fsync"]  # the file, its name, the folder


@pytest.mark.parametrize("after", [0, 100, 5000])
def test_a_full_disk_is_one_short_message(tmp_path, after):
    """The system says so while the file is written, not when it is opened."""
    path = tmp_path / "last.ckpt"
    write_checkpoint(OLD, path)
    real_open = builtins.open

    class Full:
        def __init__(self, file):
            self.file, self.room = file, after

        def write(self, data):
            self.room -= len(data)
            if self.room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

    def opened(self, mode="r", *args, **kwargs):
        return Full(real_open(self, mode, *args, **kwargs)) if "w" in mode else real_open(self, mode, *args, **kwargs)

    with (
        mock.patch.object(Path, "open", opened),
        pytest.raises(OutputError, match=r"cannot write the checkpoint .*No space left on device.*is whole. Make room"),
    ):
        write_checkpoint(NEW, path)
    assert epoch_of(path) == 1
    assert names(tmp_path) == ["last.ckpt"]


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
