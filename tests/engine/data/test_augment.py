"""The albumentations adapter: it works around each known fault of 2.0.8, and boxes stay on their pixels."""

from __future__ import annotations

import importlib
import pickle
import warnings
import zlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser
from torch.utils.data import DataLoader, Dataset

from engine.data.augment import (
    IGNORED,
    Augmentation,
    Augmenter,
    ImageAugmenter,
    TorchvisionAugmenter,
    Transform,
    build_transform,
)
from engine.errors import InputError
from engine.numbers import ClosedUnitInterval, PositiveFloat
from engine.reading.images import Letterbox

FILL = (124, 116, 104)
MAGENTA = (255, 0, 255)


@cache
def library() -> Any:
    return importlib.import_module("albumentations")


@dataclass(frozen=True)
class Recipe(Augmentation):
    """The defaults of some task."""

    hflip: ClosedUnitInterval = 0.5
    scale_min: PositiveFloat = 0.1
    scale_max: PositiveFloat = 2.0
    min_visible: ClosedUnitInterval = 0.1


def recipe(**settings: Any) -> ImageAugmenter:
    return Recipe(**settings).build((64, 96), FILL)


def street(height: int = 90, width: int = 120) -> np.ndarray:
    return np.random.default_rng(7).integers(60, 200, (height, width, 3), dtype=np.uint8)


def numbered_boxes(count: int, size: int = 100, seed: int = 0) -> np.ndarray:
    corners = np.random.default_rng(seed).uniform(0, size, (count, 2, 2)).astype(np.float32)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


class Noisy(Dataset[int]):
    """One number for each sample that shows what the augmentation did."""

    def __init__(self, augmenter: ImageAugmenter) -> None:
        self.augmenter = augmenter

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        # Every index is the same image, so that any difference comes from random numbers.
        result = self.augmenter(street(24, 32), np.empty((0, 4), dtype=np.float32))
        return zlib.crc32(result.image.tobytes())


def two_epochs(*, persistent: bool, workers: int) -> list[list[int]]:
    torch.manual_seed(5)
    data = Noisy(Recipe(color=0.5).build((32, 32), FILL))
    loader = DataLoader(data, batch_size=None, num_workers=workers, persistent_workers=persistent)
    return [[int(answer) for answer in loader] for _ in range(2)]


