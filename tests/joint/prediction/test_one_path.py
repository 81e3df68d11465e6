"""One path from picture to answer: Python, command line, video, Ray and the joint network agree on an image.

The answers of the networks differ from place to place, and the canvas has several cells of the coarsest stride, so
that a path that prepares images in another way cannot pass.
"""

from __future__ import annotations

import csv
import json
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import detection
import joint
import segmentation
from detection.network.model import EfficientDet
from detection.spec import SPEC as DETECTION
from engine.training.checkpoints import save_metadata
from engine.video.frames import VideoFrames
from joint.network.model import JointNetwork
from joint.prediction import ray_predict
from joint.prediction.ray_predict import Worker, predict_folder
from joint.spec import SPEC as JOINT
from segmentation.network.model import Segmenter
from segmentation.spec import SPEC as SEGMENTATION
from tests.detection.small import command
from tests.joint.tiny_network import OBJECTS, SURFACES
from tests.shaken import shaken

CANVAS_HW = (256, 384)  # two by three cells of the coarsest stride, 128
SIZES = {"square": (200, 200), "tall": (500, 100), "wide": (100, 500), "small": (60, 90), "large": (400, 700)}
THRESHOLD = 0.4
OPTIONS = "--trainer.accelerator cpu --trainer.enable_progress_bar false --num_workers 0 --batch_size 1"


def write(folder, task, network, prefix):
    state = {f"{prefix}.{key}": value for key, value in network.state_dict().items()}
    content = {"state_dict": state, "pytorch-lightning_version": version("lightning")}
    content |= {"epoch": 0, "global_step": 0}
    save_metadata(content, task, network.settings())
    torch.save(content, folder / f"{task}.ckpt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of five shapes, and a checkpoint of each task: the joint network is made of the other two."""
    folder = tmp_path_factory.mktemp("paths")
    torch.manual_seed(0)
    shape = {"image_size": CANVAS_HW, "fpn_channels": 16, "fpn_cells": 1, "head_repeats": 1}
    detector = EfficientDet("lite0", classes=OBJECTS, **shape)
    segmenter = Segmenter("lite0", classes=SURFACES, decoder_channels=16, skip_channels=8, output_stride=32)
    for network in (detector, segmenter):
        shaken(network).float()
    segmenter.backbone.load_state_dict(detector.backbone.state_dict())
    with torch.no_grad():
        for head in (detector.class_head.predict, detector.box_head.predict):
            for parameter in head.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.3)
        # No class may win everywhere.
        patches = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (4, 3, 7, 9), dtype=np.uint8))
        logits = segmenter(F.interpolate(patches, size=(256, 384), mode="bicubic")).mean((0, 2, 3))
        last = [module for module in segmenter.head.classifier.modules() if isinstance(module, nn.Conv2d)][-1]
        last.bias -= logits
    write(folder, "detection", detector, "detector")
    write(folder, "segmentation", segmenter, "segmenter")
    write(folder, "joint", JointNetwork(detector, segmenter).eval(), "network")
    (folder / "in").mkdir()
    rng = np.random.default_rng(0)
    for name, (height, width) in SIZES.items():
        patches = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
        patches.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"in/{name}.png")
    return folder


def run(spec, line):
    said = command(line, spec)
    assert said.code == 0, said.err


def boxes_of(path):
    """Left, top, width, height, score and category of the objects of each image in COCO's format, by its name."""
    document = json.loads(path.read_text())
    found = {}
    for image in document["images"]:
        mine = [one for one in document["annotations"] if one["image_id"] == image["id"]]
        found[Path(image["file_name"]).stem] = np.array([[*a["bbox"], a["score"], a["category_id"]] for a in mine])
    return found


def table_of(found):
    """The same for an answer in Python."""
    boxes = found.boxes_xyxy.astype(np.float64)
    columns = (boxes[:, :2], boxes[:, 2:] - boxes[:, :2], found.scores[:, None], found.category_ids[:, None])
    return np.concatenate(columns, axis=1)


def images(folder):
    return {name: folder / f"in/{name}.png" for name in SIZES}


