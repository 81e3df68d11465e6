"""`python -m deployment export`, and files in place of checkpoints: wrong input gets one line, nothing good is lost."""

from __future__ import annotations

import gc
import importlib.util
import io
import json
import logging
import os
import shutil
import weakref
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deployment.__main__ import main
from deployment.export import write
from deployment.export.options import SUFFIXES, Options
from deployment.networks import load_any
from engine.cli.main import main as effdense
from engine.errors import InputError
from engine.exports.files import KEY, open_exported
from tests.deployment.networks import picture


def line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error."""
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    return error


def test_a_file_is_written_and_described(commanded):
    path, said = commanded()
    assert said.startswith("detection.pt2: ")
    assert "160 x 224 pixels" in said
    assert os.listdir(path.parent) == ["detection.pt2"]
    about = open_exported(path, "detection").about
    assert about.image_hw == (160, 224)
    assert about.postprocess is not None
    assert about.postprocess["iou_threshold"] == 0.4  # the checkpoint's


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--format", "tensorrt"], "onnx"),
        (["--output", "d.engine"], "ends in .onnx; 'd.engine' does not. Rename it."),
        (["--image_size", "0"], "image_size"),
        (["--nms", "outside", "--iou_threshold", "0.3"], "iou_threshold is a setting of the suppression"),
        (["--task", "segmentation"], "is a detection checkpoint; segmentation is asked for"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_options(ckpt, tmp_path, monkeypatch, capsys, words, expected):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--ckpt_path", str(ckpt("detection")), *words]) == 2
    assert expected in line(capsys)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("task", "words", "expected"),
    [
        ("detection", ["--argmax", "true"], "argmax is a setting of classes of pixels, which a network of detection"),
        ("detection", ["--argmax", "false"], "argmax is a setting of classes of pixels"),
        ("segmentation", ["--nms", "outside"], "nms is a setting of boxes, which a network of segmentation"),
        ("segmentation", ["--nms", "inside"], "nms is a setting of boxes"),
        ("segmentation", ["--max_detections", "5"], "max_detections is a setting of the suppression, which a network"),
        ("joint", ["--nms", "outside", "--score_threshold", "0.3"], "which --nms outside does not have"),
        ("detection", ["--precision", "float16"], "precision is float16; export writes files of onnx in float32 only"),
        ("detection", ["--calibration", "."], "calibration is for int8"),
        ("segmentation", ["--layout", "frigate"], "is a network of segmentation"),
        ("detection", ["--format", "litert", "--batch_size", "2"], "takes one image at a time"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_cannot_apply(ckpt, tmp_path, monkeypatch, capsys, task, words, expected):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture(32, 32)).save("a.png")
    assert main(["export", "--ckpt_path", str(ckpt(task)), *words]) == 2
    assert expected in line(capsys)
    assert os.listdir(tmp_path) == ["a.png"]


def test_an_unknown_command_and_a_missing_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["exprot"]) == 2
    assert "Did you mean 'export'?" in line(capsys)
    assert main(["export", "--ckpt_path", "gone.ckpt"]) == 2
    assert "gone.ckpt" in line(capsys)
    assert main(["export", "--ckpt_path", "best"]) == 2
    assert "Give --task" in line(capsys)


@pytest.mark.parametrize(("file_format", "package"), [("onnx", "onnxscript"), ("openvino", "openvino")])
def test_a_missing_package_is_named_with_its_command(ckpt, tmp_path, monkeypatch, capsys, file_format, package):
    monkeypatch.chdir(tmp_path)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    assert main(["export", "--ckpt_path", str(ckpt("detection")), "--format", file_format]) == 2
    assert line(capsys).endswith(f"{package}, which is not installed. Run: pip install 'effdense[{file_format}]'")


@pytest.mark.parametrize(
    "file_format", ["torch", *(pytest.param(each, marks=pytest.mark.slow) for each in ("onnx", "openvino"))]
)
def test_a_former_file_stays_when_the_new_one_differs(ckpt, tmp_path, monkeypatch, file_format):
    path = tmp_path / f"d{SUFFIXES[file_format]}"
    weights = [path.with_suffix(".bin")] if file_format == "openvino" else []
    for file in (path, *weights):
        file.write_bytes(b"former")
    monkeypatch.setattr(write, "LARGEST", -1.0)
    with pytest.raises(InputError, match="more than rounding"):
        write.export(load_any(ckpt("segmentation")), path, file_format, Options(image_size=128))
    assert {file.read_bytes() for file in (path, *weights)} == {b"former"}
    assert sorted(tmp_path.iterdir()) == sorted((path, *weights))


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
@pytest.mark.parametrize("content", [b"", b"no model at all", b"PK\x03\x04 broken"], ids=["empty", "text", "zip"])
def test_a_damaged_file_is_one_line(tmp_path, suffix, content):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        open_exported(path, "detection")
    assert "\n" not in str(caught.value)
    assert "bad" in str(caught.value)


def test_a_file_of_another_program(tmp_path):
    import onnx

    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [value], [
        onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    ])  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    path = tmp_path / "other.onnx"
    onnx.save(model, path)
    with pytest.raises(InputError, match="was not exported by this program"):
        open_exported(path, "detection")
    onnx.helper.set_model_props(model, {KEY: json.dumps({"format": 99, "task": "detection", "model": {}})})
    onnx.save(model, path)
    with pytest.raises(InputError, match="has format 99; this version reads up to 1"):
        open_exported(path, "detection")
    onnx.helper.set_model_props(model, {KEY: json.dumps({"format": 1, "task": "detection", "model": {}})})
    onnx.save(model, path)
    from detection import load

    with pytest.raises(InputError, match="does not describe a detector"):
        load(path)


@pytest.fixture
def program(exported) -> Path:
    """The file of a detector, quickly made."""
    return exported("detection", "torch", image_size=(160, 224))


def test_weights_in_another_file_are_not_read(tmp_path):
    import onnx

    secret = tmp_path / "secret"
    secret.write_bytes(b"\0" * 64)
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[16])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [16])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["w"], ["y"])], "g", [], [output], [tensor])
    (tmp_path / "spy.onnx").write_bytes(
        onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10
        ).SerializeToString()
    )
    with pytest.raises(InputError, match="ONNX Runtime refuses"):
        open_exported(tmp_path / "spy.onnx", "detection")


class Evil:
    """Pickled, it writes a file when it is read."""

    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.mark.parametrize("place", ["sample_inputs", "weights", "constants", "library"])
def test_a_pt2_file_runs_no_code(program, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(program) as archive, zipfile.ZipFile("evil.pt2", "w") as copy:
        for entry in archive.infolist():
            content = archive.read(entry)
            if place == "sample_inputs" and entry.filename.endswith("sample_inputs/model.pt"):
                saved = io.BytesIO()
                torch.save(Evil(), saved)
                content = saved.getvalue()
            elif entry.filename.endswith(f"model_{place}_config.json"):
                config = json.loads(content)
                next(iter(config["config"].values()))["use_pickle"] = True
                content = json.dumps(config).encode()
            elif place != "library" and entry.filename.endswith(("weights/weight_0", "constants/tensor_0")):
                saved = io.BytesIO()
                torch.save(Evil(), saved)
                content = saved.getvalue()
            copy.writestr(entry.filename, content)
        if place == "library":
            root = archive.namelist()[0].partition("/")[0]
            copy.writestr(f"{root}/data/aotinductor/model/x.so", b"\x7fELF")
    with pytest.raises(InputError, match=r"could run code|PyTorch refuses|is damaged"):
        open_exported("evil.pt2", "detection")
    assert not Path("ran").exists()


def test_what_a_file_cannot_do(program, ckpt, capsys, tmp_path, monkeypatch):
    from detection import load, load_network
    from detection.network.postprocess import Postprocess

    with pytest.raises(InputError, match="exported file, which cannot be trained"):
        load(program, fold=False)
    with pytest.raises(InputError, match="computes on the CPU; device is cuda"):
        load(program, device="cuda")
    with pytest.raises(InputError):
        load_network(program)
    with pytest.raises(InputError, match="holds a network of detection; segmentation is asked for"):
        open_exported(program, "segmentation")
    file = load(program)
    with pytest.raises(InputError, match=r"postprocess\.nms is soft, but .* was exported with hard"):
        file.predict(picture(90, 90), postprocess=Postprocess(nms="soft", iou_threshold=0.4))
    with pytest.raises(InputError, match=r"postprocess\.score_threshold is 0\.001, but"):
        file.predict(picture(90, 90), score_threshold=0.001)
    monkeypatch.chdir(tmp_path)
    assert effdense(["detection", "fit", "--ckpt_path", str(program)]) == 2
    assert "exported file, which cannot be trained" in line(capsys)
    assert main(["export", "--ckpt_path", str(program)]) == 2
    assert "Give the checkpoint that it was made of" in line(capsys)


def test_predict_writes_the_same_from_a_file(program, ckpt, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        Image.fromarray(picture(120, 200, number)).save(tmp_path / f"{number}.png")
    for source, output in ((ckpt("detection"), "of_checkpoint"), (program, "of_file")):
        words = ["detection", "predict", "--ckpt_path", str(source), "--source", "*.png", "--output", output]
        assert effdense([*words, "--pictures", "false", "--num_workers", "0"]) == 0
    ours, expected = (
        json.loads(Path(folder, "detections.json").read_text()) for folder in ("of_file", "of_checkpoint")
    )
    ours, expected = (each["annotations"] if isinstance(each, dict) else each for each in (ours, expected))
    assert len(ours) == len(expected) > 5
    np.testing.assert_allclose([one["score"] for one in ours], [one["score"] for one in expected], atol=1e-3)
    np.testing.assert_allclose([one["bbox"] for one in ours], [one["bbox"] for one in expected], atol=0.5)


@pytest.mark.slow
def test_logging_is_as_before_after_an_export(exported, capfd, caplog):
    root = logging.getLogger()
    before = root.level, list(root.handlers), logging.root.manager.disable, logging.getLogger("torch.onnx").level
    exported("segmentation", "onnx")
    assert before == (
        root.level, list(root.handlers), logging.root.manager.disable, logging.getLogger("torch.onnx").level
    )  # fmt: skip
    assert not capfd.readouterr().err
    caplog.clear()
    logging.getLogger("torch.onnx").warning("heard")
    assert caplog.messages == ["heard"]


def test_an_open_file_is_not_opened_again(exported, tmp_path):
    file, path = exported("segmentation", "onnx"), tmp_path / "s.onnx"  # quicker to open than a .pt2
    shutil.copy(file, path)
    first = open_exported(path, "segmentation")
    assert open_exported(path, "segmentation") is first
    path.unlink()
    shutil.copy(file, path)
    os.utime(path, (1, 1))
    assert open_exported(path, "segmentation") is not first
    kept = weakref.ref(first)
    del first
    gc.collect()
    assert kept() is None
