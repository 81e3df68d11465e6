"""`python -m deployment quantize`: wrong input gets one line and writes nothing; bfloat16; a detector in int8."""

from __future__ import annotations

import json
import os
import shutil
from typing import get_args

import numpy as np
import onnx
import pytest
from PIL import Image

from deployment.__main__ import main
from deployment.precision.pictures import find_pictures
from deployment.precision.quantise import Precision
from deployment.running.openvino_file import check_bfloat16
from detection import load
from engine.errors import InputError
from engine.exports.files import About, open_exported
from tests.deployment.networks import OBJECTS, picture

PICTURES = 4
DATA = [
    "--data.val_images", "images", "--data.val_annotations", "truth.json", "--data.num_workers", "0",
]  # fmt: skip
INT8 = ["--calibration", "images"]
# The boxes of a detector that was never trained overlap with scores near each other, so that rounding changes which are
# kept. Accuracy is not what is tested here; `test_guard.py` does so, and benchmarks/RESULTS.md has trained detectors.
LOOSE = "0.9"
SIZE = ["--image_size", "[160,224]"]


@pytest.fixture(scope="module")
def annotated(tmp_path_factory, ckpt):
    """Pictures, annotated with what the detector finds, so that its AP is 1."""
    made = tmp_path_factory.mktemp("annotated")
    (made / "d.ckpt").symlink_to(ckpt("detection"))
    (made / "images").mkdir()
    detector = load(made / "d.ckpt")
    truth: dict[str, list[dict[str, object]]] = {
        "images": [],
        "annotations": [],
        "categories": [
            {"id": number, "name": name}
            for number, name in zip(OBJECTS.category_ids, OBJECTS.names, strict=True)
            if name
        ],
    }
    for number in range(PICTURES):
        pixels = picture(160, 224, number)
        Image.fromarray(pixels).save(made / f"images/{number}.png")
        truth["images"].append({"id": number + 1, "file_name": f"{number}.png", "height": 160, "width": 224})
        found = detector.predict(pixels, score_threshold=0.5)
        for (left, top, right, bottom), row in zip(found.boxes_xyxy, found.class_ids, strict=True):
            if OBJECTS.names[row]:
                box = [float(left), float(top), float(right - left), float(bottom - top)]
                truth["annotations"].append({
                    "id": len(truth["annotations"]) + 1, "image_id": number + 1, "bbox": box,
                    "category_id": OBJECTS.category_ids[row], "area": box[2] * box[3], "iscrowd": 0,
                })  # fmt: skip
    assert len(truth["annotations"]) > 5
    (made / "truth.json").write_text(json.dumps(truth))
    return made