@pytest.mark.by_default("tight")
@pytest.mark.parametrize("canvas", ["full", "tight"])
def test_boxes(folder, tmp_path, canvas):
    line = f"predict --ckpt_path {folder}/detection.ckpt --source {folder}/in --output {tmp_path} --canvas {canvas}"
    run(DETECTION, f"{line} --score_threshold {THRESHOLD} --pictures false {OPTIONS}")
    predictor = detection.load(folder / "detection.ckpt")
    settings = {"score_threshold": THRESHOLD, "canvas": canvas}
    commanded = boxes_of(tmp_path / "detections.json")
    assert set(commanded) == set(SIZES)
    for name, path in images(folder).items():
        found = predictor.predict(path, **settings)
        assert len(np.unique(found.scores)) > 5, name
        np.testing.assert_array_equal(table_of(found), commanded[name])
    # Several at a time, which only changes the last digits; the canvas changes the answers.
    for name, one in zip(SIZES, predictor.predict_many([*images(folder).values()], **settings), strict=True):
        np.testing.assert_allclose(one.scores, commanded[name][:, 4], atol=1e-5)
    canvases = {"full": "tight", "tight": "full"}
    other = predictor.predict(images(folder)["wide"], score_threshold=THRESHOLD, canvas=canvases[canvas]).scores
    mine = np.sort(commanded["wide"][:, 4])
    assert len(other) != len(mine) or np.abs(np.sort(other) - mine).max() > 1e-3


@pytest.mark.slow
def test_masks_of_images_and_of_a_video(folder, tmp_path):
    line = f"predict --ckpt_path {folder}/segmentation.ckpt --output {tmp_path}/out {OPTIONS}"
    run(SEGMENTATION, f"{line} --source {folder}/in")
    predictor = segmentation.load(folder / "segmentation.ckpt")
    for name, path in images(folder).items():
        found = predictor.predict(path)
        assert len(np.unique(found.class_ids)) > 1, name
        np.testing.assert_array_equal(np.array(Image.open(tmp_path / f"out/{name}.png")), found.label_ids)
        # Each image as a video of two frames, the second mirrored.
        writer = cv2.VideoWriter(str(tmp_path / f"{name}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, found.size_hw[::-1])
        pixels = np.array(Image.open(path))[..., ::-1]
        for frame in (pixels, pixels[:, ::-1]):
            writer.write(np.ascontiguousarray(frame))
        writer.release()
    run(SEGMENTATION, f"{line.replace('/out', '/videos')} --source {tmp_path}/*.avi")
    for name in SIZES:
        with (tmp_path / f"videos/{name}_areas.csv").open(newline="") as file:
            rows = [int(row["pixels"]) for row in csv.DictReader(file)]
        frames = VideoFrames(tmp_path / f"{name}.avi")
        expected = [count for frame in frames for count in predictor.predict(frame).areas().values()]
        assert rows == expected


@pytest.mark.slow
@pytest.mark.parametrize("canvas", ["full", "tight"])
def test_both_at_once_and_with_ray(folder, tmp_path, canvas, monkeypatch):
    checkpoint, settings = folder / "joint.ckpt", {"score_threshold": THRESHOLD, "canvas": canvas}
    line = f"predict --ckpt_path {checkpoint} --source {folder}/in --output {tmp_path}/out --canvas {canvas}"
    run(JOINT, f"{line} --score_threshold {THRESHOLD} {OPTIONS}")

    def lines(items, job, pool):
        worker = Worker(job)
        for path, outputs in list(items.items()):
            yield from worker({"path": np.array([path], object), "outputs": np.array([outputs], object)})["line"]

    monkeypatch.setattr(ray_predict, "_start", lambda address: None)
    monkeypatch.setattr(ray_predict, "_lines", lines)
    ray = {"gpus": 0, "workers": 1, "batch_size": 1, "progress": False, **settings}
    monkeypatch.setattr(ray_predict, "_start", lambda address: Cluster)
    predict_folder(str(checkpoint), str(folder / "in"), str(tmp_path / "ray"), **ray)
    commanded, clustered = (boxes_of(tmp_path / name / "detections.json") for name in ("out", "ray"))
    predictor, alone = joint.load(checkpoint), detection.load(folder / "detection.ckpt")
    for name, path in images(folder).items():
        both = predictor.predict(path, **settings)
        assert len(np.unique(both.found.scores)) > 5, name
        assert len(np.unique(both.segmented.class_ids)) > 1, name
        for boxes, output in ((commanded, "out"), (clustered, "ray")):
            np.testing.assert_array_equal(table_of(both.found), boxes[name])
            mask = np.array(Image.open(tmp_path / output / f"{name}.png"))
            np.testing.assert_array_equal(mask, both.segmented.label_ids)
        # The detector alone, on the same canvas.
        single = table_of(alone.predict(path, **settings))
        np.testing.assert_allclose(table_of(both.found), single, atol=1e-3)
    # And the segmenter alone on an image that is the whole canvas.
    Image.open(images(folder)["large"]).resize(CANVAS_HW[::-1]).save(tmp_path / "whole.png")
    whole = predictor.predict(tmp_path / "whole.png", **settings).segmented
    other = segmentation.load(folder / "segmentation.ckpt").predict(tmp_path / "whole.png")
    assert (whole.class_ids == other.class_ids).mean() > 0.999


class Cluster:
    """The part of Ray that is used."""

    @staticmethod
    def cluster_resources():
        return {"CPU": 1.0}
