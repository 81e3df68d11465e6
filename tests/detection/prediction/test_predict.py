"""Prediction in Python: boxes in the pixels of the original, whatever its shape; loading; bad input."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detection.data.classes import BoxClasses
from detection.network.anchors import encode_boxes
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess
from detection.prediction.found import Found
from detection.prediction.predictor import DetectionPredictor, load
from detection.weights.load import PUBLISHED, Published, export_effdet
from engine.errors import InputError
from engine.prediction.canvas import CanvasPolicy
from engine.training.checkpoints import save_metadata

TINY: dict[str, Any] = {"image_size": 128, "fpn_channels": 16, "fpn_cells": 1, "head_repeats": 1}
CLASSES = BoxClasses(("car", "", "pole"), (7, 9, 3))


def predict(network: EfficientDet, image: Any, **settings: Any) -> Found:
    return DetectionPredictor(network).predict(image, **settings)


def predict_many(network: EfficientDet, images: Any, **settings: Any) -> list[Found]:
    return DetectionPredictor(network).predict_many(images, **settings)


def tiny() -> EfficientDet:
    torch.manual_seed(0)
    return EfficientDet("lite0", classes=CLASSES, **TINY).eval()


@pytest.fixture(scope="module")
def detector() -> EfficientDet:
    return tiny()


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 10000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def marked(height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """A black picture with one white box."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch) -> EfficientDet:
    """A detector that finds the white area on the canvas, which it gets as the network would."""
    model = tiny()

    def planted(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        height, width = images.shape[-2:]
        assert height % 128 == width % 128 == 0
        anchors = model.anchors((height, width), images.device)
        logits = torch.full((len(images), len(anchors), 3), -20.0)
        deltas = torch.zeros(len(images), len(anchors), 4)
        for row, image in enumerate(images):
            light = image.float().mean(0) / 255
            fill = (image == 128).all(0)  # beside and below the picture
            light[:, fill.all(0)] = 0
            light[fill.all(1)] = 0
            # Edges to a fraction of a pixel: how much of the row or column is covered.
            across, down = light.amax(0), light.amax(1)
            x, y = across.argmax(), down.argmax()
            left, right = x - across[:x].sum(), x + across[x:].sum()
            top, bottom = y - down[:y].sum(), y + down[y:].sum()
            logits[row, 0, 2] = 4.0
            deltas[row, 0] = encode_boxes(torch.stack([left, top, right, bottom]), anchors[0])
        return logits, deltas, anchors

    monkeypatch.setattr(model, "predictions", planted)
    return model


@pytest.mark.parametrize(
    ("size_hw", "box"),
    [
        ((100, 100), (20, 30, 70, 90)),
        ((60, 240), (150, 10, 230, 50)),  # wide
        ((300, 75), (15, 200, 60, 290)),  # tall
        ((12, 9), (2, 3, 7, 10)),  # tiny: enlarged
        ((3000, 4000), (1000, 500, 3900, 2900)),  # huge
        ((128, 128), (0, 0, 128, 128)),  # no scaling, and the whole
        ((97, 131), (30, 20, 131, 97)),  # up to the edge
        ((1, 200), (50, 0, 150, 1)),  # flat
    ],
)
@pytest.mark.parametrize("canvas", ["full", "tight"])
def test_boxes_come_back_where_they_are_in_the_original(
    seeing: EfficientDet, size_hw: tuple[int, int], box: tuple[int, int, int, int], canvas: CanvasPolicy
) -> None:
    found = predict(seeing, marked(*size_hw, box), canvas=canvas)
    assert len(found) == 1
    assert found.labels == ["pole"]
    assert (found.class_ids.tolist(), found.category_ids.tolist()) == ([2], [3])
    assert found.scores[0] == pytest.approx(1 / (1 + np.exp(-4.0)))
    assert found.size_hw == size_hw
    # The shorter side is cut to whole pixels of the canvas (see `Letterbox.fit`), which moves edges by less than one.
    pixel = max(size_hw) / 128
    np.testing.assert_allclose(found.boxes_xyxy[0], box, atol=pixel)
    assert bool((found.boxes_xyxy >= 0).all())
    assert bool((found.boxes_xyxy <= [size_hw[1], size_hw[0]] * 2).all())


def test_larger_canvas_is_as_much_more_exact(seeing: EfficientDet) -> None:
    box = (101, 53, 307, 221)
    found = predict(seeing, marked(300, 400, box), image_size=(512, 512))
    np.testing.assert_allclose(found.boxes_xyxy[0], box, atol=0.6)
    found = predict(seeing, marked(300, 400, box), image_size=384)
    np.testing.assert_allclose(found.boxes_xyxy[0], box, atol=0.8)


def test_settings(seeing: EfficientDet) -> None:
    image = marked(100, 100, (20, 30, 70, 90))
    assert len(predict(seeing, image, score_threshold=0.98)) == 1
    empty = predict(seeing, image, score_threshold=0.99)
    assert (len(empty), empty.boxes_xyxy.shape, empty.labels) == (0, (0, 4), [])
    soft = Postprocess(nms="soft", score_threshold=0.999)
    assert len(predict(seeing, image, postprocess=soft)) == 1  # the threshold of `predict` counts


def same(a: Found, b: Found) -> None:
    assert a.labels == b.labels
    assert a.size_hw == b.size_hw
    np.testing.assert_array_equal(a.class_ids, b.class_ids)
    np.testing.assert_array_equal(a.category_ids, b.category_ids)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)
    np.testing.assert_allclose(a.boxes_xyxy, b.boxes_xyxy, atol=1e-4 * max(a.size_hw))


