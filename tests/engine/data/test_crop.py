"""The recipe without albumentations: the boxes and masks of the one with it, and the pixels of Pillow."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.data.augment import Augmentation, Augmenter
from engine.data.crop import CropAugmenter, Scaling, scaled_part
from engine.reading.images import UInt8Array

FILL = (124, 116, 104)
SIDES = st.tuples(st.integers(8, 300), st.integers(8, 300))


def noise(height: int, width: int) -> UInt8Array:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def boxes_around(height: int, width: int, seed: int) -> np.ndarray:
    """Boxes within an image, over its edge and beside it."""
    corners = np.random.default_rng(seed).uniform(-0.2, 1.2, (40, 2, 2)) * (width, height)
    return np.concatenate([corners.min(1), corners.max(1)], 1).astype(np.float32)


def through_albumentations(canvas_hw: tuple[int, int], recipe: Augmentation, vflip: float) -> Augmenter:
    library: Any = importlib.import_module("albumentations")
    from engine.data.scale_jitter import ScaleJitter

    transforms: list[object] = [ScaleJitter(canvas_hw, recipe.scale_min, recipe.scale_max)]
    transforms += [library.HorizontalFlip(p=recipe.hflip)] if recipe.hflip else []
    transforms += [library.VerticalFlip(p=vflip)] if vflip else []
    return Augmenter(transforms, canvas_hw, FILL, min_side=recipe.min_side, min_visible=recipe.min_visible)


@settings(max_examples=60, deadline=None)
@given(
    image_hw=SIDES,
    canvas_hw=SIDES,
    scales=st.tuples(st.floats(0.1, 2.0), st.floats(0.1, 2.0)),
    hflip=st.sampled_from([0.0, 0.5, 1.0]),
    vflip=st.sampled_from([0.0, 0.5, 1.0]),
    min_side=st.sampled_from([0.0, 1.0, 4.0]),
    min_visible=st.sampled_from([0.0, 0.1, 0.7]),
    seed=st.integers(0, 2**31),
)
def test_the_random_numbers_boxes_and_masks_are_those_of_albumentations(
    image_hw: tuple[int, int],
    canvas_hw: tuple[int, int],
    scales: tuple[float, float],
    hflip: float,
    vflip: float,
    min_side: float,
    min_visible: float,
    seed: int,
) -> None:
    recipe = Augmentation(hflip, min(scales), max(scales), min_side=min_side, min_visible=min_visible)
    image, boxes = noise(*image_hw), boxes_around(*image_hw, seed)
    mask = image[..., 0].copy()
    torch.manual_seed(seed)
    found = recipe.cropping(canvas_hw, FILL, vflip)(image, boxes, mask)
    torch.manual_seed(seed)
    wanted = through_albumentations(canvas_hw, recipe, vflip)(image, boxes, mask)
    np.testing.assert_array_equal(found.kept, wanted.kept)
    np.testing.assert_allclose(found.boxes_xyxy, wanted.boxes_xyxy, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found.mask, wanted.mask)
    np.testing.assert_array_equal(found.image, wanted.image)
    assert found.boxes_xyxy.dtype == np.float32
    assert found.kept.dtype == np.int64


def test_several_maps_of_labels_move_together() -> None:
    maps = noise(50, 70)
    crops = Augmentation(0.5, 0.5, 2.0).cropping((64, 96), FILL, 0.5)
    for seed in range(10):
        torch.manual_seed(seed)
        together = crops(maps, boxes_around(50, 70, 0), maps).mask
        for number in range(3):
            torch.manual_seed(seed)
            alone = crops(maps, boxes_around(50, 70, 0), maps[..., number].copy()).mask
            np.testing.assert_array_equal(together[..., number], alone)


@pytest.mark.parametrize("scaled_hw", [(97, 131), (300, 402), (150, 131), (40, 500), (60, 80), (13, 17), (1, 1)])
def test_pixels_are_pillows_but_for_two_of_255(scaled_hw: tuple[int, int]) -> None:
    image = noise(97, 131)
    whole = np.array(Image.fromarray(image).resize(scaled_hw[::-1], Image.Resampling.BILINEAR)).astype(int)
    for top, left, height, width in ((0, 0, 1, 1), (0.4, 0.3, 0.5, 0.5), (0.5, 0, 0.5, 1), (0, 0.7, 0.1, 0.3)):
        offset = int(top * scaled_hw[0]), int(left * scaled_hw[1])
        crop = max(1, int(height * scaled_hw[0])), max(1, int(width * scaled_hw[1]))
        part = scaled_part(image, Scaling(scaled_hw, offset, crop)).astype(int)
        assert part.shape == (*crop, 3)
        wanted = whole[offset[0] : offset[0] + crop[0], offset[1] : offset[1] + crop[1]]
        assert np.abs(part - wanted).max() <= 2


@settings(max_examples=60, deadline=None)
@given(image_hw=SIDES, scaled_hw=SIDES, place=st.tuples(*[st.floats(0, 1)] * 4))
def test_a_part_is_that_of_the_whole(
    image_hw: tuple[int, int], scaled_hw: tuple[int, int], place: tuple[float, float, float, float]
) -> None:
    offset = int(place[0] * (scaled_hw[0] - 1)), int(place[1] * (scaled_hw[1] - 1))
    rest = scaled_hw[0] - offset[0], scaled_hw[1] - offset[1]
    crop = max(1, int(place[2] * rest[0])), max(1, int(place[3] * rest[1]))
    image = noise(*image_hw)
    whole = scaled_part(image, Scaling(scaled_hw, (0, 0), scaled_hw)).astype(int)
    assert whole.shape == (*scaled_hw, 3)
    part = scaled_part(image, Scaling(scaled_hw, offset, crop)).astype(int)
    wanted = whole[offset[0] : offset[0] + crop[0], offset[1] : offset[1] + crop[1]]
    assert np.abs(part - wanted).max() <= 1  # torch rounds its weights by the largest of all that it computes


def test_the_given_image_stays_as_it_was() -> None:
    image = noise(64, 64)
    before = image.copy()
    found = Augmentation(1.0).cropping((64, 64), FILL)(image, boxes_around(64, 64, 0))
    np.testing.assert_array_equal(found.image, before[:, ::-1])
    np.testing.assert_array_equal(image, before)
    assert not np.shares_memory(found.image, image)


@pytest.mark.parametrize("changes", [{"color": 0.1}, {"hue": 0.1}, {"erasing": 0.5}])
def test_further_changes_are_made_by_albumentations(changes: dict[str, float]) -> None:
    assert isinstance(Augmentation(0.5).build((32, 32), FILL), CropAugmenter)
    assert isinstance(Augmentation(0.5, **changes).build((32, 32), FILL), Augmenter)
