"""Classifiers, and detectors with torchvision's heads, in int8: the bound is on their own measure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deployment.__main__ import main
from deployment.export.options import Options
from deployment.precision.formats.onnx_int8 import operations, proposed
from deployment.precision.layers import groups_of, last_layers
from deployment.precision.quantise import Wanted, quantise
from engine.errors import InputError
from engine.exports.files import open_exported
from tests.deployment.kinds.networks import classifier, headed, loaded, saved
from tests.deployment.networks import OBJECTS, picture
from tests.detection.small import command

NAMES = ("a", "b", "c", "d")
PICTURES = 8
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
# Of networks that were never trained, whose answers lie near each other; what the bound does is tested in
# `test_guard.py`, and benchmarks/RESULTS.md has trained ones.
LOOSE = "0.9"


def labelled(folder: Path, truth: np.ndarray) -> list[str]:
    """A table with the labels of the pictures, and the options of `validate` that name it."""
    rows = [";".join(name for name, there in zip(NAMES, row, strict=True) if there) for row in truth]
    lines = ["file,labels", *(f"images/{number}.png,{labels}" for number, labels in enumerate(rows))]
    (folder / "labels.csv").write_text("\n".join(lines))
    return ["--data.format", "table", "--data.table.val", "labels.csv", "--data.num_workers", "0"]


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("file_format", ["onnx", "openvino"])
def test_a_classifier_is_bounded_by_top_1(file_format, several, tmp_path, monkeypatch, capsys):
    from classification import load

    monkeypatch.chdir(tmp_path)
    source = classifier(several=several)
    with torch.no_grad():  # ONNX Runtime's sigmoid gives one value for all logits below -18, which would be ties
        for each in source.network.head.classifier.parameters():
            each.mul_(0.1)
    path = saved(source, tmp_path / "c.ckpt")
    Path("images").mkdir()
    files = [Path(f"images/{number}.png") for number in range(PICTURES)]
    for number, file in enumerate(files):
        Image.fromarray(picture(70 + 9 * number, 120 - 5 * number, number)).save(file)

    def probabilities(file: Path) -> np.ndarray:
        return np.stack([each.probabilities for each in load(file).predict_many(files)])

    own = probabilities(path)
    if several:
        truth = np.random.default_rng(0).random(own.shape) < 0.5
        truth[0], truth[1] = True, False
    else:
        truth = np.eye(4, dtype=bool)[(own.argmax(1) + (np.arange(PICTURES) % 3 == 0)) % 4]

    def score(found: np.ndarray) -> float:
        """Top-1, or the mean average precision of the classes."""
        if not several:
            return float(truth[np.arange(PICTURES), found.argmax(1)].mean())
        precisions = []
        for column, wanted in zip(found.T, truth.T, strict=True):
            taken = [column >= least for least in np.unique(column)[::-1]]  # int8 gives several pictures one value
            recall = [0.0, *(wanted[part].sum() / wanted.sum() for part in taken)]
            precisions.append(float(np.diff(recall) @ [wanted[part].mean() for part in taken]))
        return float(np.mean(precisions))

    words = labelled(tmp_path, truth)
    if several:
        words += ["--data.table.separator", ";"]
    made = tmp_path / f"c{SUFFIXES[file_format]}"
    words += ["--format", file_format, "--output", str(made), "--calibration", "images", "--bound", LOOSE]
    assert main(["quantize", "--ckpt_path", "c.ckpt", *words]) == 0, capsys.readouterr().err
    report = json.loads(made.with_name(f"{made.name}.accuracy.json").read_text())
    name = "mAP" if several else "top-1"
    assert report["float32"] == {name: pytest.approx(score(own), abs=1e-5)}
    found = probabilities(made)
    assert report["scores"] == {name: pytest.approx(score(found), abs=1e-5)}
    assert open_exported(made).about.precision == "int8"
    assert np.abs(found - own).max() > 1e-6
    assert np.corrcoef(found.ravel(), own.ravel())[0, 1] > 0.7
    assert made.with_suffix({"onnx": ".onnx", "openvino": ".bin"}[file_format]).stat().st_size < 5.5e6  # of 13.6 MB


def boxes(folder: Path, path: Path) -> list[str]:
    """Annotations of what the detector finds, and the options of `validate` that name them."""
    from detection import load

    (folder / "images").mkdir()
    detector = load(path)
    images, annotations = [], []
    for number in range(4):
        file = folder / "images" / f"{number}.png"
        Image.fromarray(picture(160, 224, number)).save(file)
        images.append({"id": number + 1, "file_name": file.name, "height": 160, "width": 224})
        found = detector.predict(file, score_threshold=0.4)
        for (left, top, right, bottom), row in zip(found.boxes_xyxy.tolist(), found.class_ids, strict=True):
            if OBJECTS.names[row] and right - left > 1 and bottom - top > 1:
                annotations.append({
                    "id": len(annotations) + 1, "image_id": number + 1, "category_id": OBJECTS.category_ids[row],
                    "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top),
                    "segmentation": [[left, top, right, top, right, bottom]], "iscrowd": 0,
                })  # fmt: skip
    assert len(annotations) > 5
    categories = [{"id": i, "name": n} for i, n in zip(OBJECTS.category_ids, OBJECTS.names, strict=True) if n]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(truth))
    return ["--data.val_images", "images", "--data.val_annotations", "truth.json", "--data.num_workers", "0"]


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["onnx", "openvino"])
@pytest.mark.parametrize("head", ["retinanet", "fcos", "ssd", "faster_rcnn", "mask_rcnn"])
def test_a_head_is_bounded_by_ap(head, file_format, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = saved(loaded(headed(head)), tmp_path / "d.ckpt")
    words = boxes(tmp_path, path)
    made = tmp_path / f"d{SUFFIXES[file_format]}"
    words += [
        "--image_size",
        "[160,224]",
        "--format",
        file_format,
        "--output",
        str(made),
        "--calibration",
        "images",
        "--bound",
        LOOSE,
    ]
    assert main(["quantize", "--ckpt_path", "d.ckpt", *words]) == 0, capsys.readouterr().err
    report = json.loads(made.with_name(f"{made.name}.accuracy.json").read_text())
    assert report["float32"]["AP"] > 0.8
    assert report["groups"] > 20
    # What the report says of the file is what `validate` says of it.
    data = [*words[: words.index("--image_size")], "--ckpt_path", made.name, "--model.scores", "scores.json"]
    assert command(" ".join(["validate", *data, "--trainer.accelerator cpu", "--run.name v"])).code == 0
    assert report["scores"]["AP"] == pytest.approx(json.loads(Path("scores.json").read_text())["ap"], abs=1e-4)
    assert 0 < report["scores"]["AP"] < report["float32"]["AP"]
    if file_format == "onnx":
        import onnx

        nodes = onnx.load(made).graph.node
        makers = {name: node for node in nodes for name in node.output}
        layers = [node for node in nodes if node.op_type in ("Conv", "Gemm")]
        small = [node for node in layers if makers.get(node.input[1], node).op_type == "DequantizeLinear"]
        assert len(small) == len(layers)
        decoded = [node for node in nodes if node.op_type == "Exp"]  # of boxes
        assert bool(decoded) == (head != "fcos")  # which gives distances as they are
        assert not any(makers[node.input[0]].op_type == "DequantizeLinear" for node in decoded)


def test_where_boxes_are_cut_out_is_no_layer_s_business():
    """A convolution proposes, its boxes are cut out of maps, and a linear layer reads what was cut out."""
    import onnx
    from onnx import helper

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return onnx.numpy_helper.from_array(np.ones(shape, np.float32), name)

    nodes = [
        helper.make_node("Conv", ["images", "network.backbone.weight"], ["map"], "trunk"),
        helper.make_node("Conv", ["map", "network.rpn.weight"], ["proposal"], "rpn"),
        helper.make_node("Reshape", ["proposal", "four"], ["rows"], "rows"),
        helper.make_node("Mul", ["rows", "network.scale"], ["boxes"], "decoding"),
        helper.make_node("Greater", ["boxes", "network.scale"], ["large"], "comparing"),
        helper.make_node("ReduceMin", ["large"], ["any"], "deciding"),
        helper.make_node("RoiAlign", ["map", "boxes", "zeros"], ["fine"], "fine", output_height=2, output_width=2),
        helper.make_node("Relu", ["map"], ["other map"], "between"),
        helper.make_node("RoiAlign", ["other map", "boxes", "zeros"], ["coarse"], "coarse"),
        helper.make_node("Where", ["any", "fine", "coarse"], ["cut"], "choosing"),
        helper.make_node("Flatten", ["cut"], ["flat"], "flattening"),
        helper.make_node("Gemm", ["flat", "network.head.weight"], ["scores"], "head"),
    ]
    constants = [
        weight("network.backbone.weight", 4, 3, 1, 1), weight("network.rpn.weight", 4, 4, 1, 1),
        weight("network.head.weight", 16, 2), weight("network.scale", 1),
        onnx.numpy_helper.from_array(np.array([-1, 4]), "four"),
        onnx.numpy_helper.from_array(np.zeros(1, np.int64), "zeros"),
    ]  # fmt: skip
    images = helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, 3, 8, 8])
    scores = helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph(nodes, "r-cnn", [images], [scores], constants))
    assert proposed(model) == ["boxes", "any"]
    every = operations(model)
    assert last_layers(every) == ("rpn", "head")
    members = {group.name: group.operations for group in groups_of(every)}
    assert members["backbone"] == {"trunk", "between", "fine", "coarse", "choosing", "flattening"}
    assert members["rpn"] == {"rpn"}
    assert members["head"] == {"head"}


@pytest.mark.parametrize("kind", ["classifier", "fcos"])
@pytest.mark.parametrize("file_format", ["torch", "executorch"])
def test_a_format_without_int8_of_a_kind_is_refused(kind, file_format, tmp_path):
    source = classifier() if kind == "classifier" else loaded(headed(kind))
    path = tmp_path / {"torch": "x.pt2", "executorch": "x.pte"}[file_format]
    wanted = Wanted(data=("--data.root", "x"), pictures=(tmp_path / "a.png",))
    with pytest.raises(InputError, match=rf"is a .*{kind}, which is not written .*Give (--format )?onnx or openvino"):
        quantise(source, path, file_format, Options(), wanted)
    assert not list(tmp_path.iterdir())