@pytest.mark.by_default("8")
@pytest.mark.parametrize("canvas", ["full", "tight"])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_many_are_one_by_one(detector: EfficientDet, batch_size: int, canvas: CanvasPolicy) -> None:
    sizes = [(100, 100), (60, 240), (100, 100), (300, 75), (128, 128), (90, 100), (60, 240)]
    images = [picture(*size) for size in sizes]
    settings: dict[str, Any] = {"score_threshold": 0.005, "image_size": 256, "canvas": canvas}
    found = predict_many(detector, images, batch_size=batch_size, **settings)
    assert [one.size_hw for one in found] == sizes
    for one, image in zip(found, images, strict=True):
        assert len(one) > 20
        same(one, predict(detector, image, **settings))


def test_arrays_are_files(detector: EfficientDet, tmp_path: Path) -> None:
    image = picture(70, 90)
    path = tmp_path / "street.png"
    Image.fromarray(image).save(path)
    reversed_view = np.ascontiguousarray(image[..., ::-1])[..., ::-1]  # as from a BGR reader
    read_only = image.copy()
    read_only.flags.writeable = False
    expected = predict(detector, image, score_threshold=0.005)
    assert len(expected) > 20
    for source in (path, str(path), reversed_view, read_only):
        same(predict(detector, source, score_threshold=0.005), expected)


def test_array_of_the_canvas_itself(detector: EfficientDet, recwarn: pytest.WarningsRecorder) -> None:
    """An array that is neither resized nor padded goes to torch as it is."""
    image = picture(128, 128)
    expected = predict(detector, image, score_threshold=0.005)
    read_only = image.copy()
    read_only.flags.writeable = False
    for view in (np.ascontiguousarray(image[..., ::-1])[..., ::-1], read_only):
        same(predict(detector, view, score_threshold=0.005), expected)
    assert not recwarn.list


def test_row_without_a_name_shows_its_category(detector: EfficientDet) -> None:
    found = predict(detector, picture(100, 100), score_threshold=0.005)
    for row, label, category_id in zip(found.class_ids, found.labels, found.category_ids, strict=True):
        assert (label, category_id) == [("car", 7), ("id 9", 9), ("pole", 3)][row]
    assert set(found.class_ids.tolist()) == {0, 1, 2}


def test_prediction_leaves_no_graph_and_eval_mode(detector: EfficientDet) -> None:
    model = tiny().train()
    statistics = model.backbone.bn1.running_mean.clone()
    found = predict(model, picture(100, 100), score_threshold=0.005)
    same(found, predict(detector, picture(100, 100), score_threshold=0.005))
    assert not model.training
    assert torch.equal(model.backbone.bn1.running_mean, statistics)
    assert predict_many(model, []) == []


def test_draw(detector: EfficientDet, tmp_path: Path) -> None:
    image = np.full((80, 200, 3), 90, dtype=np.uint8)
    boxes = np.array([[150, 40, 190, 75], [0, 0, 20, 15], [30.5, 20.2, 90.7, 60]], dtype=np.float32)
    ids = np.array([0, 1, 2])
    found = Found(boxes, np.array([0.9, 0.8, 0.7], dtype=np.float32), ["car", "id 9", "pole"], ids, ids, (80, 200))
    before = image.copy()
    drawn = found.draw(image)
    assert drawn.size == (200, 80)
    assert drawn.mode == "RGB"
    assert np.array_equal(image, before)
    changed = (np.asarray(drawn) != image).any(-1)
    assert changed[75, 150:190].all()  # a box's edge
    assert not changed[65:, 100:145].any()  # away from boxes and captions
    path = tmp_path / "one.png"
    Image.fromarray(image).save(path)
    assert np.array_equal(np.asarray(found.draw(path)), np.asarray(drawn))
    nothing = predict(detector, image, score_threshold=0.9)
    assert len(nothing) == 0
    assert np.array_equal(np.asarray(nothing.draw(image)), image)


