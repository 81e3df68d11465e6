"""Overlays: exact colours and a legend of the classes that occur; index images: values stay label ids."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from engine.errors import InputError
from segmentation.data.classes import MaskClasses
from segmentation.inference.pictures import class_pixels, index_image, legend_image, overlay, tint
from tests.segmentation.toys import CLASSES


def mask(height: int = 40, width: int = 60) -> np.ndarray:
    class_ids = np.zeros((height, width), dtype=np.uint8)
    class_ids[: height // 2, : width // 2] = 2
    class_ids[-3:, -3:] = 255
    return class_ids


def test_index_images_hold_label_ids_and_show_colors(tmp_path):
    index_image(mask(), CLASSES).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as read:
        assert read.mode == "P"
        values, shown = np.array(read), np.array(read.convert("RGB"))
    assert values.dtype == np.uint8
    assert set(np.unique(values)) == {7, 21, 255}
    np.testing.assert_array_equal(values == 21, mask() == 2)
    np.testing.assert_array_equal(shown[0, 0], CLASSES.colors[2])
    np.testing.assert_array_equal(shown[0, -1], CLASSES.colors[0])
    # 8 bits deep whatever the number of colours (IHDR of the PNG specification).
    assert (tmp_path / "a.png").read_bytes()[24] == 8


def test_pixels_are_those_of_classes():
    assert class_pixels(mask(), CLASSES).tolist() == [2400 - 600 - 9, 0, 600]


@pytest.mark.parametrize("opacity", [0.0, 0.3, 0.5, 1.0])
def test_colors_are_blended(opacity):
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    drawn = np.array(overlay(image, mask(), CLASSES, opacity, legend=False)).astype(float)
    expected = (1 - opacity) * image + opacity * np.array([*CLASSES.colors, *[(0, 0, 0)] * 253])[mask()]
    expected[-3:, -3:] = image[-3:, -3:]
    assert np.abs(drawn - expected).max() <= 1


def test_the_legend_names_what_is_there_below_the_image():
    image = np.full((40, 300, 3), 90, dtype=np.uint8)
    drawn = np.array(overlay(image, mask(40, 300), CLASSES))
    assert drawn.shape[1] == 300
    np.testing.assert_array_equal(drawn[:40], np.array(tint(image, mask(40, 300), CLASSES)))
    below = {tuple(color) for color in drawn[40:].reshape(-1, 3).tolist()}
    assert {CLASSES.colors[0], CLASSES.colors[2], (255, 255, 255)} <= below
    assert CLASSES.colors[1] not in below


@pytest.mark.parametrize("width", [1, 20, 64, 500, 2048])
def test_no_entry_of_a_legend_is_cut(width):
    classes = MaskClasses(tuple(f"a rather long name {row}" for row in range(19)))
    drawn = np.array(legend_image(classes, range(19), width))
    assert drawn.shape[1] >= width
    assert (drawn[:, -1] == 255).all()
    assert (drawn[-1] == 255).all()
    seen = {tuple(color) for color in drawn.reshape(-1, 3).tolist()}
    assert set(classes.colors) <= seen
    assert legend_image(classes, [], width).size == (width, 1)


def test_bad_input():
    with pytest.raises(InputError, match=r"image is 60x41 .* mask 60x40"):
        overlay(np.zeros((41, 60, 3), np.uint8), mask(), CLASSES)
    with pytest.raises(InputError, match="opacity is 2"):
        overlay(np.zeros((40, 60, 3), np.uint8), mask(), CLASSES, opacity=2)
