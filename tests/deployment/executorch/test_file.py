"""A .pte file is computed by a process of another environment: what it says is passed on, and it ends with the file."""

from __future__ import annotations

import gc
import sys

import pytest
import torch

from deployment.running import executorch_file
from deployment.running.executorch_file import ExecutorchFile
from deployment.setup import environment
from engine.errors import InputError
from engine.exports.files import About

HEAD = b"\0\0\0\0ET12"
SCRIPT = """
import json, sys
sys.path += {folders!r}
import computing_script as wire
out = sys.stdout.buffer
wire.write(out, {{"about": {about!r}, "shape": [1, 3, 2, 2]}}, [])
while line := sys.stdin.buffer.readline():
    (images,) = wire.read(line, sys.stdin.buffer)
    if images.max() > 200:
        break
    if images.max() > 100:
        wire.write(out, {{"error": "too bright."}}, [])
    else:
        wire.write(out, {{}}, [images + 1.5])
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file, an environment that is this Python's, and a script in the place of ExecuTorch's."""
    place = tmp_path / "executorch"
    python = environment.python_of(place)
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    monkeypatch.setenv("EFFDENSE_EXECUTORCH", str(place))
    (place / "made_of.txt").write_text(environment.EXECUTORCH.pins.read_text())
    script = tmp_path / "script.py"
    about = About("segmentation", {}, 1, (2, 2)).to_json()
    script.write_text(SCRIPT.format(folders=[str(executorch_file.SCRIPT.parent), *sys.path], about=about))
    monkeypatch.setattr(executorch_file, "SCRIPT", script)
    path = tmp_path / "x.pte"
    path.write_bytes(HEAD)
    return path


def images(value: int) -> torch.Tensor:
    return torch.full((1, 3, 2, 2), value, dtype=torch.uint8)


def test_answers_and_errors(file):
    opened = ExecutorchFile(file)
    assert opened.about.image_hw == (2, 2)
    assert torch.equal(opened.run(images(3), torch.zeros(0))["logits"], torch.full((1, 3, 2, 2), 4.5))
    with pytest.raises(InputError, match=r"could not compute '.*x\.pte': too bright\. Export it again"):
        opened.run(images(150), torch.zeros(0))
    assert opened.run(images(4), torch.zeros(0))["logits"].max() == 5.5
    for _ in range(2):
        with pytest.raises(InputError, match="its process has ended"):
            opened.run(images(255), torch.zeros(0))


def test_the_process_ends_with_the_file(file):
    opened = ExecutorchFile(file)
    process = opened._process
    assert process.poll() is None
    del opened
    gc.collect()
    assert process.poll() is not None


def test_what_cannot_be_opened(file, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"cannot read '.*gone\.pte'"):
        ExecutorchFile(tmp_path / "gone.pte")
    (tmp_path / "other.pte").write_bytes(b"TFL3" * 9)
    with pytest.raises(InputError, match=r"is no \.pte file"):
        ExecutorchFile(tmp_path / "other.pte")
    monkeypatch.setattr(executorch_file, "SCRIPT", tmp_path / "gone.py")
    with pytest.raises(InputError, match=r"ExecuTorch refuses '.*x\.pte': its process has ended"):
        ExecutorchFile(file)
    monkeypatch.setenv("EFFDENSE_EXECUTORCH", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="python -m deployment setup executorch"):
        ExecutorchFile(file)
