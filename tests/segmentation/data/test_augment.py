"""Training crops: masks that stay on their pixels and keep their labels, and a recipe that does what it says."""

from __future__ import annotations

import random
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.augment import Transform
from engine.errors import InputError
from engine.reading.images import resize, resize_labels
from segmentation.data.augment import CropAugmenter, SegmentationAugmentation
from segmentation.data.classes import IGNORED
from segmentation.data.scale_crop import ScaleCrop, largest_share

FILL = (124, 116, 104)
STILL: dict[str, Any] = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
PLAIN: dict[str, Any] = {**STILL, "hflip": 0.0, "scale_min": 1.0, "scale_max": 1.0, "max_class_ratio": 1.0}
ONE = {**PLAIN, "scale_min": 0.5, "scale_max": 2.0}


def build(crop_hw: tuple[int, int] = (48, 64), **options: Any) -> CropAugmenter:
    return SegmentationAugmentation(**(PLAIN | options)).build(crop_hw, FILL)


def blocks(height: int, width: int, side: int = 16, seed: int = 0) -> np.ndarray:
    """Labels in squares of one class each, some of them ignored."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice([0, 1, 2, 5, 18, IGNORED], size=(-(-height // side), -(-width // side)))
    return np.kron(coarse, np.ones((side, side), dtype=int))[:height, :width].astype(np.uint8)


def as_picture(labels: np.ndarray) -> np.ndarray:
    """A picture whose red is the label."""
    return np.stack([labels, np.full_like(labels, 7), np.full_like(labels, 9)], axis=-1)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


class TestGeometry:
    @given(
        st.tuples(st.integers(33, 90), st.integers(33, 90)),
        st.tuples(st.integers(33, 90), st.integers(33, 90)),
        st.integers(0, 2**31),
    )
    @settings(max_examples=40, deadline=None)
    def test_mask_and_picture_show_the_same_place(self, size: Any, crop_hw: Any, seed: int) -> None:
        labels = blocks(*size, seed=seed)
        torch.manual_seed(seed)
        image, class_ids = build(crop_hw, **(ONE | {"hflip": 0.5, "vflip": 0.5, "rotate90": True}))(
            as_picture(labels), labels
        )
        assert image.shape == (*crop_hw, 3)
        assert class_ids.shape == crop_hw
        assert image.dtype == class_ids.dtype == np.uint8
        assert set(np.unique(class_ids)) <= {*np.unique(labels), IGNORED}
        inside = (image[..., 1:] == (7, 9)).all(axis=-1)
        # The area beside the picture has the fill colour and no counted label.
        assert (image[~inside] == FILL).all()
        assert (class_ids[~inside] == IGNORED).all()
        # Interpolation mixes values only at edges: where the picture's red is flat, it is the label.
        red = image[..., 0].astype(int)
        calm = np.zeros(crop_hw, dtype=bool)
        middle = red[2:-2, 2:-2]
        moves = [np.roll(red, (y, x), (0, 1))[2:-2, 2:-2] for y in (-2, 0, 2) for x in (-2, 0, 2)]
        calm[2:-2, 2:-2] = np.all([move == middle for move in moves], axis=0)
        calm &= inside
        np.testing.assert_array_equal(red[calm], class_ids[calm])

    def test_scale_is_of_the_images_own_size(self) -> None:
        for size in ((40, 50), (20, 90)):
            labels = np.ones(size, dtype=np.uint8)
            for factor in (0.5, 1.0, 1.37):
                _, class_ids = build((200, 200), scale_min=factor, scale_max=factor)(noise(*size), labels)
                rows, columns = (
                    np.flatnonzero((class_ids == 1).any(axis=1)),
                    np.flatnonzero((class_ids == 1).any(axis=0)),
                )
                assert (len(rows), len(columns)) == (round(factor * size[0]), round(factor * size[1]))

    def test_a_crop_equals_scaling_the_whole_and_cutting(self) -> None:
        image, labels = noise(60, 80), blocks(60, 80, 7)
        transform = ScaleCrop((40, 50), 0.5, 2.0, 1.0)
        for seed in range(10):
            transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
            drawn = transform.get_params_dependent_on_data({"shape": image.shape}, {"mask": labels})
            (top, left), (height, width) = drawn["offset_yx"], drawn["crop_hw"]
            cut = (slice(top, top + height), slice(left, left + width))
            whole = resize(image, drawn["scaled_hw"])[cut].astype(int)
            # Pillow places the region in single precision; a tenth of a pixel would change noise by 25.
            assert np.abs(transform.apply(image, **drawn).astype(int) - whole).max() <= 3
            np.testing.assert_array_equal(
                transform.apply_to_mask(labels, **drawn), resize_labels(labels, drawn["scaled_hw"])[cut]
            )

    def test_every_place_and_scale_comes(self) -> None:
        y, x = np.mgrid[:60, :60].astype(np.uint8)
        augment = build((33, 33))
        torch.manual_seed(0)
        corners = {tuple(augment(np.stack([y, x, x], axis=-1), x)[0][0, 0, :2]) for _ in range(400)}
        assert {corner[0] for corner in corners} == set(range(28)) == {corner[1] for corner in corners}
        factors = [
            (build((130, 130), **ONE)(noise(60, 60), x)[1] != IGNORED).any(axis=0).sum() / 60 for _ in range(200)
        ]
        assert min(factors) < 0.55
        assert max(factors) > 1.9
        assert 1.15 < np.mean(factors) < 1.35

    def test_flips_and_turns(self) -> None:
        image, labels = noise(48, 64), blocks(48, 64)
        flipped = build(hflip=1.0)(image, labels)
        np.testing.assert_array_equal(flipped[0], image[:, ::-1])
        np.testing.assert_array_equal(flipped[1], labels[:, ::-1])
        np.testing.assert_array_equal(build(vflip=1.0)(image, labels)[0], image[::-1])
        turned = {build((64, 64), rotate90=True)(image, labels)[0].tobytes() for _ in range(40)}
        assert len(turned) == 4


class TestClassRatio:
    def test_share(self) -> None:
        labels = np.array([[1, 1, 1, 2, IGNORED, IGNORED]], dtype=np.uint8)
        assert largest_share(labels) == 0.75
        assert largest_share(np.full((2, 2), IGNORED, dtype=np.uint8)) == 1.0
        assert largest_share(np.full((2, 2), 254, dtype=np.uint8)) == 1.0

    def test_crops_of_one_class_are_drawn_anew(self) -> None:
        labels = np.zeros((100, 300), dtype=np.uint8)
        labels[:, 140:160] = 3
        labels[:, 250:] = IGNORED
        shares = {}
        for limit in (1.0, 0.75):
            augment = build((33, 40), max_class_ratio=limit)
            torch.manual_seed(0)
            shares[limit] = [largest_share(augment(noise(100, 300), labels)[1]) for _ in range(60)]
        assert np.mean(np.array(shares[1.0]) < 0.75) < 0.25
        assert np.mean(np.array(shares[0.75]) < 0.75) > 0.65

    def test_a_mask_without_such_a_crop_gives_the_last_draw(self) -> None:
        _, class_ids = build((33, 33), max_class_ratio=0.5)(noise(90, 90), np.ones((90, 90), dtype=np.uint8))
        assert (class_ids == 1).all()


class TestColor:
    @pytest.mark.parametrize("change", ["brightness", "contrast", "saturation", "hue"])
    def test_each_change_comes_to_half_of_the_images_and_spares_masks(self, change: str) -> None:
        image, labels = noise(48, 64), blocks(48, 64)
        augment = build(**{change: 0.4})
        torch.manual_seed(0)
        results = [augment(image, labels) for _ in range(100)]
        assert 30 < sum((result[0] != image).any() for result in results) < 70
        for result in results:
            np.testing.assert_array_equal(result[1], labels)

    def test_ranges(self) -> None:
        image, labels = np.full((48, 64, 3), (100, 110, 120), dtype=np.uint8), np.zeros((48, 64), dtype=np.uint8)
        torch.manual_seed(0)
        ends = {}
        for change, amount in (("brightness", 32 / 255), ("contrast", 0.5)):
            augment = build(**{change: amount})
            values = [int(augment(image, labels)[0][0, 0, 0]) for _ in range(200)]
            ends[change] = (min(values), max(values))
        assert ends["brightness"][0] in range(68, 72)
        assert ends["brightness"][1] in range(129, 133)
        assert ends["contrast"][0] in range(50, 55)
        assert ends["contrast"][1] in range(146, 151)

    def test_padding_keeps_the_mean_color(self) -> None:
        augment = SegmentationAugmentation().build((64, 64), FILL)
        for _ in range(10):
            image, class_ids = augment(noise(20, 20), np.zeros((20, 20), dtype=np.uint8))
            assert (image[class_ids == IGNORED] == FILL).all()
            assert (class_ids == IGNORED).any()

    def test_extra_transforms(self) -> None:
        extra = (Transform("Affine", {"rotate": (30, 30), "p": 1.0}),)
        _, class_ids = build((64, 64), extra=extra)(noise(64, 64), np.ones((64, 64), dtype=np.uint8))
        assert set(np.unique(class_ids)) == {1, IGNORED}


class TestRandomNumbers:
    def test_the_same_state_of_torch_gives_the_same_crop(self) -> None:
        augment = SegmentationAugmentation().build((40, 40), FILL)
        runs = []
        for _ in range(2):
            torch.manual_seed(4)
            runs.append([zlib.crc32(augment(noise(60, 60), blocks(60, 60))[0].tobytes()) for _ in range(6)])
        assert runs[0] == runs[1]
        assert len(set(runs[0])) == 6


def test_refusals() -> None:
    for options, wording in (
        ({"hflip": 1.5}, "augmentation.hflip is 1.5; allowed: 0 to 1"),
        ({"hue": 0.6}, "augmentation.hue is 0.6; allowed: 0 to 0.5"),
        ({"max_class_ratio": 0.0}, "max_class_ratio is 0.0; allowed: a number above 0 and at most 1"),
        ({"scale_min": 2.0, "scale_max": 1.0}, "allowed is 0 < scale_min <= scale_max"),
        ({"scale_min": 0.0}, "augmentation.scale_min is 0.0; allowed: a number above 0"),
        ({"extra": (Transform("GausianBlur"),)}, "Did you mean 'GaussianBlur'"),
    ):
        with pytest.raises(InputError) as caught:
            SegmentationAugmentation(**options).build((40, 40), FILL)  # type: ignore[arg-type]
        assert wording in str(caught.value)
