"""`python -m detection convert`: what it writes is read back bit by bit, and wrong input gets one short line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from detection.network.model import EfficientDet
from detection.prediction.predictor import load
from detection.weights.convert import convert
from detection.weights.effdet_layout import export_effdet
from detection.weights.load import PUBLISHED, Published, load_network, load_pretrained
from detection.weights.own_layout import ENTRY
from engine.errors import InputError
from engine.training.checkpoints import save_metadata
from tests.detection.small import command
from tests.detection.weights.test_weights import TINY

QUAD = TINY | {"pyramid": "quad", "resampling": "bilinear", "padding": "symmetric", "backbone": "efficientnet_b0",
               "anchor_ratios": ((1.0, 1.0), (2**0.5, 0.5**0.5)), "drop_path": 0.1}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def published() -> Iterator[None]:
    tiny = Published("tf_efficientdet_tiny-00000000.pth", "lite0", TINY)
    quad = Published("efficientdet_quad-00000000.pth", "d0", QUAD, redundant_bias=False, level_first=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PUBLISHED, "tf_efficientdet_tiny", tiny)
        patch.setitem(PUBLISHED, "efficientdet_quad", quad)
        yield


def detector(name: str) -> EfficientDet:
    torch.manual_seed(0)
    model = EfficientDet(PUBLISHED[name].architecture(), 3).eval()
    for key, value in model.state_dict().items():
        if "running" in key:
            value.uniform_(0.5, 1.5)
    return model


def write(model: EfficientDet, path: Path, name: str) -> Path:
    entry = PUBLISHED[name]
    torch.save(export_effdet(model, redundant_bias=entry.redundant_bias, level_first=entry.level_first), path)
    return path


@pytest.mark.by_default("tf_efficientdet_tiny")
@pytest.mark.parametrize("name", ["tf_efficientdet_tiny", "efficientdet_quad"])
def test_round_trip_is_bit_identical(tmp_path: Path, name: str) -> None:
    model = detector(name)
    source = write(model, tmp_path / "best.pth", name)
    target = tmp_path / "new folder" / "own.safetensors"
    said = command(f"convert {source} {tmp_path / 'own.safetensors'}")
    assert (said.code, said.err) == (0, "")
    assert said.out == f"'{source}' is {name}, 3 classes; written to '{tmp_path / 'own.safetensors'}'\n"
    convert(tmp_path / "own.safetensors", target)  # and once more, into a folder that does not exist yet

    images = torch.randint(0, 256, (1, 3, 128, 128), dtype=torch.uint8)
    for again in (load(target, fold=False).network, load_pretrained(target), load_network(target)):
        assert again.config == model.config
        assert again.classes == model.classes
        assert not again.training
        found = again.state_dict()
        assert found.keys() == model.state_dict().keys()
        assert all(torch.equal(found[key], value) for key, value in model.state_dict().items())
        again.to(memory_format=torch.contiguous_format)
        for ours, theirs in zip(again(images), model(images), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert target.read_bytes() == (tmp_path / "own.safetensors").read_bytes()


def test_metadata(tmp_path: Path) -> None:
    source = write(detector("efficientdet_quad"), tmp_path / "mine.pth", "efficientdet_quad")
    convert(source, tmp_path / "own.safetensors")
    with safetensors.safe_open(tmp_path / "own.safetensors", "pt") as file:
        about = json.loads(file.metadata()[ENTRY])
    model, architecture = about["model"], about["model"]["architecture"]
    assert model["member"] == "d0"
    assert model["classes"]["category_ids"] == [1, 2, 3]
    assert (architecture["mean"], architecture["std"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert (architecture["padding"], architecture["image_size"]) == ("symmetric", [128, 128])
    assert about["origin"] == {
        "file": "mine.pth", "layout": "effdet", "network": "efficientdet_quad", "licence": "of whoever trained it",
    }  # fmt: skip
    assert set(about["versions"]) >= {"torch", "timm"}


def test_checkpoint_of_a_training(tmp_path: Path) -> None:
    model = detector("tf_efficientdet_tiny")
    content = {"state_dict": {f"detector.{key}": value for key, value in model.state_dict().items()}}
    save_metadata(content, "detection", model.settings())
    torch.save(content, tmp_path / "best.ckpt")
    convert(tmp_path / "best.ckpt", tmp_path / "own.safetensors")
    found = load_pretrained(tmp_path / "own.safetensors").state_dict()
    assert all(torch.equal(found[key], value) for key, value in model.state_dict().items())


def test_settings_that_hold_no_weights(tmp_path: Path) -> None:
    source = write(detector("tf_efficientdet_tiny"), tmp_path / "best.pth", "tf_efficientdet_tiny")
    convert(source, tmp_path / "own.safetensors")
    model = load_pretrained(tmp_path / "own.safetensors", image_size=256, freezing={"frozen_stages": -1})
    assert model.config.image_size == (256, 256)
    assert not any(p.requires_grad for p in model.backbone.parameters())
    with pytest.raises(InputError, match="Did you mean 'image_size'"):
        load_pretrained(tmp_path / "own.safetensors", imagesize=256)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a detector in its former layout and in ours."""
    folder = tmp_path_factory.mktemp("converted")
    source = write(detector("tf_efficientdet_tiny"), folder / "best.pth", "tf_efficientdet_tiny")
    convert(source, folder / "own.safetensors")
    return folder


