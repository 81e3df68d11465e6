"""Shared folders: what stands in them, what is refused, and that a half-written one is noticed."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from deployment.networks import load_any
from engine.errors import InputError
from engine.hub.weights import own_memory
from engine.tasks import find_task
from engine.training.checkpoints import read_checkpoint
from tests.detection.small import command
from tests.every_task.sharing.test_hub import DATA, same_bits

CONFIG = """
trainer: {max_epochs: 4, precision: auto}
model: {optimizer: {name: adamw, lr: 0.001}, backbone_weights: null}
data:
  root: /data/someone/sets/cells
  train_images: sets/cells/train
  batch_size: 8
  num_workers: 0
  on_bad_image: stop
"""


def load(task: str, source: str | Path, **given: Any) -> Any:
    return importlib.import_module(task).load(source, **given)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    """A detector in a folder."""
    folder = tmp_path_factory.mktemp("shared") / "cars"
    return load("detection", DATA / "detection.ckpt", fold=False).save_pretrained(folder, licence="mit")


@pytest.fixture
def copied(shared, tmp_path) -> Path:
    return Path(shutil.copytree(shared, tmp_path / "cars"))


def run_of(folder: Path) -> Path:
    """A run's folder with a detector's checkpoint of step 20; returns the checkpoint."""
    content = torch.load(DATA / "detection.ckpt", weights_only=True)
    content |= {"global_step": 20, "epoch": 3}
    model = content["effdense"]["model"]
    model["distillation"] = {"teachers": ["/data/someone/secret.ckpt"]}
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(content, folder / "checkpoints/last.ckpt")
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "versions.json").write_text(json.dumps({"command": "x", "commit": "abcdef0123456789", "versions": {}}))
    rows = ("epoch,step,train_loss,val_ap,val_loss", "1,9,2.5,,", "1,9,,0.125,3.0", "3,19,1.5,,", "3,19,,0.25,2.0")
    (folder / "metrics.csv").write_text("\n".join(rows))
    return folder / "checkpoints/last.ckpt"


def parts(card: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The metadata of a card, and its text by headings."""
    _, head, text = card.split("---\n", 2)
    pieces = text.split("\n## ")
    return yaml.safe_load(head), {"": pieces[0], **dict(piece.split("\n\n", 1) for piece in pieces[1:])}


