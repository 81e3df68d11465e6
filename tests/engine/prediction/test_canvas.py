"""The canvas: as large as in training, or no larger than an image needs; the image on it is the same."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from engine.prediction.canvas import Canvas


@pytest.mark.parametrize(
    ("image_hw", "limit_hw", "expected"),
    [
        ((100, 100), (512, 512), (512, 512)),
        ((100, 400), (512, 512), (128, 512)),
        ((400, 100), (512, 512), (512, 128)),
        ((300, 400), (512, 512), (384, 512)),
        ((301, 400), (512, 512), (512, 512)),  # 385 rows
        ((1, 4000), (512, 512), (128, 512)),
        ((480, 640), (320, 320), (256, 320)),  # 240 x 320; never beyond the limit
        ((100, 400), (128, 512), (128, 512)),
    ],
)
def test_tight_canvas(image_hw: tuple[int, int], limit_hw: tuple[int, int], expected: tuple[int, int]) -> None:
    assert Canvas(limit_hw, (0, 0, 0), 128, "tight").tight_hw(image_hw) == expected


@pytest.mark.parametrize("size_hw", [(100, 100), (30, 150), (150, 30), (20, 30), (300, 400)])
def test_the_image_is_the_same_on_both(size_hw: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    full, tight = (Canvas((256, 256), (7, 8, 9), 64, policy)(image) for policy in ("full", "tight"))
    assert full.image.shape == (256, 256, 3)
    assert all(side % 64 == 0 for side in tight.image.shape[:2])
    height, width = full.letterbox.scaled_hw
    assert tight.letterbox.scaled_hw == (height, width)
    assert tight.letterbox.scale == full.letterbox.scale
    assert (tight.image[:height, :width] == full.image[:height, :width]).all()
    for one in (full, tight):
        fill = np.full((*one.image.shape[:2], 3), (7, 8, 9))
        np.testing.assert_array_equal(one.image.numpy()[height:], fill[height:])
        np.testing.assert_array_equal(one.image.numpy()[:, width:], fill[:, width:])


def test_it_travels_to_other_processes() -> None:
    canvas = Canvas((128, 256), (1, 2, 3), 128, "tight")
    assert pickle.loads(pickle.dumps(canvas)) == canvas
    assert str(canvas) == "128 x 256, no larger than needed"
    assert str(Canvas((128, 256), (1, 2, 3), 128)) == "128 x 256"
