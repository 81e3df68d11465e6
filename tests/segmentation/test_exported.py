"""A segmenter in a file that gives logits, which has no weights here, answers as the network does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.exports.files import About
from segmentation.inference.predictor import SegmentationPredictor
from segmentation.weights.exported import ExportedSegmenter
from tests.deployment.networks import picture, segmenter


class Computed:
    """A file whose runtime is the network itself."""

    path = Path("network.onnx")

    def __init__(self) -> None:
        self.network = segmenter()
        shares = {name: getattr(self.network, name).flatten() / 255 for name in ("mean", "std")}
        self.about = About(
            task="segmentation",
            model=self.network.settings(),
            fill_color=self.network.fill_color,
            **{name: tuple(value.tolist()) for name, value in shares.items()},
        )

    @torch.no_grad()
    def run(self, images: torch.Tensor, sizes_hw: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.network(images)}


@pytest.mark.parametrize("settings", [{}, {"flip": True}, {"window": 96}, {"probabilities": True}])
def test_logits(settings):
    file = Computed()
    found, expected = (
        SegmentationPredictor(network).predict(picture(120, 150), **settings)
        for network in (ExportedSegmenter(file), file.network)
    )
    assert len(np.unique(expected.class_ids)) > 1
    assert (found.class_ids == expected.class_ids).all()
