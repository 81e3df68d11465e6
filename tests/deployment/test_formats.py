"""A file gives what its checkpoint gives, through the same predictor: at several sizes and numbers of images."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest

from deployment.export.write import export
from deployment.networks import Loaded
from engine.errors import InputError
from segmentation.inference.predictor import SegmentationPredictor
from tests.deployment.networks import picture, segmenter

# Of pictures: one that fills no canvas, one larger than it, one of the canvas's own shape, one that is small and odd.
PICTURES = [picture(140, 300, 1), picture(400, 350, 2), picture(160, 224, 3), picture(61, 83, 4)]
FORMATS = ("onnx", "openvino", "torch")


def load(task: str, path: object) -> object:
    return importlib.import_module(task).load(path)


def same_boxes(ours, expected):
    """Boxes within half a pixel and scores within a thousandth, in any order of equal scores."""
    assert len(expected.scores) > 5
    assert len(ours.scores) == len(expected.scores)
    np.testing.assert_allclose(ours.scores, expected.scores, atol=1e-3)
    np.testing.assert_allclose(ours.boxes_xyxy, expected.boxes_xyxy, atol=0.5)
    assert ours.labels == expected.labels


LOGITS = pytest.param(False, id="logits", marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["onnx", "openvino"])
@pytest.mark.parametrize("nms", ["inside", "outside"])
def test_a_detector_of_any_size(ckpt, exported, file_format, nms):
    network, file = load("detection", ckpt("detection")), load("detection", exported("detection", file_format, nms=nms))
    for settings in ({}, {"image_size": (192, 131)}, {"canvas": "tight", "image_size": 384}):
        for count in (1, 3):
            found = file.predict_many(PICTURES[:count], score_threshold=0.05, **settings)
            expected = network.predict_many(PICTURES[:count], score_threshold=0.05, **settings)
            for one in zip(found, expected, strict=True):
                same_boxes(*one)


@pytest.mark.slow
@pytest.mark.parametrize("file_format", FORMATS)
def test_a_detector_of_one_size(ckpt, exported, file_format):
    path = exported("detection", file_format, image_size=(160, 224), batch_size=2)
    network, file = load("detection", ckpt("detection")), load("detection", path)
    found = file.predict_many(PICTURES[:2], score_threshold=0.05)
    for one in zip(found, network.predict_many(PICTURES[:2], score_threshold=0.05), strict=True):
        same_boxes(*one)
    # Of three, the last is computed with a repetition of itself.
    same_boxes(
        file.predict_many(PICTURES[:3], score_threshold=0.05)[2], network.predict(PICTURES[2], score_threshold=0.05)
    )
    with pytest.raises(InputError, match=r"of 160 x 224 pixels \(height x width\), not 128 x 128"):
        file.predict_many(PICTURES[:2], image_size=128)


@pytest.mark.by_default("classes-onnx")
@pytest.mark.parametrize("file_format", ["onnx", "openvino"])
@pytest.mark.parametrize("argmax", [pytest.param(True, id="classes"), LOGITS])
def test_a_segmenter_of_any_size(ckpt, exported, file_format, argmax):
    network = load("segmentation", ckpt("segmentation"))
    file = load("segmentation", exported("segmentation", file_format, argmax=argmax))
    for height, width in [(160, 224), (191, 67), (98, 131)]:
        pictures = [picture(height, width, seed) for seed in range(2)]
        for count in (1, 2):
            pairs = zip(file.predict_many(pictures[:count]), network.predict_many(pictures[:count]), strict=True)
            for ours, expected in pairs:
                assert len(np.unique(expected.class_ids)) == 3
                assert (ours.class_ids == expected.class_ids).mean() > 0.999


@pytest.mark.slow
def test_another_decoder_at_sizes_between_its_multiples(tmp_path):
    """Such a picture lies on a border of the mean colour."""
    unet = segmenter(decoder="unet")
    loaded = Loaded(unet, "segmentation", unet.settings(), "unet", "", "")
    network = SegmentationPredictor(unet)
    file = load("segmentation", export(loaded, tmp_path / "unet.onnx", "onnx").path)
    laid = np.empty((416, 352, 3), np.uint8)
    laid[:] = network.fill_color
    laid[:400, :350] = PICTURES[1]
    ours, expected = file.predict(PICTURES[1]), network.predict(laid)
    assert ours.size_hw == (400, 350)
    assert (ours.class_ids == expected.class_ids[:400, :350]).mean() > 0.999


@pytest.mark.slow
@pytest.mark.parametrize("file_format", FORMATS)
def test_a_joint_network(ckpt, exported, file_format):
    size = {"image_size": (128, 256)} if file_format == "torch" else {}
    network, file = load("joint", ckpt("joint")), load("joint", exported("joint", file_format, argmax=False, **size))
    for settings in ({},) if size else ({}, {"image_size": (160, 224)}):
        for count in (1, 2):
            ours = file.predict_many(PICTURES[:count], score_threshold=0.05, **settings)
            expected = network.predict_many(PICTURES[:count], score_threshold=0.05, **settings)
            for found, wanted in zip(ours, expected, strict=True):
                same_boxes(found.found, wanted.found)
                assert (found.segmented.class_ids == wanted.segmented.class_ids).mean() > 0.999


@pytest.mark.slow
def test_a_joint_file_of_classes_enlarges_them(ckpt, exported):
    network, file = load("joint", ckpt("joint")), load("joint", exported("joint", "onnx"))
    ours, expected = file.predict(PICTURES[0]), network.predict(PICTURES[0])
    assert ours.segmented.class_ids.shape == expected.segmented.class_ids.shape
    assert (ours.segmented.class_ids == expected.segmented.class_ids).mean() > 0.9


SLOW = [pytest.param(task, marks=pytest.mark.slow) for task in ("detection", "joint")]


@pytest.mark.parametrize("task", ["segmentation", *SLOW])
def test_a_file_says_what_it_is(ckpt, exported, task):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported(task, "onnx"))
    said = session.get_modelmeta().custom_metadata_map
    about = json.loads(said["effdense"])
    assert about["task"] == said["task"] == task
    assert len(about["sha256"]) == 64
    assert about["checkpoint"] == ckpt(task).name
    assert {"effdense", "torch"} <= about["versions"].keys()
    if task != "segmentation":
        assert json.loads(said["names"]) == ["car", "", "person"]
        assert json.loads(said["category_ids"]) == [7, 8, 30]
        assert about["postprocess"]["iou_threshold"] == 0.4
    if task != "detection":
        assert json.loads(said["pixel_names"]) == ["road", "car", "tree"]
    shape = session.get_inputs()[0].shape
    assert shape == ["batch", 3, "height", "width"]
    assert session.get_inputs()[0].type == "tensor(uint8)"
