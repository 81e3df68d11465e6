"""A joint training that begins with the network of another one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from joint import load_network
from tests.joint.small import command, stored, write_configs

STILL = "--model.optimizer.lr 1e-30 --model.optimizer.weight_decay 0 --ema.decay 0 --trainer.max_epochs 1"


@pytest.fixture(scope="module")
def folder(trained, streets, photos, tmp_path_factory):
    """A folder with `both.yaml`, the training `one`, and its last checkpoint as `own.pth`."""
    folder = tmp_path_factory.mktemp("pretrained")
    write_configs(folder, streets, photos)
    shutil.copytree(trained / "runs/joint/learnt", folder / "runs/joint/one")
    shutil.copy(folder / "runs/joint/one/checkpoints/last.ckpt", folder / "own.pth")
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def parameters(network):
    return {name: value for name, value in network.named_parameters() if "head.predict" not in name}


@pytest.mark.by_default("one-all")
@pytest.mark.parametrize(
    ("source", "run", "options"),
    [
        pytest.param("own.pth", "one", "", id="one-all"),
        pytest.param("runs/joint/apart/checkpoints/last.ckpt", "apart", "--model.norms per_task", id="apart"),
        pytest.param("own.pth", "one", "--model.detector.architecture.image_size [64,128]", id="one-smaller"),
    ],
)
def test_it_begins_with_these_weights(here, source, run, options):
    if run == "apart":
        said = command("fit --config both.yaml --run.name apart --trainer.max_epochs 1 --model.norms per_task")
        assert said.code == 0, said.err
    said = command(f"fit --config both.yaml --run.name next --model.pretrained {source} {STILL} {options}")
    assert said.code == 0, said.err
    mine, theirs = (parameters(load_network(f"runs/joint/{name}/checkpoints/last.ckpt")) for name in ("next", run))
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if not torch.allclose(mine[name], theirs[name], atol=1e-12)] == []
    size = stored("next")["effdense"]["model"]["detector"]["architecture"]["image_size"]
    assert size == ([64, 128] if "image_size" in options else [128, 256])
    shutil.rmtree("runs/joint/next")


@pytest.mark.slow
def test_class_layers_start_anew_where_classes_differ(here, streets):
    for split in ("train", "val"):
        content = json.loads((streets / f"annotations/instances_{split}.json").read_text())
        for category in content["categories"]:
            category["name"] += " of another kind"
        Path(f"other_{split}.json").write_text(json.dumps(content))
    boxes = " ".join(f"--data.boxes.{s}_annotations {Path(f'other_{s}.json').resolve()}" for s in ("train", "val"))
    said = command(f"fit --config both.yaml --run.name other --model.pretrained own.pth {STILL} {boxes}")
    assert said.code == 0, said.err
    mine, theirs = (load_network(f"runs/joint/{name}/checkpoints/last.ckpt") for name in ("other", "one"))
    assert all(name.endswith("of another kind") for name in mine.detector.classes.names)
    assert mine.segmenter.classes == theirs.segmenter.classes
    same = {name: torch.allclose(a, b) for (name, a), (_, b) in zip(mine.named_parameters(), theirs.named_parameters(),
                                                                    strict=True)}  # fmt: skip
    assert all(name.startswith("detector.class_head") for name, equal in same.items() if not equal)
    assert not all(same.values())


@pytest.mark.slow
def test_one_part_may_stay(here):
    said = command("fit --config both.yaml --run.name part --model.pretrained own.pth --model.train detector "
                   "--trainer.max_epochs 1 --ema.decay 0")  # fmt: skip
    assert said.code == 0, said.err
    mine, theirs = (load_network(f"runs/joint/{name}/checkpoints/last.ckpt") for name in ("part", "one"))
    same = {name: torch.equal(a, b) for (name, a), (_, b) in zip(mine.named_parameters(), theirs.named_parameters(),
                                                                 strict=True)}  # fmt: skip
    assert all(equal for name, equal in same.items() if not name.startswith("detector."))
    assert not all(same.values())


@pytest.mark.slow
def test_scores_need_no_more(here):
    last = "runs/joint/one/checkpoints/last.ckpt"
    said = command(f"validate --config both.yaml --model.pretrained {last} --model.scores a")
    assert said.code == 0, said.err
    said = command(f"validate --config both.yaml --ckpt_path {last} --model.scores b")
    assert said.code == 0, said.err
    assert json.loads(Path("a").read_text()) == json.loads(Path("b").read_text())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--model.pretrained none.ckpt", "there is no checkpoint 'none.ckpt'"),
        ("--model.pretrained own.pth --model.member lite1", "is a lite0, but lite1 is asked for"),
        ("--model.pretrained own.pth --model.norms per_task", "share their norms. Give --model.norms shared"),
        ("--model.pretrained own.pth --model.detector_checkpoint d.ckpt", "model.detector_checkpoint a part of one"),
        ("--model.pretrained own.pth --model.segmenter.architecture.decoder_channels 32", "weights differ, such as"),
    ],
)
def test_mistakes(here, options, message):
    said = command(f"fit --config both.yaml --run.name bad {options}")
    assert said.code == 2
    assert message in said.err
    assert "Traceback" not in said.err
