"""The converter's environment is made once, whole or not at all, and replaces nothing of the user's."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from deployment.litert.convert import SCRIPT
from deployment.setup import command, environment
from deployment.setup.environment import LITERT
from engine.errors import InputError


@pytest.fixture
def place(tmp_path, monkeypatch):
    chosen = tmp_path / "cache" / "litert"
    monkeypatch.setenv("EFFDENSE_LITERT", str(chosen))
    return chosen


def install(folder: Path) -> None:
    python = environment.python_of(folder)
    python.parent.mkdir(parents=True)
    python.write_text("")


def test_made_once(place):
    lines: list[str] = []
    calls: list[Path] = []
    for _ in range(2):
        python = LITERT.make(lines.append, lambda folder: (calls.append(folder), install(folder)))
    assert python == environment.python_of(place)
    assert LITERT.is_ready
    assert len(calls) == len(lines) == 1
    assert str(place) in lines[0]
    assert [path.name for path in place.parent.iterdir() if path.name.endswith(".part")] == []


def test_made_anew_for_other_packages(place):
    LITERT.make(lambda line: None, install)
    (place / "made_of.txt").write_text("litert-torch==0.0.1\n")
    assert not LITERT.is_ready
    LITERT.make(lambda line: None, install)
    assert LITERT.is_ready


def test_a_failure_leaves_nothing(place):
    def fails(folder: Path) -> None:
        install(folder)
        raise InputError("no network")

    with pytest.raises(InputError, match="no network"):
        LITERT.make(lambda line: None, fails)
    assert not place.exists()
    assert not list(place.parent.glob("*.part"))


def test_two_at_once_make_one(place):
    begun, go_on = threading.Event(), threading.Event()
    calls: list[Path] = []

    def slowly(folder: Path) -> None:
        calls.append(folder)
        begun.set()
        assert go_on.wait(30)
        install(folder)

    lines: list[str] = []
    first = threading.Thread(target=LITERT.make, args=(lambda line: None, slowly))
    first.start()
    assert begun.wait(30)

    def says(line: str) -> None:
        lines.append(line)
        go_on.set()  # it waits, and says so

    LITERT.make(says, slowly)
    first.join()
    assert len(calls) == 1
    assert lines[0].startswith("waiting for another process")


def test_a_folder_of_the_users_is_left_alone(place):
    place.mkdir(parents=True)
    (place / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"is no environment of this program\. Set EFFDENSE_LITERT"):
        LITERT.make(lambda line: None, install)
    assert (place / "thesis.txt").read_text() == "years of work"


def test_what_uv_says_is_passed_on(place, monkeypatch):
    def fails(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 2, "", "warning: old\n\nerror: no route to host\n")

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(InputError, match=r"could not make the environment of LiteRT's converter: .*no route to host"):
        LITERT.make(lambda line: None)
    assert not place.exists()


def test_without_uv(place, monkeypatch):
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="Run: pip install uv"):
        LITERT.make(lambda line: None)


def test_the_command_says_where_it_is(place, capsys):
    LITERT.make(lambda line: None, install)
    assert command.main(["litert"]) == 0
    assert capsys.readouterr().out == f"{place}: ready\n"
    assert command.main(["onnx"]) == 2
    assert "litert" in capsys.readouterr().err


def test_what_the_converter_says_is_passed_on(place):
    """Here another Python, without the converter's packages."""
    python = environment.python_of(place)
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    with pytest.raises(InputError, match=r"LiteRT's converter fails: .*Use another format"):
        LITERT.run(SCRIPT, ["a.pt2", "b.tflite", "float32"])
