"""Several passes in an evaluation give the boxes that prediction finds, and leave the loss as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detection.data.batch import DetectionBatch
from detection.data.boxes import box_table
from detection.data.classes import BoxClasses
from detection.data.dataset import BoxImages, collate
from detection.network.loss_settings import DetectionLoss
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess
from detection.prediction.predictor import DetectionPredictor, load
from detection.tiles.evaluation import evaluated
from detection.tiles.inference import Inference
from detection.tiles.passes import Passes
from tests.detection.small import command

CLASSES = BoxClasses(("car", "pole"), (1, 2))
TINY: dict[str, Any] = {"image_size": 128, "fpn_channels": 16, "fpn_cells": 1, "head_repeats": 1}
SIZES_HW = ((80, 128), (128, 60), (200, 200))  # mirrored boxes depend on the width of each
LOW = Postprocess(score_threshold=0.004, max_detections=30)


@pytest.fixture(scope="module")
def network() -> EfficientDet:
    torch.manual_seed(0)
    return EfficientDet("lite0", classes=CLASSES, **TINY).eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    for number, size_hw in enumerate(SIZES_HW):
        pixels = np.random.default_rng(number).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


def batch_of(files: list[Path], passes: Passes) -> DetectionBatch:
    boxes = np.array([[10, 10, 30, 40]] * len(files), np.float64)
    rows = np.arange(len(files))
    images = BoxImages(
        box_table("some", CLASSES, files, boxes, rows, rows % 2), CLASSES, (128, 128), passes.canvas.fill_color
    )
    images.views = passes.more
    return collate([images[index] for index in range(len(images))])


@pytest.mark.parametrize(
    "inference",
    [Inference(), Inference(flip=True), Inference(scales=(1.5, 1.0), flip=True), Inference(scales=(0.5,))],
    ids=str,
)
def test_a_batch_has_the_boxes_of_prediction(network: EfficientDet, files: list[Path], inference: Inference) -> None:
    passes = Passes.of(network, inference)
    with torch.no_grad():
        found, sums = evaluated(network, batch_of(files, passes), DetectionLoss(), LOW, passes)
    predictor = DetectionPredictor(network, LOW, inference=inference)
    for row, file in enumerate(files):
        expected = predictor.predict(file)
        count = int((found.class_ids[row] >= 0).sum())
        assert count == len(expected) > 5
        np.testing.assert_array_equal(found.class_ids[row, :count].numpy(), expected.class_ids)
        np.testing.assert_allclose(found.scores[row, :count].numpy(), expected.scores, atol=1e-5)
        np.testing.assert_allclose(found.boxes_xyxy[row, :count].numpy(), expected.boxes_xyxy, atol=1e-2)
    once = Passes.of(network, Inference())
    with torch.no_grad():
        plain = evaluated(network, batch_of(files, once), DetectionLoss(), LOW, once).sums
    assert sums is not None
    assert plain is not None
    torch.testing.assert_close(sums, plain)


def test_a_view_is_made_for_further_passes_only(network: EfficientDet, files: list[Path]) -> None:
    assert batch_of(files, Passes.of(network, Inference())).views == ()
    views = batch_of(files, Passes.of(network, Inference(scales=(1.0, 2.0)))).views
    assert [tuple(view.images.shape) for view in views] == [(3, 3, 256, 256)]
    assert views[0].scales.tolist() == pytest.approx([2.0, 2.0, 256 / 200])


@pytest.mark.slow
@pytest.mark.parametrize(
    "inference",
    [
        {"scales": [1.0, 1.5], "flip": True},
        pytest.param({"window": 48, "overlap": 16, "flip": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_validate_scores_what_predict_finds(
    trained: Path, small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inference: dict[str, Any]
) -> None:
    """The detections that the command scores are those of the predictor, image by image."""
    monkeypatch.chdir(tmp_path)
    for name in ("scenes", "small.yaml"):
        Path(name).symlink_to(small_set / name)
    weights = trained / "checkpoints/last.ckpt"
    words = " ".join(
        f"--model.inference.{name} {json.dumps(value).replace(' ', '')}" for name, value in inference.items()
    )
    said = command(f"validate --config small.yaml --ckpt_path {weights} --model.detections found.json {words}")
    assert said.code == 0, said.err
    found = json.loads(Path("found.json").read_text())
    images = json.loads(Path("scenes/annotations/instances_val.json").read_text())["images"]
    predictor = load(weights).with_settings(score_threshold=0.001, **inference)
    assert len(found) > 20
    for image in images:
        own = [one for one in found if one["image_id"] == image["id"]]
        expected = predictor.predict(Path("scenes/leftImg8bit/val") / image["file_name"])
        # Prediction folds the batch norms: of boxes at the threshold a few are on its other side.
        sure = [one for one in own if one["score"] > 0.02]
        assert len(sure) == int((expected.scores > 0.02).sum())
        np.testing.assert_allclose([one["score"] for one in sure], expected.scores[: len(sure)], atol=1e-4)
