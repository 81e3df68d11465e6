"""A segmenter in a file that gives logits, which has no weights here, answers as the network does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import InputError
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


def test_smaller_pictures_on_the_canvas_of_a_file_for_one_size():
    file = Computed()
    file.about = replace(file.about, image_hw=(128, 160))
    image = picture(120, 150)
    found = SegmentationPredictor(ExportedSegmenter(file)).predict(image)
    canvas = np.full((128, 160, 3), file.network.fill_color, np.uint8)
    canvas[:120, :150] = image
    expected = SegmentationPredictor(file.network).predict(canvas)
    assert len(np.unique(expected.class_ids)) > 1
    assert (found.class_ids == expected.class_ids[:120, :150]).all()


@pytest.mark.parametrize(("height", "width"), [(129, 150), (120, 161)])
def test_larger_pictures_are_refused_by_a_file_for_one_size(height, width):
    file = Computed()
    file.about = replace(file.about, image_hw=(128, 160))
    predictor = SegmentationPredictor(ExportedSegmenter(file))
    with pytest.raises(InputError, match=rf"takes images of 128 x 160 pixels.* not {height} x {width}"):
        predictor.predict(picture(height, width))