def message_of(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("image", "given"),
    [
        (np.zeros((40, 50, 2), np.uint8), "uint8 with shape (40, 50, 2)"),
        (np.zeros((3, 40, 50), np.uint8), "uint8 with shape (3, 40, 50)"),
        (np.zeros((40, 50, 3), np.float32), "float32 with shape (40, 50, 3)"),
        (np.zeros((0, 50, 3), np.uint8), "uint8 with shape (0, 50, 3)"),
        (torch.zeros(40, 50, 3, dtype=torch.uint8), "Tensor"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_image(detector: EfficientDet, image: Any, given: str) -> None:
    message = message_of(predict, detector, image)
    assert given in message
    assert "an array of uint8: (H, W, 3) of RGB" in message


def test_files_that_are_no_image(detector: EfficientDet, tmp_path: Path) -> None:
    missing = tmp_path / "missing.jpg"
    assert f"'{missing}' does not exist" in message_of(predict, detector, missing)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    assert f"cannot read image '{broken}'" in message_of(predict, detector, str(broken))


@pytest.mark.parametrize("images", ["street.jpg", Path("street.jpg"), np.zeros((40, 50, 3), np.uint8)])
def test_one_image_where_a_list_is_asked(detector: EfficientDet, images: Any) -> None:
    assert "takes a list" in message_of(predict_many, detector, images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"image_size": 0}, "image_size is 0; give at least 32 pixels"),
        ({"image_size": (512, -1)}, r"image_size is \(512, -1\)"),
        ({"canvas": "tigth"}, "canvas 'tigth' is unknown; allowed: full, tight. Did you mean 'tight'?"),
        ({"score_threshold": 30}, "score_threshold is 30; allowed: a number, at least 0 and below 1"),
    ],
)
def test_settings_out_of_range(detector: EfficientDet, settings: dict[str, Any], message: str) -> None:
    assert re.search(message, message_of(predict, detector, picture(40, 40), **settings))


def test_load_of_a_checkpoint(detector: EfficientDet, tmp_path: Path) -> None:
    """Names, architecture and weights come from the file."""
    path = tmp_path / "best.ckpt"
    content: dict[str, Any] = {"state_dict": {f"detector.{k}": v for k, v in detector.state_dict().items()}}
    save_metadata(content, "detection", detector.settings())
    torch.save(content, path)
    again = load(path)
    assert not again.network.training
    assert again.network.config == detector.config
    assert again.classes == CLASSES
    image = picture(70, 90)
    same(again.predict(image, score_threshold=0.005), predict(detector, image, score_threshold=0.005))


def test_load_of_effdets_layout(detector: EfficientDet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        PUBLISHED, "tf_efficientdet_tiny", Published("tf_efficientdet_tiny-00000000.pth", "lite0", TINY)
    )
    image = picture(70, 90)
    expected = predict(detector, image, score_threshold=0.005)
    for name in ("tf_efficientdet_tiny.pth", "tf_efficientdet_tiny-0123abcd.pth"):
        torch.save(export_effdet(detector, redundant_bias=True), tmp_path / name)
        again = load(tmp_path / name)
        assert again.classes == BoxClasses.numbered(3)
        found = again.predict(image, score_threshold=0.005)
        np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-3)
        np.testing.assert_array_equal(found.class_ids, expected.class_ids)


def test_load_errors(detector: EfficientDet, tmp_path: Path) -> None:
    assert "Did you mean 'tf_efficientdet_d0'?" in message_of(load, "tf_eficientdet_d0")
    assert "Did you mean 'tf_efficientdet_d0'?" in message_of(load, "tf_efficientdet_d00")
    missing = tmp_path / "last.ckpt"
    assert f"there is no checkpoint '{missing}'" in message_of(load, missing)
    bare = tmp_path / "bare.pth"
    torch.save(detector.state_dict(), bare)
    assert "a bare state dict" in message_of(load, bare)
    other = tmp_path / "other.ckpt"
    content: dict[str, Any] = {"state_dict": detector.state_dict()}
    save_metadata(content, "segmentation", {})
    torch.save(content, other)
    assert "is a segmentation checkpoint; detection is asked for" in message_of(load, other)