@pytest.fixture
def own(converted: Path, tmp_path: Path) -> Path:
    """A copy of the file of ours, with the other one beside it."""
    shutil.copytree(converted, tmp_path, dirs_exist_ok=True)
    return tmp_path / "own.safetensors"


BIAS = "class_head.predict.pointwise.bias"


@pytest.mark.parametrize(
    ("tensors", "metadata", "expected"),
    [
        ({BIAS: None}, None, f"1 keys are missing ({BIAS})"),
        ({"more": torch.zeros(1)}, None, "1 have no place (more)"),
        ({BIAS: torch.zeros(5)}, None, f"1 shapes differ ({BIAS} (5,) for (27,))"),
        ({BIAS: torch.full((27,), float("nan"))}, None, f"not finite ({BIAS})"),
        ({}, "{", "cannot be read"),
        ({}, "[]", "has format []; this version reads up to 1"),
        ({}, '{"format": 99}', "has format 99; this version reads up to 1"),
        ({}, '{"format": 1}', "are incomplete ('model')"),
        ({}, '{"format": 1, "model": {"member": "d0"}}', "are incomplete ('architecture')"),
    ],
)
def test_files_that_were_changed(
    own: Path, tensors: dict[str, torch.Tensor | None], metadata: str | None, expected: str
) -> None:
    with safetensors.safe_open(own, "pt") as file:
        text = file.metadata()[ENTRY]
    state = {k: v for k, v in (safetensors.torch.load_file(own) | tensors).items() if v is not None}
    safetensors.torch.save_file(state, own, {ENTRY: text if metadata is None else metadata})
    with pytest.raises(InputError) as caught:
        load(own)
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 300


def test_file_cut_short(own: Path) -> None:
    own.write_bytes(own.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be read"):
        load(own)


def test_wrong_commands(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.safetensors").write_text("notes")
    before = sorted(tmp_path.iterdir())
    lines = {
        "": "give source and destination",
        "best.pth": "give destination",
        "best.pth a.safetensors b": "there is no argument 'b'. Allowed: source, destination, --layout_of",
        "best.pth a.safetensors --layoutof x": "Did you mean 'layout_of'?",
        "best.pth a.pth": "the destination 'a.pth' must end with .safetensors",
        "none.pth a.safetensors": "'none.pth' does not exist",
        "none.ckpt a.safetensors": "there is no checkpoint 'none.ckpt'",
        "tf_efficientdet_d00 a.safetensors": "Did you mean 'tf_efficientdet_d0'?",
        "cspdarkdet53m a.safetensors": "on a CSPDarknet-53 backbone. Only EfficientNet backbones are read.",
        "best.pth a.safetensors --layout_of tf_efficientdet_d9": "Did you mean 'tf_efficientdet_d",
        "best.pth a.safetensors --layout_of tf_efficientdet_d0": "does not fit d0: ",
        "own.safetensors own.safetensors": "would be overwritten by itself",
        "own.safetensors a.safetensors --layout_of tf_efficientdet_d0": "states which network it holds",
        "notes.safetensors a.safetensors": "cannot be read",
    }
    for line, expected in lines.items():
        said = command(f"convert {line}")
        assert said.code == 2, line
        assert said.err.startswith("error: ")
        assert expected in said.err, line
        assert said.err.count("\n") == 1
        assert len(said.err) < 320
    assert sorted(tmp_path.iterdir()) == before