@pytest.fixture
def folder(annotated, tmp_path, monkeypatch):
    """A working folder with a copy of them."""
    shutil.copytree(annotated, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def quantize(*words: str) -> int:
    """The exit status of the command."""
    return main(["quantize", "--ckpt_path", "d.ckpt", *SIZE, *words])


def line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error."""
    *told, error = capsys.readouterr().err.strip().splitlines()
    assert error.startswith("error: ")
    assert not any("error" in each for each in told)
    return error


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([*DATA], "calibration is for int8, which needs pictures"),
        ([*INT8], "none is given. Give its options, as `validate` takes them: --config"),
        (["--precision", "bfloat16", *DATA], "bfloat16 is computed by openvino only, not by onnx"),
        (["--precision", "bfloat16", *INT8, *DATA], "bfloat16 is computed by openvino only"),
        (["--precision", "bfloat16", "--format", "executorch", *DATA], "bfloat16 is computed by openvino only, not by"),
        (["--format", "executorch", "--nms", "inside", *INT8, *DATA], "nms is a setting of a suppression inside the"),
        (["--format", "torch", "--nms", "inside", *INT8, *DATA], "nms is a setting of a suppression inside the"),
        (["--precision", "int4", *INT8, *DATA], "int8"),
        (["--calibration", "nowhere", *DATA], "'nowhere' does not exist"),
        ([*INT8, "--calibration_list", "truth.txt", *DATA], "cannot read 'truth.txt'"),
        ([*INT8, "--calibration_list", "d.ckpt", *DATA], "'d.ckpt' is no list of pictures"),
        (["--calibration_list", "truth.json", *DATA], "calibration_list says which pictures of --calibration"),
        (["--calibration_count", "9", *DATA], "calibration_count says which pictures of --calibration"),
        (["--letterbox", "inside", *INT8, *DATA], "leave the letter-box outside"),
        (["--argmax", "true", *INT8, *DATA], "argmax is a setting of classes of pixels"),
        ([*INT8, "--bound", "-1", *DATA], "bound"),
        ([*INT8, "--output", "d.tflite", *DATA], "a file of onnx ends in .onnx"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_wrong_options(folder, capsys, words, expected):
    before = sorted(os.listdir(folder))
    assert quantize(*words) == 2
    assert expected in line(capsys)
    assert sorted(os.listdir(folder)) == before


@pytest.mark.slow
def test_what_validate_refuses_is_the_error(folder, capsys):
    assert quantize(*INT8, "--data.val_images", "images", "--data.val_annotations", "gone.json") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "gone.json" in error
    assert not list(folder.glob("*.onnx"))


@pytest.mark.parametrize("precision", get_args(Precision))
def test_a_file_can_say_every_number_type(precision, tmp_path):
    about = About("detection", {}, precision=precision)
    assert About.from_json(about.to_json(), tmp_path) == about


def test_processors_without_bfloat16(tmp_path):
    check_bfloat16(tmp_path / "x.xml", ["FP32", "INT8", "BF16"])
    with pytest.raises(InputError, match=r"x\.xml' computes in bfloat16, which this processor does not"):
        check_bfloat16(tmp_path / "x.xml", ["FP32", "INT8"])


def test_bfloat16(folder, capsys):
    import openvino

    words = ["--format", "openvino", "--precision", "bfloat16", "--bound", LOOSE, *DATA]
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert quantize(*words) == 2
        assert "which this processor does not" in line(capsys)
        return
    assert quantize(*words) == 0, capsys.readouterr().err
    report = json.loads((folder / "d_bfloat16.xml.accuracy.json").read_text())
    assert report["float32"]["AP"] == pytest.approx(1, abs=0.01)
    file = open_exported(folder / "d_bfloat16.xml", "detection")
    assert file.about.precision == "bfloat16"
    ours, other = (load(path).predict(picture(160, 224)).scores[:5] for path in ("d_bfloat16.xml", "d.ckpt"))
    assert 0 < np.abs(ours - other).max() < 0.1  # near, and yet another number type


@pytest.mark.slow
def test_a_detector_in_int8(folder, capsys):
    assert quantize("--bound", LOOSE, *INT8, "--calibration_list", "truth.json", *DATA) == 0, capsys.readouterr().err
    report = json.loads((folder / "d_int8.onnx.accuracy.json").read_text())
    assert 0 < report["scores"]["AP"] < report["float32"]["AP"]
    file = open_exported(folder / "d_int8.onnx", "detection")
    assert file.about.precision == "int8"
    nodes = onnx.load("d_int8.onnx").graph.node
    makers = {value: node.op_type for node in nodes for value in node.output}
    read = {node.op_type: {makers[name] for name in node.input if name in makers} for node in nodes}
    assert "DequantizeLinear" in read["Conv"]
    # The post-processing is never quantised.
    assert not any("DequantizeLinear" in read[kind] for kind in ("NonMaxSuppression", "TopK", "Exp", "Sigmoid", "Sub"))


def test_pictures_are_those_of_the_list(folder, ckpt):
    (folder / "some.txt").write_text("2.png\n0.png\n")
    assert [path.name for path in find_pictures("images", folder / "some.txt", 100)] == ["2.png", "0.png"]
    assert [path.name for path in find_pictures("images", folder / "truth.json", 2)] == ["0.png", "3.png"]
    assert len(find_pictures("images", None, 3)) == 3
    (folder / "some.txt").write_text("9.png\n")
    with pytest.raises(InputError, match=r"lists 'images/9\.png', which does not exist"):
        find_pictures("images", folder / "some.txt", 100)
