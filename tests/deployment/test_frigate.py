"""Frigate's detectors `onnx` and `openvino` read what `--layout frigate` writes, and our predictor does too.

`read` does again, from their description, what frigate/detectors/plugins/{onnx,openvino}.py of Frigate 0.16 do for
`model_type: yolonas`: what they refuse, and how they take boxes out of the one output.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deployment.__main__ import main
from deployment.export.options import Options
from deployment.export.write import export
from deployment.networks import load_any
from detection import load
from engine.errors import InputError
from tests.deployment.networks import picture
from tests.deployment.test_formats import same_boxes

SIDE = 128
LAYOUT = {"layout": "frigate", "image_size": SIDE}


def outputs_of(path, pixels):
    """The shapes of all inputs and outputs, and the first output, as each of the two detectors gets them."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        ends = [[entry.shape for entry in each] for each in (session.get_inputs(), session.get_outputs())]
        return *ends, session.run(None, {session.get_inputs()[0].name: pixels})[0]
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    request.infer(openvino.Tensor(pixels))
    inputs = [list(entry.get_shape()) for entry in compiled.inputs]
    outputs = [list(entry.get_shape()) for entry in compiled.outputs]
    return inputs, outputs, request.get_output_tensor(0).data


def read(path, image, side):
    """Frigate's table (20, 6): class, score, top, left, bottom, right in fractions; rows that are not used are 0."""
    pixels = np.ascontiguousarray(image.transpose(2, 0, 1)[None])  # `input_tensor: nchw`, `input_dtype: int`
    inputs, outputs, rows = outputs_of(path, pixels)
    assert inputs == [[1, 3, side, side]]
    assert len(outputs) == 1
    assert outputs[0][-1] == 7
    table = np.zeros((20, 6), np.float32)
    for place, (_, left, top, right, bottom, score, class_id) in enumerate(rows[:20]):
        if class_id < 0:
            break
        table[place] = class_id, score, top / side, left / side, bottom / side, right / side
    return table


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["onnx", "openvino"])
def test_frigate_finds_what_the_network_finds(ckpt, exported, file_format):
    path, image = exported("detection", file_format, **LAYOUT), picture(SIDE, SIDE, 3)
    expected = load(ckpt("detection")).predict(image, image_size=SIDE, score_threshold=0.01)
    table = read(path, image, SIDE)
    count = min(20, len(expected))
    assert count > 5
    np.testing.assert_allclose(table[:count, 1], expected.scores[:count], atol=1e-3)
    np.testing.assert_array_equal(table[:count, 0], expected.class_ids[:count])
    np.testing.assert_allclose(SIDE * table[:count, [3, 2, 5, 4]], expected.boxes_xyxy[:count], atol=0.5)
    # What it is warmed up with: nothing there, and a table of the same shape.
    assert read(path, np.zeros_like(image), SIDE).shape == (20, 6)


@pytest.mark.slow
def test_our_predictor_reads_it_too(ckpt, exported):
    """Of pictures that fill the canvas: boxes are cut at its edges before the suppression, not at the picture's."""
    network, file = load(ckpt("detection")), load(exported("detection", "onnx", **LAYOUT, max_detections=100))
    settings = {"image_size": SIDE, "score_threshold": 0.05}
    pictures = [picture(side, side, side) for side in (SIDE, 200, 61)]
    pairs = zip(file.predict_many(pictures, **settings), network.predict_many(pictures, **settings), strict=True)
    for ours, expected in pairs:
        same_boxes(ours, expected)


@pytest.mark.slow
def test_the_command_says_how_frigate_is_set_up(ckpt, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--ckpt_path", str(ckpt("detection")), "--layout", "frigate", "--image_size", str(SIDE)]
    assert main(["export", *words, "--output", "cars.onnx"]) == 0
    said = capsys.readouterr().out
    assert f"model_type: yolonas\n  width: {SIDE}\n  height: {SIDE}\n" in said
    assert "labelmap_path: /config/cars.labels.txt\n" in said
    assert (tmp_path / "cars.labels.txt").read_text() == "car\n???\nperson\n"


@pytest.mark.parametrize(
    ("task", "file_format", "options", "named"),
    [
        ("segmentation", "onnx", {}, "a network of segmentation"),
        ("detection", "torch", {}, "--format torch"),
        ("detection", "onnx", {"nms": "outside"}, "--nms outside"),
        ("detection", "onnx", {"batch_size": 2}, "--batch_size 2"),
    ],
)
def test_what_frigate_does_not_take(ckpt, tmp_path, task, file_format, options, named):
    suffix = {"onnx": ".onnx", "torch": ".pt2"}[file_format]
    with pytest.raises(InputError, match=f"this is {named}. Leave one of them out"):
        export(load_any(ckpt(task)), tmp_path / f"f{suffix}", file_format, Options(layout="frigate", **options))


def test_rows_become_boxes():
    from engine.exports.files import boxes_of_rows

    rows = torch.tensor([[0, 1, 2, 30, 40, 0.9, 2], [0, 0, 0, 0, 0, 0, -1.0]])
    found = boxes_of_rows(rows, torch.tensor([[20, 25]]))
    assert found["boxes_xyxy"].tolist() == [[[1, 2, 25, 20], [0, 0, 0, 0]]]
    assert found["class_ids"].tolist() == [[2, -1]]
