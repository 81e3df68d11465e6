"""Converted networks give what the checkpoints give. The converter has an environment of its own (6 GB, made once)."""

from __future__ import annotations

import importlib
import zipfile

import cv2
import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from deployment.litert.edge_tpu import check
from detection.network.postprocess import Postprocess
from detection.prediction.predictor import DetectionPredictor
from engine.exports.files import computed, open_exported
from tests.deployment.networks import network_of, picture

pytestmark = pytest.mark.slow
HEIGHT, WIDTH = 160, 224
ROOM = 400  # boxes of a picture, more than any has
# Pictures that fill the canvas; and pictures of other shapes, at whose edges a file with suppression does not cut.
FILLING = [picture(320, 448, 1), picture(160, 224, 3), picture(80, 112, 4)]
PICTURES = [picture(140, 300, 1), picture(400, 350, 2), picture(160, 224, 3), picture(61, 83, 4)]
CANVASES = torch.stack([torch.from_numpy(picture(HEIGHT, WIDTH, seed)).permute(2, 0, 1) for seed in range(20, 24)])
SIZES = torch.tensor([[HEIGHT, WIDTH]] * len(CANVASES))


@pytest.fixture(scope="session")
def calibration(tmp_path_factory):
    """Twelve pictures of the kind that the files then see."""
    folder = tmp_path_factory.mktemp("calibration")
    paths = tuple(folder / f"{seed}.png" for seed in range(12))
    for seed, path in enumerate(paths):
        cv2.imwrite(str(path), picture(HEIGHT, WIDTH, seed)[..., ::-1])
    return paths


def load(task: str, path: object) -> object:
    return importlib.import_module(task).load(path)


def same_boxes(ours, expected):
    assert len(ours.scores) == len(expected.scores) > 5
    np.testing.assert_allclose(ours.scores, expected.scores, atol=1e-3)
    np.testing.assert_allclose(ours.boxes_xyxy, expected.boxes_xyxy, atol=0.5)
    assert ours.labels == expected.labels


@pytest.mark.parametrize("nms", ["inside", "outside"])
def test_a_detector_in_float32(ckpt, exported, nms):
    path = exported("detection", "litert", nms=nms)
    pictures = FILLING if nms == "inside" else PICTURES
    found = load("detection", path).predict_many(pictures, score_threshold=0.05)
    network = load("detection", ckpt("detection"))
    for one in zip(found, network.predict_many(pictures, score_threshold=0.05), strict=True):
        same_boxes(*one)
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labelmap.txt").decode().splitlines() == ["car", "???", "person"]
    assert path.with_suffix(".labels.txt").read_text().splitlines() == ["car", "???", "person"]
    about = open_exported(path, "detection").about
    assert (about.batch, about.image_hw, about.names) == (1, (HEIGHT, WIDTH), ("car", "", "person"))


@torch.no_grad()
@pytest.mark.parametrize(("precision", "worst"), [("float16", 0.01), ("int8", 0.06)])
def test_a_detector_with_fewer_bits(exported, calibration, precision, worst):
    """Scores and deltas of all anchors, as the file gives them without suppression."""
    given = {"calibration": calibration} if precision == "int8" else {}
    path = exported("detection", "litert", nms="outside", precision=precision, **given)
    found = computed(open_exported(path, "detection"), CANVASES, SIZES)
    logits, deltas, _ = network_of("detection").predictions(CANVASES)
    differences = (found["class_logits"].sigmoid() - logits.sigmoid()).abs()
    assert 1e-6 < differences.mean() < worst
    shared = np.corrcoef(found["box_deltas"].flatten(), deltas.flatten())[0, 1]
    assert shared > 0.97
    plain = exported("detection", "litert", nms="outside")
    assert path.stat().st_size < {"float16": 0.7, "int8": 0.6}[precision] * plain.stat().st_size


def test_int8_is_what_the_edge_tpu_asks_for(exported, calibration):
    path = exported("detection", "litert", precision="int8", calibration=calibration)
    report = check(path)
    assert report.refused == ()
    assert report.accelerated > 100
    assert report.after[-1] == "TFLite_Detection_PostProcess"


def test_int8_finds_the_boxes(exported, calibration):
    """Of the clear ones most; boxes stay on the canvas.

    There are 157 to 175 of them in each picture. Both sides have room for all: of 100, which the checkpoint gives, the
    last ones have scores so near to those left out that rounding to int8 chooses among them (66 % were the same).
    """
    path = exported("detection", "litert", precision="int8", calibration=calibration, max_detections=ROOM)
    file = load("detection", path)
    clear = Postprocess(score_threshold=0.6, iou_threshold=0.4, max_detections=ROOM)
    network = DetectionPredictor(network_of("detection"), clear)
    hits = total = 0
    for image in FILLING:
        found, expected = file.predict(image, score_threshold=0.3), network.predict(image)
        overlaps = box_iou(torch.from_numpy(expected.boxes_xyxy), torch.from_numpy(found.boxes_xyxy))
        same = torch.tensor([[label == other for other in found.labels] for label in expected.labels])
        hits += int((torch.where(same, overlaps, 0.0) > 0.6).any(1).sum())
        total += len(expected.scores)
    assert total > 400
    assert hits / total > 0.7


@pytest.mark.parametrize("argmax", [True, False])
def test_a_segmenter_in_float32(ckpt, exported, argmax):
    path = exported("segmentation", "litert", image_size=(HEIGHT, WIDTH), argmax=argmax)
    file, network = load("segmentation", path), load("segmentation", ckpt("segmentation"))
    for seed in range(2):
        image = picture(HEIGHT, WIDTH, seed)
        expected = network.predict(image).class_ids
        assert len(np.unique(expected)) == 3
        assert (file.predict(image).class_ids == expected).mean() > 0.999


@torch.no_grad()
def test_a_segmenter_in_int8(exported, calibration):
    """Logits rise and fall together; classes are the same where the network is not in doubt.

    The classes of random weights lie close together. Against a spread of 0.95, logits are 0.16 off (root mean square),
    so that the best class differs at 14 % of all pixels, and at 1 % of those where it leads by 0.5.
    """
    path = exported(
        "segmentation", "litert", image_size=(HEIGHT, WIDTH), argmax=False, precision="int8", calibration=calibration
    )
    found = computed(open_exported(path, "segmentation"), CANVASES, SIZES)["logits"]
    expected = network_of("segmentation")(CANVASES)
    assert np.corrcoef(found.flatten(), expected.flatten())[0, 1] > 0.97
    best, second = expected.topk(2, dim=1).values.unbind(1)
    clear = best - second > 0.5
    assert clear.float().mean() > 0.3
    assert (found.argmax(1) == expected.argmax(1))[clear].float().mean() > 0.97
    assert check(path).refused == ()


def test_a_joint_network_in_float32(ckpt, exported):
    file, network = load("joint", exported("joint", "litert")), load("joint", ckpt("joint"))
    for seed in range(2):
        image = picture(128, 256, seed)
        found, expected = file.predict(image, score_threshold=0.05), network.predict(image, score_threshold=0.05)
        same_boxes(found.found, expected.found)
        assert (found.segmented.class_ids == expected.segmented.class_ids).mean() > 0.999
