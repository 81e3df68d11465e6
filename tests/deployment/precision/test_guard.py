"""Int8 keeps its accuracy: a network with a layer that int8 spoils comes out with that layer in float."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deployment.__main__ import main
from deployment.precision.formats.processor import saturates
from deployment.precision.measure import measured
from deployment.precision.report import report_beside
from engine.exports.files import open_exported
from segmentation.network.model import Segmenter
from tests.deployment.networks import SURFACES, checkpoint, picture, segmenter

PICTURES = 6
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}


@torch.no_grad()
def spoil(network: Segmenter) -> None:
    """Scale a channel up and down again between two layers without activation: nothing changes but its range."""
    first, second = network.backbone.blocks[0][0], network.backbone.blocks[1][0]
    first.bn2.weight[0] *= 1000
    first.bn2.bias[0] *= 1000
    second.conv_pw.weight[:, 0] /= 1000


@torch.no_grad()
def clear_labels(network: Segmenter, pixels: np.ndarray) -> np.ndarray:
    """The label ids of a network's own answers; 255, which no score counts, where two classes are nearly as likely."""
    logits = network(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0]
    best = logits.topk(2, dim=0)
    label_ids = torch.tensor(SURFACES.label_ids)[best.indices[0]]
    return label_ids.where(best.values[0] - best.values[1] > 0.7, 255).byte().numpy()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Pictures whose masks are the answers of the network itself, so that it is right everywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tests.deployment.networks.network_of", lambda task: segmenter())
    checkpoint("segmentation", tmp_path / "sound.ckpt")
    network = segmenter()
    spoil(network)
    monkeypatch.setattr("tests.deployment.networks.network_of", lambda task: network)
    checkpoint("segmentation", tmp_path / "spoiled.ckpt")
    (tmp_path / "classes.yaml").write_text(json.dumps({"names": SURFACES.names, "label_ids": SURFACES.label_ids}))
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(PICTURES):
        pixels = picture(96, 128, number)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
        Image.fromarray(clear_labels(segmenter(), pixels)).save(tmp_path / "masks" / f"{number}.png")
    return tmp_path


def words(name: str, file_format: str) -> list[str]:
    """A command on the pictures of the folder."""
    return [
        "quantize", "--ckpt_path", f"{name}.ckpt", "--format", file_format, "--calibration", "images",
        "--output", f"{name}{SUFFIXES[file_format]}", "--bound", "0.01", *data_words(),
    ]  # fmt: skip


def data_words() -> list[str]:
    """The options of the data."""
    return [
        "--data.format", "folder",
        "--data.folder.val_images", "images", "--data.folder.val_masks", "masks",
        "--data.folder.classes", "classes.yaml",
        "--data.folder.ignore_values", "[255]", "--data.num_workers", "0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("file_format", "kept"),
    [
        # ONNX Runtime rounds what a layer gives and what the next one reads; NNCF only what a layer reads. With weights
        # of seven bits, where products are added in 16, the layer before loses too much as well (0.047 here).
        ("onnx", {"backbone.blocks.0.0": "conv_pw", "backbone.blocks.1.0": "conv_pw"}),
        (
            "openvino",
            {"backbone.blocks.1.0": "conv_pw", **({"backbone.blocks.0.0": "conv_pw"} if saturates() else {})},
        ),
    ],
    ids=["onnx", "openvino"],
)
@pytest.mark.slow
def test_a_layer_that_int8_spoils_stays_in_float(folder, capsys, file_format, kept):
    path = folder / f"spoiled{SUFFIXES[file_format]}"
    assert main(words("spoiled", file_format)) == 0, capsys.readouterr().err
    report = json.loads(report_beside(path).read_text())
    assert {each["group"]: next(iter(each["layers"])) for each in report["kept"]} == {
        group: f"{group}.{layer}" for group, layer in kept.items()
    }
    assert report["float32"]["mIoU"] - report["whole"]["mIoU"] > 0.5
    assert report["float32"]["mIoU"] - report["scores"]["mIoU"] <= 0.01
    assert all(each["loss_without"] > 0.01 for each in report["kept"])
    said = capsys.readouterr().out
    assert f"{len(kept)} of {report['groups']} groups of layers stay in float" in said
    assert all(f"{group}.{layer}" in said for group, layer in kept.items())
    # What the report says is what the file does.
    assert measured(path, "segmentation", data_words()) == pytest.approx(report["scores"], abs=1e-6)


@pytest.mark.parametrize("file_format", ["onnx", "openvino"])
@pytest.mark.slow
def test_a_sound_network_is_int8_as_a_whole(folder, capsys, file_format):
    path = folder / f"sound{SUFFIXES[file_format]}"
    assert main(words("sound", file_format)) == 0, capsys.readouterr().err
    report = json.loads(report_beside(path).read_text())
    assert report["kept"] == []
    assert report["float32"]["mIoU"] - report["scores"]["mIoU"] <= 0.01
    about = open_exported(path, "segmentation").about
    assert about.precision == "int8"
    assert about.pixel_names == ("road", "car", "tree")
    weights = path if file_format == "onnx" else path.with_suffix(".bin")
    parameters = sum(value.numel() for value in segmenter().parameters())
    assert weights.stat().st_size < 2.2 * parameters  # bytes; four each in float32
    assert sorted(folder.iterdir()) == sorted(
        [folder / name for name in ("classes.yaml", "images", "masks", "sound.ckpt", "spoiled.ckpt")]
        + [path, report_beside(path), *([weights] if weights != path else [])]
    )
