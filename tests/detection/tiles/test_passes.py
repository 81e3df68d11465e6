"""Several scales and the mirrored picture: boxes stay where they are, and a mirrored picture gives mirrored boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from detection.data.batch import Detections
from detection.data.classes import BoxClasses
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess
from detection.prediction.found import Found
from detection.prediction.predictor import DetectionPredictor
from detection.tiles.fusion import fused
from detection.tiles.inference import Inference
from detection.tiles.passes import PASS_SCORE, Passes
from engine.errors import InputError
from engine.large.tile_canvas import TileCanvas

TINY: dict[str, Any] = {"image_size": 128, "fpn_channels": 16, "fpn_cells": 1, "head_repeats": 1}
LOW: dict[str, Any] = {"score_threshold": 0.004}


@pytest.fixture(scope="module")
def predictor() -> DetectionPredictor:
    torch.manual_seed(0)
    model = EfficientDet("lite0", classes=BoxClasses(("car", "pole"), (1, 2)), **TINY).eval()
    return DetectionPredictor(model, Postprocess(max_detections=30))


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def close(one: Found, other: Found) -> None:
    assert len(one) == len(other) > 5
    np.testing.assert_array_equal(one.class_ids, other.class_ids)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1e-2)


@pytest.mark.parametrize(
    "settings", [{"flip": True}, {"flip": True, "scales": [1.0, 2.0]}, {"flip": True, "window": 96}]
)
def test_a_mirrored_picture_has_mirrored_boxes(predictor: DetectionPredictor, settings: dict[str, Any]) -> None:
    image = picture(96, 96)
    found = predictor.predict(image, **LOW, **settings)
    mirrored = predictor.predict(np.ascontiguousarray(image[:, ::-1]), **LOW, **settings)
    boxes = mirrored.boxes_xyxy.copy()
    boxes[:, [0, 2]] = 96 - boxes[:, [2, 0]]
    close(Found(boxes, mirrored.scores, mirrored.labels, mirrored.class_ids, mirrored.category_ids, (96, 96)), found)


def test_a_scale_is_that_of_the_canvas(predictor: DetectionPredictor) -> None:
    """One pass at twice the canvas is a prediction on a canvas of that size."""
    image = picture(70, 128)
    close(predictor.predict(image, scales=[2.0], **LOW), predictor.predict(image, image_size=256, **LOW))


def test_passes_are_fused(predictor: DetectionPredictor) -> None:
    """By hand: what each pass gives, fused."""
    image = picture(80, 128)
    together = predictor.predict(image, scales=[1.0, 2.0], **LOW)
    parts = [predictor.predict(image, image_size=side, **LOW) for side in (128, 256)]
    expected = fused(
        [
            Detections(*(torch.from_numpy(part)[None] for part in (one.boxes_xyxy, one.scores, one.class_ids)))
            for one in parts
        ],
        score_threshold=LOW["score_threshold"],
    )
    count = len(together)
    assert count == min(30, expected.scores.shape[1])
    np.testing.assert_allclose(together.scores, expected.scores[0, :count].numpy(), atol=1e-5)
    np.testing.assert_allclose(together.boxes_xyxy, expected.boxes_xyxy[0, :count].numpy(), atol=1e-2)


def test_the_scores_of_single_passes_count_below_the_threshold() -> None:
    passes = Passes(DetectionPredictor(EfficientDet("lite0", 1, **TINY)).canvas, Inference(flip=True))
    assert passes.postprocess(Postprocess(score_threshold=0.3), suppressed=False).score_threshold == PASS_SCORE
    assert passes.postprocess(Postprocess(score_threshold=0.001), suppressed=False).score_threshold == 0.001
    assert passes.postprocess(Postprocess(score_threshold=0.3), suppressed=True).score_threshold == 0.3


def test_short_tiles_are_scaled_as_whole_ones() -> None:
    lay = TileCanvas(128, 96, (1, 2, 3))
    image = picture(96, 48)
    laid = lay(image)
    assert laid.image.shape == (128, 128, 3)
    assert laid.letterbox.scale == pytest.approx(128 / 96)
    assert laid.letterbox.scaled_hw == (128, 64)
    assert laid.image[:, 64:].reshape(-1, 3).unique(dim=0).tolist() == [[1, 2, 3]]
    assert lay(picture(1, 1)).letterbox.scaled_hw == (1, 1)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"overlap": 10}, "Give window as well"),
        ({"margin": 10}, "Give window as well"),
        ({"window": 100, "overlap": 100}, "overlap is 100 px of a window of 100 px"),
        ({"window": 100, "overlap": -1}, "overlap is -1"),
        ({"window": 100, "overlap": 20, "margin": 11}, "margin is 11 px"),
        ({"window": 0}, "window is 0"),
        ({"scales": []}, "scales is []"),
        ({"scales": [20]}, "scales is [20]"),
        ({"window": 100, "canvas": "tight"}, "canvas is tight"),
    ],
)
def test_bad_settings(predictor: DetectionPredictor, settings: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError) as error:
        predictor.predict(picture(50, 50), **settings)
    assert part in str(error.value)
