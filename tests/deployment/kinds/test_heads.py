"""Detectors with torchvision's heads as graphs and files: what they give is what torchvision's own loops give."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deployment.export.formats.openvino_file import write_openvino
from deployment.export.kinds.contract import Form
from deployment.export.kinds.headed import HeadedGraph
from deployment.export.options import Options
from deployment.export.write import export
from detection import load
from detection.network.build import build_detector
from engine.errors import InputError
from engine.exports.files import open_exported
from tests.deployment.kinds.networks import SUPPRESSION, headed, loaded, predictor
from tests.deployment.networks import picture

HEADS = ("retinanet", "fcos", "ssd", "faster_rcnn", "mask_rcnn")
# One of each kind by default.
SLOW = [pytest.param(head, marks=pytest.mark.slow) for head in ("retinanet", "ssd", "faster_rcnn")]
# Of pictures: one that fills no canvas, one larger than it, one of the canvas's own shape, one that is small and odd.
PICTURES = [picture(140, 300, 1), picture(400, 350, 2), picture(160, 224, 3), picture(61, 83, 4)]


def same(ours, expected):
    """Each box has one within half a pixel, with a score within a thousandth and a mask of the same pixels.

    Boxes whose scores differ by less than rounding may change places.
    """
    assert len(expected) > 5
    assert len(ours) == len(expected)
    np.testing.assert_allclose(ours.scores, expected.scores, atol=1e-3)
    apart = np.abs(ours.boxes_xyxy[None] - expected.boxes_xyxy[:, None]).max(-1)
    apart[np.abs(ours.scores[None] - expected.scores[:, None]) > 1e-3] = np.inf
    apart[np.array(ours.labels)[None] != np.array(expected.labels)[:, None]] = np.inf
    places = []
    for row in range(len(expected)):
        apart[row, places] = np.inf
        places.append(int(apart[row].argmin()))
        assert apart[row, places[-1]] < 0.5
    assert (ours.masks is None) is (expected.masks is None)
    if expected.masks is not None:
        found, pixels = ours.mask_pixels()[places].astype(bool), expected.mask_pixels().astype(bool)
        widths, heights = (expected.boxes_xyxy[:, 2:] - expected.boxes_xyxy[:, :2]).T
        assert 0.05 < pixels.sum() / (widths * heights).sum() < 0.95  # neither empty nor whole boxes
        assert (found & pixels).sum() / (found | pixels).sum() > 0.99


@pytest.mark.parametrize("head", ["fcos", "mask_rcnn", *SLOW])
def test_the_graph_finds_what_the_loops_find(head):
    """Of two pictures of other sizes on canvases, one of which is no multiple of 32."""
    network = headed(head)
    for canvas_hw in ((160, 224), (150, 200)):
        images = torch.stack([torch.from_numpy(picture(*canvas_hw, seed)).permute(2, 0, 1) for seed in range(2)])
        sizes_hw = torch.tensor([[150.0, 200.0], [90.0, 200.0]])
        with torch.no_grad():
            graph = HeadedGraph(network, Form(SUPPRESSION, True, canvas_hw))
            found = dict(zip(graph.outputs, graph(images, sizes_hw), strict=True))
            maps, outputs = network._parts(network.predictions(images))
            placed = network._placed(images, [(150.0, 200.0), (90.0, 200.0)])
            expected = network.head.detections(maps, outputs, placed, SUPPRESSION)
        for row, one in enumerate(expected):
            count = len(one.scores)
            assert count > 20
            assert int((found["class_ids"][row] >= 0).sum()) == count
            torch.testing.assert_close(found["scores"][row, :count], one.scores, atol=1e-4, rtol=0)
            torch.testing.assert_close(found["boxes_xyxy"][row, :count], one.boxes_xyxy, atol=1e-2, rtol=0)
            assert found["class_ids"][row, :count].tolist() == one.class_ids.tolist()
            if head == "mask_rcnn":
                torch.testing.assert_close(found["masks"][row, :count], one.masks, atol=1e-3, rtol=0)


def test_frigate_s_table_has_the_same_boxes():
    """Of an image that fills its canvas, which is more than 255 pixels wide."""
    network = headed("fcos")
    images = torch.from_numpy(picture(160, 288)).permute(2, 0, 1)[None]
    with torch.no_grad():
        form = Form(SUPPRESSION, True, (160, 288))
        boxes, scores, class_ids = HeadedGraph(network, form)(images, torch.tensor([[160.0, 288.0]]))
        (rows,) = HeadedGraph(network, form._replace(layout="frigate"))(images)
    assert (boxes[..., 2] > 255).any()
    torch.testing.assert_close(rows[:, 1:5], boxes[0])
    torch.testing.assert_close(rows[:, 5], scores[0])
    assert rows[:, 6].tolist() == class_ids[0].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_files_of_any_size(head, tmp_path):
    network = headed(head)
    written = export(loaded(network), tmp_path / "one.onnx", "onnx")
    assert written.about.multiple == 32
    files = [written.path, write_openvino(written.path, tmp_path / "one.xml", open_exported(written.path).about)]
    own = predictor(network)
    for path in files:
        file = load(path)
        for size in ((160, 224), (192, 128)):
            for count in (1, 3):
                found = file.predict_many(PICTURES[:count], score_threshold=0.05, image_size=size)
                expected = own.predict_many(PICTURES[:count], score_threshold=0.05, image_size=size)
                for one in zip(found, expected, strict=True):
                    same(*one)


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_a_torch_file_of_one_size(head, tmp_path):
    network = headed(head)
    file = load(export(loaded(network), tmp_path / "one.pt2", "torch", Options(batch_size=2)).path)
    expected = predictor(network).predict_many(PICTURES, score_threshold=0.05)
    for one in zip(file.predict_many(PICTURES, score_threshold=0.05), expected, strict=True):
        same(*one)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["fcos", "mask_rcnn"])
def test_a_file_that_takes_pictures(head, tmp_path):
    network = headed(head)
    file = load(export(loaded(network), tmp_path / "one.onnx", "onnx", Options(letterbox="inside")).path)
    own = predictor(network)
    for each in PICTURES:
        found, expected = file.predict(each, score_threshold=0.05), own.predict(each, score_threshold=0.05)
        # The file's resampling rounds some pixels otherwise, so that boxes near the threshold come or go.
        assert abs(len(found) - len(expected)) <= 2
        sure = expected.scores > 0.5
        assert sure.sum() > 5
        np.testing.assert_allclose(found.scores[: sure.sum()], expected.scores[sure], atol=0.05)


@pytest.mark.parametrize(
    ("file_format", "options", "said"),
    [
        ("litert", {}, "a detector with head ssd, which is not written with --format litert. Give onnx or openvino or"),
        ("executorch", {}, "not written with --format executorch"),
        ("onnx", {"nms": "outside"}, "with --nms outside, as its suppression is torchvision's own. Leave it out."),
    ],
)
def test_what_is_not_written(file_format, options, said, tmp_path, monkeypatch):
    monkeypatch.setattr("deployment.export.write.needed", lambda *_, extra: None)
    suffix = {"litert": "tflite", "executorch": "pte", "onnx": "onnx"}[file_format]
    network = build_detector("lite0", head="ssd", num_classes=2)
    with pytest.raises(InputError, match=said):
        export(loaded(network), tmp_path / f"one.{suffix}", file_format, Options(**options))
    assert not list(tmp_path.iterdir())
