"""Checkpoints describe their content, and reading one runs no code."""

import os
import pickle
from pathlib import Path

import lightning
import pytest
import torch

from engine.errors import InputError
from engine.training import checkpoints
from engine.training.checkpoints import (
    KEY,
    checkpoint_content,
    is_checkpoint,
    read_checkpoint,
    save_metadata,
    stored_settings,
    versions,
)


def write(path: Path, task: str = "detection", **changes) -> Path:
    content = {"state_dict": {"w": torch.arange(3.0)}, "pytorch-lightning_version": "2.6.6"}
    save_metadata(content, task, {"name": "d0", "ratios": (1.0, 2.0), "anchors": {"scale": 4}})
    content[KEY].update(changes)
    torch.save(content, path)
    return path


def test_round_trip(tmp_path):
    checkpoint = read_checkpoint(write(tmp_path / "a.ckpt"), "detection")
    assert checkpoint.model == {"name": "d0", "ratios": [1.0, 2.0], "anchors": {"scale": 4}}
    assert torch.equal(checkpoint.state_dict["w"], torch.arange(3.0))
    assert checkpoint.versions == versions()
    assert checkpoint.versions["lightning"] == lightning.__version__


def test_what_a_file_says_of_itself_is_read_once(tmp_path, monkeypatch):
    path, reads = write(tmp_path / "a.ckpt"), []
    whole = torch.load
    monkeypatch.setattr(checkpoints.torch, "load", lambda *a, **k: reads.append(a) or whole(*a, **k))
    assert is_checkpoint(path)
    checkpoint_content(path)["model"]["anchors"]["scale"] = 5  # the caller's own copy
    assert stored_settings(path, "anchors") == {"scale": 4}
    read_checkpoint(path, "detection").model["anchors"]["scale"] = 6
    assert stored_settings(path, "anchors") == {"scale": 4}
    assert len(reads) == 2  # one of them with the weights
    # Another file in its place, of the same size and time, and one that was written over.
    before = path.stat()
    write(tmp_path / "b.ckpt", task="dotection").replace(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert checkpoint_content(path)["task"] == "dotection"
    path.write_bytes(b"no checkpoint any more")
    assert not is_checkpoint(path)
    assert checkpoint_content(path) is None


def test_no_more_is_kept_than_needed(tmp_path):
    for number in range(checkpoints._KEPT + 3):
        assert is_checkpoint(write(tmp_path / f"{number}.ckpt"))
    assert len(checkpoints._SAID) == checkpoints._KEPT
    assert stored_settings(tmp_path / "0.ckpt", "anchors") == {"scale": 4}


def test_the_old_layout_of_torch_save_is_read_too(tmp_path):
    content = torch.load(write(tmp_path / "a.ckpt"), weights_only=True)
    torch.save(content, tmp_path / "b.ckpt", _use_new_zipfile_serialization=False)
    assert torch.equal(read_checkpoint(tmp_path / "b.ckpt", "detection").state_dict["w"], torch.arange(3.0))


def test_metadata_holds_plain_values_only():
    with pytest.raises(TypeError, match=r"model\.where is a PosixPath"):
        save_metadata({}, "detection", {"where": Path("x")})


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_payload_is_refused_and_not_run(tmp_path):
    proof = tmp_path / "ran"
    content = {"state_dict": {}, KEY: {"format": 1}, "extra": Payload(proof)}
    torch.save(content, tmp_path / "zip.ckpt")
    torch.save(content, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    (tmp_path / "raw.ckpt").write_bytes(pickle.dumps(Payload(proof)))
    for name in ("zip", "old", "raw"):
        with pytest.raises(InputError, match=r"run code|not a checkpoint"):
            read_checkpoint(tmp_path / f"{name}.ckpt", "detection")
    assert not proof.exists()
    # The payload works where it is allowed to: the test could fail.
    pickle.loads((tmp_path / "raw.ckpt").read_bytes())
    assert proof.exists()


def truncated(path: Path) -> None:
    data = write(path).read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("missing.ckpt", None, "Did you mean 'misssing.ckpt'"),
        ("folder", lambda p: p.mkdir(), "is a folder"),
        ("empty.ckpt", lambda p: p.write_bytes(b""), "damaged"),
        ("text.ckpt", lambda p: p.write_text("hello"), "damaged"),
        ("cut.ckpt", truncated, "damaged"),
        ("bare.ckpt", lambda p: torch.save({"w": torch.ones(1)}, p), "bare state dict"),
        ("list.ckpt", lambda p: torch.save([1], p), "not a checkpoint of this program"),
        (
            "other.ckpt",
            lambda p: torch.save({"state_dict": {}, "pytorch-lightning_version": "2"}, p),
            "another program",
        ),
        ("task.ckpt", lambda p: write(p, "segmentation"), "segmentation checkpoint; detection is asked for"),
        ("future.ckpt", lambda p: write(p, format=2), "format 2; this version reads up to 1"),
        ("odd.ckpt", lambda p: write(p, format="x"), "format x"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_message(tmp_path, name, make, says):
    write(tmp_path / "misssing.ckpt")
    path = tmp_path / name
    if make:
        make(path)
    with pytest.raises(InputError) as caught:
        read_checkpoint(path, "detection")
    message = str(caught.value)
    assert says in message
    assert name in message
    assert len(message.splitlines()) == 1