def test_the_card_is_written_from_the_run(tmp_path):
    checkpoint = run_of(tmp_path / "runs/cells")
    line = f"share --ckpt_path {checkpoint} --to {tmp_path}/cells --licence cc-by-4.0 --limits Only_from_above."
    said = command(line, find_task("detection"))
    assert said.code == 0, said.err
    text = (tmp_path / "cells/README.md").read_text()
    metadata, card = parts(text)
    assert metadata["license"] == "cc-by-4.0"
    assert metadata["pipeline_tag"] == "object-detection"
    (result,) = metadata["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "val_ap", "value": 0.25}]  # of step 20, not of step 10, and no loss
    assert "traffic light" in card[""]
    assert card["Limits"].strip() == "Only_from_above."
    assert card["Scores"].splitlines()[2] == r"| val\_ap | 0.2500 |"
    assert r"| data.root | sets/cells |" in card["Data"]
    assert r"| data.train\_images | sets/cells/train |" in card["Data"]
    assert "bad" not in card["Data"]
    assert r"| model.optimizer.lr | 0.001 |" in card["Recipe"]
    assert "commit abcdef012345" in card["Recipe"]
    for number in (1, 2):
        assert f"(training_{number}.png)" in card["Recipe"]
        assert (tmp_path / f"cells/training_{number}.png").read_bytes().startswith(b"\x89PNG")
    everything = text + (tmp_path / "cells/config.json").read_text()
    assert "someone" not in everything
    assert "secret" not in everything
    # A predictor of the same checkpoint has the same card, as long as its weights are those of the run.
    network = load("detection", checkpoint, fold=False)
    network.save_pretrained(tmp_path / "again")
    assert parts((tmp_path / "again/README.md").read_text())[1]["Scores"] == card["Scores"]
    with torch.no_grad():
        next(network.network.parameters()).add_(1)
    network.save_pretrained(tmp_path / "again")
    assert parts((tmp_path / "again/README.md").read_text())[1]["Scores"].strip() == "Not stated."
    same_bits(load("detection", tmp_path / "again", fold=False).network, network.network)


def test_a_run_that_learns_on_is_not_shared_under_the_former_numbers(tmp_path):
    checkpoint = run_of(tmp_path / "runs/cells")
    network = load("detection", checkpoint)
    os.utime(checkpoint, (1, 1))
    with pytest.raises(
        InputError, match=r"last\.ckpt' has changed since the network was loaded from it\. Load it again"
    ):
        network.save_pretrained(tmp_path / "cells")
    network.origin = None
    with pytest.raises(InputError, match=r"folded for prediction, which others cannot train\. Load it with fold=False"):
        network.save_pretrained(tmp_path / "cells")
    assert not (tmp_path / "cells").exists()


@pytest.mark.parametrize("name", ["README.md", "config.json", "model.safetensors"])
def test_a_folder_of_others_is_left_as_it_is(name, shared, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"has a {name} that belongs to no shared network. Give a folder of its own"):
        load("detection", shared).save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def damages() -> dict[str, Any]:
    def config(**changes: Any) -> Any:
        def change(folder: Path) -> None:
            content = json.loads((folder / "config.json").read_text())
            content["effdense"].update(changes)
            (folder / "config.json").write_text(json.dumps(content))

        return change

    def weights(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        save_file({name: value + 1 for name, value in state.items()}, folder / "model.safetensors")

    def cut(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])

    return {
        "of other weights": (weights, r"config\.json beside it is of weights with"),
        "cut short": (cut, r"config\.json beside it is of weights with"),
        "of a later format": (config(format=2), r"has format 2; this version reads up to 1.*upgrade"),
        "no model": (config(model=None), "is damaged: it does not say what network"),
        "of another task": (config(task="joint"), "is a joint checkpoint; detection is asked for"),
        "no classes": (config(model={"member": "d0"}), "does not describe the network that its weights are of"),
    }  # fmt: skip


@pytest.mark.parametrize("kind", damages())
def test_a_damaged_folder_is_one_short_error(kind, copied):
    damage, said = damages()[kind]
    damage(copied)
    with pytest.raises(InputError, match=said) as error:
        load("detection", copied)
    assert "\n" not in str(error.value)


def test_a_folder_is_taken_wherever_a_checkpoint_is(shared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = load_any(shared)
    assert (loaded.task, loaded.name, loaded.licence) == ("detection", "cars", "mit")
    network = load("detection", shared, fold=False).network
    same_bits(loaded.network, network)
    content = restored_by_lightning(shared)
    assert content["effdense"]["task"] == "detection"
    assert content["state_dict"].keys() == read_checkpoint(DATA / "detection.ckpt", "detection").state_dict.keys()
    said = command(f"fit --config detection/demo --ckpt_path {shared}", find_task("detection"))
    assert said.code == 2
    assert "without the state of a training to go on from. Give it as --model.pretrained" in said.err


def restored_by_lightning(folder: Path) -> dict[str, Any]:
    from engine.training.whole_files import WholeFiles

    return WholeFiles().load_checkpoint(folder, weights_only=True)


def test_bad_input_of_the_command_is_one_short_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = find_task("detection")
    for line, words in {
        f"share --ckpt_path {DATA}/detection.ckpt --to a --private true": "private is for repositories of a hub",
        f"share --ckpt_path {DATA}/joint.ckpt --to a": "is a joint checkpoint; detection is asked for",
        f"share --ckpt_path {DATA}/none.ckpt --to a": "there is no checkpoint",
        f"share --ckpt_path {DATA}/detection.ckpt --to hf://a": "names no repository",
        f"share --ckpt_path {DATA}/detection.ckpt --to s3://a/b": "which is an address",
        f"share --ckpt_path {DATA}/detection.ckpt": "--to",
        "share --ckpt_path best --to a": "there is no run with checkpoints",
    }.items():
        said = command(line, spec)
        assert (said.code, said.err.count("\n"), said.out) == (2, 1, ""), said.err
        assert words in said.err


def test_tensors_that_share_memory_are_written_apart(tmp_path):
    whole = torch.arange(12.0).reshape(3, 4)
    state = {
        "whole": whole,
        "same": whole,
        "row": whole[1],
        "turned": whole.T,
        "last": whole.reshape(1, 3, 2, 2)[:, :, 1],
    }
    save_file(own_memory(state), tmp_path / "x.safetensors")
    found = load_file(tmp_path / "x.safetensors")
    assert all(torch.equal(found[name], value) for name, value in state.items())
