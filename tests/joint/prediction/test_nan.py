"""A network whose answers are NaN is refused in every prediction; without this all pixels would be of class 0."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from detection.prediction.predictor import DetectionPredictor
from engine.errors import InputError
from joint.prediction.predictor import JointPredictor
from segmentation.inference.inference import Inference, class_rows, probabilities
from segmentation.inference.predictor import SegmentationPredictor
from tests.joint.tiny_network import tiny_network

PICTURE = np.random.default_rng(0).integers(0, 256, (70, 150, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def network():
    return tiny_network()


@pytest.fixture
def broken(network):
    """Marks one weight of a layer as NaN, and puts it back."""
    kept = []

    def spoil(layer: nn.Module) -> None:
        parameter = next(layer.parameters())
        kept.append((parameter, parameter.detach().clone()))
        with torch.no_grad():
            parameter.flatten()[0] = torch.nan

    yield spoil
    with torch.no_grad():
        for parameter, value in kept:
            parameter.copy_(value)


@pytest.mark.parametrize("part", ["class_head", "box_head"])
def test_a_detector(network, broken, part):
    DetectionPredictor(network.detector).predict(PICTURE)
    broken(network.detector.get_submodule(part).predict)
    for predictor in (DetectionPredictor(network.detector), JointPredictor(network)):
        with pytest.raises(InputError, match=r"not numbers .* Give an earlier checkpoint"):
            predictor.predict(PICTURE)
    JointPredictor(network).predict(PICTURE, detect=False)  # that answer is whole


def test_a_segmenter(network, broken):
    SegmentationPredictor(network.segmenter).predict(PICTURE)
    broken(network.segmenter.head.classifier)
    tiled = Inference(window=64, overlap=16)
    asked = [
        lambda: SegmentationPredictor(network.segmenter).predict(PICTURE),
        lambda: SegmentationPredictor(network.segmenter).predict(PICTURE, flip=True),
        lambda: JointPredictor(network).predict(PICTURE),
        lambda: class_rows(network.segmenter, PICTURE, tiled),
        lambda: probabilities(network.segmenter, PICTURE, tiled),
    ]
    for ask in asked:
        with pytest.raises(InputError, match=r"not numbers .* Give an earlier checkpoint"):
            ask()
    JointPredictor(network).predict(PICTURE, segment=False)
