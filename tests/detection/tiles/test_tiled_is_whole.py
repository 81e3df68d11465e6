"""A picture in tiles gives the boxes of the whole, wherever the network sees the same: to a thousandth of a pixel.

No EfficientDet can be exact: its pyramid sees the whole picture, and so the ends of a tile. A convolution of limited
reach can, with the detector's own anchors and suppression, where every object with the reach around it fits into the
overlap without its margins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from detection.data.classes import BoxClasses
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess
from detection.prediction.found import Found
from detection.prediction.predictor import DetectionPredictor

TINY: dict[str, Any] = {"image_size": 256, "fpn_channels": 16, "fpn_cells": 1, "head_repeats": 1}
CLASSES = BoxClasses(("round", "long"), (4, 9))
WINDOW, OVERLAP, MARGIN = 256, 192, 32


@pytest.fixture(scope="module")
def local() -> EfficientDet:
    """A detector whose logits and deltas come from a convolution over 24 x 24 pixels of black-is-nothing pictures."""
    torch.manual_seed(1)
    model = EfficientDet("lite0", classes=CLASSES, **TINY).eval()
    anchors = model.config.anchors_per_cell
    first = nn.Conv2d(3, 12, 8, stride=8, bias=False)
    second = nn.Conv2d(12, anchors * 6, 3, padding=1, bias=False)

    def planted(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        height, width = images.shape[-2:]
        shown = images.float() / 255
        shown = shown * (images != 128).any(1, keepdim=True)  # the canvas beside the picture is as black
        maps = second(first(shown).relu()).unflatten(1, (anchors, 6))
        maps = maps.permute(0, 3, 4, 1, 2).flatten(1, 3)
        every = model.anchors((height, width), images.device)
        logits = torch.full((len(images), len(every), 2), -20.0)
        deltas = torch.zeros(len(images), len(every), 4)
        strength = maps[..., :2].abs().amax(-1, keepdim=True)
        logits[:, : maps.shape[1]] = torch.where(strength > 0.05, 60 * maps[..., :2] - 3, -20.0)
        deltas[:, : maps.shape[1]] = maps[..., 2:].clamp(-0.4, 0.4)
        return logits, deltas, every

    model.predictions = planted  # type: ignore[method-assign]
    return model


def spots(height: int, width: int, seed: int) -> np.ndarray:
    """Bright rectangles on black, far enough from each other that each is an object of its own."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.uint8)
    for top in range(10, height - 40, 150):
        for left in range(10, width - 40, 150):
            y, x = top + rng.integers(0, 40), left + rng.integers(0, 40)
            image[y : y + rng.integers(6, 20), x : x + rng.integers(6, 20)] = rng.integers(100, 256, 3)
    return image


def same(found: Found, expected: Found) -> None:
    assert found.size_hw == expected.size_hw
    assert len(found) == len(expected) > 30
    order, other = (np.lexsort((*one.boxes_xyxy.round(1).T, one.class_ids)) for one in (found, expected))
    np.testing.assert_allclose(found.boxes_xyxy[order], expected.boxes_xyxy[other], atol=1e-3)
    np.testing.assert_allclose(found.scores[order], expected.scores[other], atol=1e-5)
    np.testing.assert_array_equal(found.class_ids[order], expected.class_ids[other])
    assert (np.diff(found.scores) <= 0).all()


def whole(model: EfficientDet, image: np.ndarray) -> Found:
    """The picture unscaled on a canvas of whole strides: one of its sides fills the canvas."""
    height, width = (-(-side // 128) * 128 for side in image.shape[:2])
    assert height == image.shape[0] or width == image.shape[1]
    return many(model).predict(image, image_size=(height, width), score_threshold=0.02)


def many(model: EfficientDet) -> DetectionPredictor:
    return DetectionPredictor(model, Postprocess(max_detections=3000))


@pytest.mark.parametrize(("size_hw", "seed"), [((600, 896), 0), ((256, 768), 1), ((1024, 300), 2), ((640, 640), 3)])
def test_tiles_are_the_whole(local: EfficientDet, size_hw: tuple[int, int], seed: int) -> None:
    image = spots(*size_hw, seed)
    tiled = many(local).predict(image, window=WINDOW, overlap=OVERLAP, margin=MARGIN, score_threshold=0.02)
    same(tiled, whole(local, image))