class TestKnownFaults:
    """Numbers as in the list of albumentations 2.0.8's faults that the adapter was written for."""

    @pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
    def test_1_workers_and_epochs_differ_and_runs_repeat(self, workers: int, persistent: bool) -> None:
        first, second = two_epochs(persistent=persistent, workers=workers)
        assert len({*first, *second}) == 16
        assert two_epochs(persistent=persistent, workers=workers) == [first, second]

    def test_1_the_library_alone_repeats_itself_in_every_worker(self) -> None:
        # If this fails, the library was repaired and the reseeding can be removed.
        augmenter = Recipe(color=0.5).build((32, 32), FILL)
        assert isinstance(augmenter, Augmenter)
        augmenter._compose.set_random_state = lambda *_: None
        answers = [int(a) for a in DataLoader(Noisy(augmenter), batch_size=None, num_workers=2)]
        assert answers[::2] == answers[1::2]

    def test_2_labels_are_gathered_exactly(self) -> None:
        labels = np.array([908800474297, 16777217, 2**53 + 1], dtype=np.int64)
        boxes = np.array([[0, 0, 5, 5], [10, 10, 20, 20], [30, 30, 60, 60]], dtype=np.float32)
        result = recipe(scale_min=1.0, scale_max=1.0, min_side=4.0)(street(), boxes)
        assert result.kept.dtype == np.int64
        assert labels[result.kept].tolist() == [16777217, 2**53 + 1]

    @pytest.mark.parametrize(
        "box",
        [
            (119.99, 5, 120.01, 20),
            (-0.01, 5, 20, 20),
            (10, 10, 10, 30),
            (10, 10, 10.00001, 30),
            (130, 10, 150, 20),
            (20, 20, 10, 10),
            (0, 0, 120, 90),
            (-1e6, -1e6, 1e6, 1e6),
        ],
    )
    def test_3_no_box_raises(self, box: tuple[float, ...]) -> None:
        given_boxes = np.array([box, (30, 30, 60, 60)], dtype=np.float32)
        plain, coloured = recipe(min_visible=0.0), recipe(min_visible=0.0, color=0.1)
        for augmenter in (plain, coloured, recipe(scale_min=1.9, extra=(Transform("Affine", {"p": 1.0}),))):
            for _ in range(10):
                result = augmenter(street(), given_boxes)
                sides = result.boxes_xyxy[:, 2:] - result.boxes_xyxy[:, :2]
                assert (sides >= 1).all()
                assert (result.boxes_xyxy >= 0).all()
                assert (result.boxes_xyxy <= [96, 64, 96, 64]).all()

    @pytest.mark.parametrize("color", [0.0, 0.1])  # without albumentations, and with it
    def test_4_a_pickled_adapter_still_filters(self, color: float) -> None:
        # `A.from_dict(A.to_dict(pipeline))` forgets `filter_invalid_bboxes`; workers get the adapter by pickle.
        copy = pickle.loads(pickle.dumps(recipe(color=color)))
        for augmenter in (copy, recipe(color=color)):
            torch.manual_seed(1)
            result = augmenter(street(), np.array([[10, 10, 10, 30], [119.9, 5, 120.1, 20], [5, 5, 90, 80]]))
            assert result.kept.tolist() == [2]

    def test_5_masks_of_boxes_are_gathered_by_kept(self) -> None:
        boxes = numbered_boxes(50, size=90)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        result = recipe(scale_min=0.5, scale_max=0.5, hflip=0.0, min_side=4.0)(street(), boxes)
        assert 0 < len(result.kept) < 50
        found = (result.boxes_xyxy[:, 2] - result.boxes_xyxy[:, 0]) * (
            result.boxes_xyxy[:, 3] - result.boxes_xyxy[:, 1]
        )
        # 90 x 120 at half of the letter-box scale becomes 32 x 42.
        np.testing.assert_allclose(found, areas[result.kept] * (32 / 90) * (42 / 120), rtol=1e-3)

    def test_6_types_and_empty_results_are_stable(self) -> None:
        for boxes in (np.empty((0, 4)), [], [[10, 10, 10, 30]], [[10, 10, 40, 30]]):
            result = recipe(scale_min=1.0, scale_max=1.0)(street(), np.asarray(boxes, dtype=np.float32))
            assert result.boxes_xyxy.dtype == np.float32
            assert result.kept.dtype == np.int64
            assert result.boxes_xyxy.shape == (len(result.kept), 4)
            assert result.image.dtype == np.uint8
            assert result.image.shape == (64, 96, 3)

    @pytest.mark.parametrize("dtype", [np.int64, np.int32, bool])
    def test_6_masks_that_would_change_type_are_refused(self, dtype: type) -> None:
        assert recipe()(street(), numbered_boxes(1), np.zeros((90, 120), np.uint8)).mask.dtype == np.uint8
        with pytest.raises(TypeError, match="masks are uint8 labels"):
            recipe()(street(), numbered_boxes(1), np.zeros((90, 120), dtype))

    def test_7_what_is_outside_is_no_class(self) -> None:
        mask = np.full((90, 120), 3, dtype=np.uint8)
        turned = recipe(scale_min=0.5, scale_max=0.5, extra=(Transform("Rotate", {"limit": (30, 30), "p": 1.0}),))
        result = turned(street(), numbered_boxes(1), mask)
        assert set(np.unique(result.mask)) == {3, IGNORED}
        assert (result.mask[40:] == IGNORED).all()
        assert (result.mask[:32, :42] == IGNORED).any()
        np.testing.assert_array_equal(result.image[40:], np.broadcast_to(FILL, (24, 96, 3)))

    def test_8_and_9_boxes_survive_a_large_image(self) -> None:
        box = np.array([[0, 0, 4096, 4096], [1.5, 2.25, 4095.5, 4000.125]], dtype=np.float32)
        image = np.zeros((4096, 4096, 3), np.uint8)
        same = Augmenter([library().HorizontalFlip(p=0.0)], (4096, 4096), FILL)(image, box)
        np.testing.assert_allclose(same.boxes_xyxy, box, atol=1e-3)

    def test_10_colour_alone_does_not_warn(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            augmenter = Augmenter([library().ToGray(p=1.0)], (90, 120), FILL)
            result = augmenter(street(), numbered_boxes(3))
        np.testing.assert_allclose(result.boxes_xyxy, numbered_boxes(3).clip(0, [120, 90, 120, 90]), atol=1e-3)


def extent(found: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


class TestGeometry:
    @settings(max_examples=60, deadline=None)
    @given(
        corner=st.tuples(st.integers(0, 80), st.integers(0, 60)),
        size=st.tuples(st.integers(16, 40), st.integers(16, 30)),
        seed=st.integers(0, 2**31),
    )
    def test_boxes_masks_and_pixels_stay_together(
        self, corner: tuple[int, int], size: tuple[int, int], seed: int
    ) -> None:
        left, top = corner
        right, bottom = left + size[0], top + size[1]
        image = np.full((90, 120, 3), 40, dtype=np.uint8)
        mask = np.zeros((90, 120), dtype=np.uint8)
        image[top:bottom, left:right] = MAGENTA
        mask[top:bottom, left:right] = 1
        box = np.array([[left, top, right, bottom]], dtype=np.float32)
        box = box.clip(0, [120, 90, 120, 90]).astype(np.float32)
        torch.manual_seed(seed)
        result = recipe(scale_min=0.4, scale_max=2.0, min_side=3.0, min_visible=0.0)(image, box, mask)
        for row in result.boxes_xyxy:
            # Halfway between the rectangle and its surroundings runs the edge.
            np.testing.assert_allclose(extent(result.image[..., 0] > 150), row, atol=1.5)
            np.testing.assert_allclose(extent(result.mask == 1), row, atol=1.5)
        if not len(result.kept) and (result.mask == 1).any():
            assert min(np.diff(extent(result.mask == 1).reshape(2, 2), axis=0)[0]) <= 4

    def test_flipping_twice_changes_nothing(self) -> None:
        flip = Augmenter([library().HorizontalFlip(p=1.0)], (90, 120), FILL)
        boxes = numbered_boxes(20, size=90)
        once = flip(street(), boxes)
        np.testing.assert_array_equal(once.image, street()[:, ::-1])
        np.testing.assert_allclose(once.boxes_xyxy[:, [2, 0]], 120 - boxes[once.kept][:, [0, 2]], atol=1e-3)
        twice = flip(once.image, once.boxes_xyxy)
        np.testing.assert_array_equal(twice.image, street())
        np.testing.assert_allclose(twice.boxes_xyxy, boxes[once.kept], atol=1e-3)

    def test_scale_one_is_the_letterbox_of_prediction(self) -> None:
        letterbox = Letterbox.fit((90, 120), (64, 96))
        boxes = numbered_boxes(10, size=90)
        result = recipe(scale_min=1.0, scale_max=1.0, hflip=0.0, min_side=0.0)(street(), boxes)
        # But for the roundings of training's own resampler.
        assert np.abs(result.image.astype(int) - letterbox.apply(street(), FILL)).max() <= 2
        np.testing.assert_allclose(result.boxes_xyxy, letterbox.to_canvas(boxes), atol=0.5)

    def test_scales_and_flips_spread_as_asked(self) -> None:
        torch.manual_seed(0)
        box = np.array([[0, 0, 60, 90]], dtype=np.float32)
        results = [recipe(scale_max=1.0, min_side=0.0)(street(), box) for _ in range(400)]
        heights = np.array([result.boxes_xyxy[0, 3] for result in results]) / 64
        assert heights.min() < 0.13
        assert heights.max() > 0.95
        assert abs(heights.mean() - 0.55) < 0.05
        flipped = np.mean([result.boxes_xyxy[0, 0] > 0 for result in results])
        assert abs(flipped - 0.5) < 0.1

    def test_crops_lie_anywhere(self) -> None:
        torch.manual_seed(0)
        ramp = np.repeat(np.arange(240, dtype=np.uint8)[None, :, None], 160, axis=0).repeat(3, axis=2)
        twice = Recipe(hflip=0.0, scale_min=2.0, scale_max=2.0).build((160, 240), FILL)
        starts = [int(twice(ramp, numbered_boxes(0)).image[0, 0, 0]) for _ in range(200)]
        assert min(starts) < 6
        assert max(starts) > 114
        assert 50 < np.mean(starts) < 70

    def test_slivers_are_dropped_by_their_visible_part(self) -> None:
        boxes = np.array([[0, 0, 120, 90]], dtype=np.float32)
        # Twice the letter-box scale on a canvas of the same aspect shows a quarter.
        for least, count in ((0.2, 1), (0.3, 0)):
            augmenter = Recipe(scale_min=2.0, min_visible=least).build((90, 120), FILL)
            assert len(augmenter(street(), boxes).kept) == count

    def test_larger_results_are_letterboxed(self) -> None:
        mask = np.tile(np.arange(120, dtype=np.uint8), (90, 1))
        result = Augmenter([library().HorizontalFlip(p=0.0)], (45, 60), FILL)(street(), numbered_boxes(3), mask)
        np.testing.assert_array_equal(result.image, Letterbox.fit((90, 120), (45, 60)).apply(street(), FILL))
        np.testing.assert_array_equal(result.mask, mask[1::2, 1::2])


class TestRecipe:
    def test_equal_seeds_give_equal_samples(self) -> None:
        augmenter = recipe(color=0.4, hue=0.05)
        results = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            results.append(augmenter(street(), numbered_boxes(5)))
        np.testing.assert_array_equal(results[0].image, results[1].image)
        np.testing.assert_array_equal(results[0].boxes_xyxy, results[1].boxes_xyxy)
        assert not np.array_equal(results[0].image, results[2].image)

    def test_colour_leaves_the_fill_alone(self) -> None:
        result = recipe(scale_min=0.5, scale_max=0.5, color=0.5, hue=0.2)(street(), numbered_boxes(0))
        np.testing.assert_array_equal(result.image[32:], np.broadcast_to(FILL, (32, 96, 3)))

    def test_parsed_from_yaml(self, tmp_path: Any) -> None:
        file = tmp_path / "recipe.yaml"
        file.write_text("aug:\n  scale_min: 0.5\n  extra:\n  - {name: VerticalFlip, args: {p: 1.0}}\n")
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--aug", type=Recipe, default=Recipe())
        parser.add_argument("--config", action="config")
        parsed = parser.instantiate(parser.parse_args(["--config", str(file), "--aug.hflip", "0"])).aug
        assert parsed == Recipe(hflip=0, scale_min=0.5, extra=(Transform("VerticalFlip", {"p": 1.0}),))
        box = np.array([[0, 0, 120, 30]], dtype=np.float32)
        flipped = Recipe(0, 1.0, 1.0, extra=parsed.extra).build((90, 120), FILL)(street(), box)
        np.testing.assert_array_equal(flipped.image, street()[::-1])
        np.testing.assert_allclose(flipped.boxes_xyxy, [[0, 60, 120, 90]], atol=1e-3)

    def test_own_transform_by_dotted_name(self) -> None:
        own = Recipe(0, 1.0, 1.0, extra=(Transform("albumentations.core.transforms_interface.NoOp"),))
        np.testing.assert_array_equal(own.build((90, 120), FILL)(street(), numbered_boxes(0)).image, street())

    @pytest.mark.parametrize(
        ("settings", "wording"),
        [
            ({"hflip": 1.5}, "augmentation.hflip is 1.5; allowed: 0 to 1"),
            ({"hue": 0.7}, "augmentation.hue is 0.7; allowed: 0 to 0.5"),
            ({"scale_min": 0.0}, "augmentation.scale_min is 0.0; allowed: a number above 0"),
            ({"scale_min": 3.0}, "scales are 3.0 to 2.0"),
            ({"extra": (Transform("GausianBlur"),)}, "no transform 'GausianBlur'. Did you mean 'GaussianBlur'?"),
            ({"extra": (Transform("no.such.Thing"),)}, "no transform 'no.such.Thing'"),
            ({"extra": (Transform("Rotate", {"degrees": 3}),)}, "transform 'Rotate' does not take"),
            ({"extra": (Transform("Rotate", {"p": 3}),)}, "transform 'Rotate' does not take"),
        ],
    )
    def test_what_cannot_be_is_refused(self, settings: dict[str, Any], wording: str) -> None:
        with pytest.raises(InputError) as caught:
            Recipe(**settings).build((32, 32), FILL)
        assert wording in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_torchvision_stands_in(self) -> None:
        v2 = importlib.import_module("torchvision.transforms.v2")
        sanitize = v2.SanitizeBoundingBoxes(labels_getter=lambda sample: sample[1]["kept"])
        transform = v2.Compose([v2.RandomHorizontalFlip(p=1.0), v2.CenterCrop((60, 80)), sanitize])
        boxes, mask = numbered_boxes(30, size=90), street()[..., 0].copy()
        found = TorchvisionAugmenter(transform, (64, 96), FILL)(street(), boxes, mask)
        same = [library().HorizontalFlip(p=1.0), library().CenterCrop(60, 80)]
        wanted = Augmenter(same, (64, 96), FILL)(street(), boxes, mask)
        np.testing.assert_array_equal(found.image, wanted.image)
        np.testing.assert_array_equal(found.mask, wanted.mask)
        np.testing.assert_array_equal(found.kept, wanted.kept)
        np.testing.assert_allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=1e-3)


@pytest.mark.parametrize("name", ["subprocess.Popen", "os.system", "builtins.eval", "pathlib.Path"])
def test_what_is_no_transform_is_not_made(name):
    """A config from someone else starts no program by an augmentation."""
    with pytest.raises(InputError, match="is no transform"):
        build_transform(Transform(name, {"args": ["false"]}))
