"""Published policies: colours as Pillow's, boxes and masks on their pixels, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from engine.data.augment import IGNORED, Augmentation
from engine.data.policies.holes import around_hole
from engine.data.policies.pixels import change_pixels
from engine.data.policies.settings import BothPolicy, BoxPolicy, MaskPolicy
from engine.data.policies.tables import RANDOM, TABLES
from engine.errors import InputError

CANVAS = (96, 128)
FILL = (124, 116, 104)
COLORS = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250]], np.uint8)
BOXES = np.array([[10, 12, 40, 44], [60, 8, 110, 36], [30, 56, 90, 88]], np.float32)
MOVING = ("translate_x", "translate_y", "shear_x", "shear_y", "rotate")


def picture() -> tuple[np.ndarray, np.ndarray]:
    """Three one-coloured boxes on grey, and a mask with the row of each; the ground is row 3."""
    image = np.full((*CANVAS, 3), 128, np.uint8)
    mask = np.full(CANVAS, 3, np.uint8)
    for row, (left, top, right, bottom) in enumerate(BOXES.astype(int)):
        image[top:bottom, left:right] = COLORS[row]
        mask[top:bottom, left:right] = row
    return image, mask


def hulls(image: np.ndarray, row: int) -> np.ndarray | None:
    """The box around the pixels of an object's colour."""
    found = np.argwhere((np.abs(image.astype(int) - COLORS[row]) < 60).all(-1))
    return None if not len(found) else np.concatenate([found.min(0)[::-1], found.max(0)[::-1] + 1])


def built(seed: int = 0, **options):
    torch.manual_seed(seed)
    return Augmentation(**options).build(CANVAS, FILL)


def one_change(change: str, level: float):
    """The augmentation with a single change, made by a policy's own way."""
    from engine.data.augment import Augmenter, albumentations_library

    albumentations_library()
    from engine.data.policies.build import Builder
    from engine.data.policies.tables import Step

    return Augmenter([Builder(CANVAS, FILL, IGNORED).step(Step(change, 1.0, level))], CANVAS, FILL, min_side=0.0)


@pytest.mark.parametrize("change", MOVING)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_moved_boxes_hold_the_moved_pixels(change, seed):
    """The box of an object is the hull of its moved corners, so that its pixels touch all that a parallelogram's do."""
    image, mask = picture()
    torch.manual_seed(seed)
    changed = one_change(change, 6.0)(image, BOXES, mask)
    assert not np.array_equal(changed.image, image)
    assert changed.mask is not None
    for box, row in zip(changed.boxes_xyxy, changed.kept, strict=True):
        seen = hulls(changed.image, int(row))
        assert seen is not None
        # The corner of a sheared or turned box is a single point, which interpolation pales.
        assert np.abs(seen - box).max() <= (1.5 if change.startswith("translate") else 2.5)
        there = np.argwhere(changed.mask == row)
        assert np.abs(np.concatenate([there.min(0)[::-1], there.max(0)[::-1] + 1]) - seen).max() <= 1.5
    beside = (np.abs(changed.image.astype(int) - FILL) <= 1).all(-1)
    assert ((changed.mask == IGNORED) != beside).sum() <= sum(CANVAS)  # only along the edge, whose pixels are blended


@pytest.mark.parametrize(("change", "level"), [("cutout", 4.0), ("box_cutout", 8.0)])
def test_what_a_hole_leaves_of_boxes_and_masks(change, level):
    image, mask = picture()
    for seed in range(8):
        torch.manual_seed(seed)
        changed = one_change(change, level)(image, BOXES, mask)
        assert changed.mask is not None
        hole = changed.mask == IGNORED
        assert (changed.image[hole] == FILL).all()
        assert np.array_equal(changed.image[~hole], image[~hole])
        for row, box in enumerate(BOXES):
            seen = hulls(changed.image, row)
            if seen is None:
                assert row not in changed.kept
                continue
            found = changed.boxes_xyxy[changed.kept == row][0]
            assert np.abs(found - seen).max() < 1e-3, (seed, row, box)


def test_the_hull_beside_a_hole_is_that_of_the_pixels():
    draw = np.random.default_rng(0)
    for _ in range(300):
        boxes = np.sort(draw.integers(0, 20, (4, 2, 2)), axis=1).reshape(4, 4).astype(np.float32)
        boxes[:, 2:] += 1
        hole = np.sort(draw.integers(0, 21, (2, 2)), axis=0).ravel().astype(float)
        for given, found in zip(boxes, around_hole(boxes, hole), strict=True):
            left, top, right, bottom = given.astype(int)
            pixels = np.zeros((22, 22), bool)
            pixels[top:bottom, left:right] = True
            pixels[int(hole[1]) : int(hole[3]), int(hole[0]) : int(hole[2])] = False
            there = np.argwhere(pixels)
            if not len(there):
                assert found[2] <= found[0] or found[3] <= found[1]
                continue
            np.testing.assert_array_equal(found, np.concatenate([there.min(0)[::-1], there.max(0)[::-1] + 1]))


def test_colours_are_pillows():
    image = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    plain = Image.fromarray(image)
    assert np.array_equal(change_pixels(image, "equalize", 0.0), ImageOps.equalize(plain))
    assert np.array_equal(change_pixels(image, "autocontrast", 0.0), ImageOps.autocontrast(plain))
    assert np.array_equal(change_pixels(image, "posterize", 3), image & 0b11100000)
    assert np.array_equal(change_pixels(image, "solarize", 100.0), np.where(image < 100, image, 255 - image))
    added = np.where(image < 128, np.minimum(image.astype(int) + 40, 255), image)
    assert np.array_equal(change_pixels(image, "solarize_add", 40), added)
    assert np.array_equal(change_pixels(image, "color", 1.4), ImageEnhance.Color(plain).enhance(1.4))
    assert np.array_equal(change_pixels(image, "sharpness", 1.0), image)


@pytest.mark.parametrize("name", ["randaugment", *TABLES])
def test_a_seed_gives_one_result_and_images_differ(name):
    image, _ = picture()
    augment = built(policy=BoxPolicy(name), erasing=0.5)
    answers = []
    for _ in range(2):
        torch.manual_seed(3)
        answers.append([augment(image, BOXES) for _ in range(6)])
    for one, other in zip(*answers, strict=True):
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.boxes_xyxy, other.boxes_xyxy)
        assert one.image.shape == (*CANVAS, 3)
        assert len(one.boxes_xyxy) <= len(BOXES)
    assert len({one.image.tobytes() for one in answers[0]}) > 2


def test_changes_inside_boxes_leave_the_rest():
    image, _ = picture()
    for change in ("inner_flip", "inner_translate_y", "inner_shear_x", "inner_equalize", "inner_cutout"):
        noisy = np.random.default_rng(2).integers(0, 256, image.shape, dtype=np.uint8)
        differing = np.zeros(CANVAS, bool)
        for seed in range(6):
            torch.manual_seed(seed)
            changed = one_change(change, 6.0)(noisy, BOXES)
            assert np.array_equal(changed.boxes_xyxy, BOXES)
            differing |= (changed.image != noisy).any(-1)
        inside = np.zeros(CANVAS, bool)
        for left, top, right, bottom in BOXES.astype(int):
            inside[top:bottom, left:right] = True
        assert differing[inside].any(), change
        assert not differing[~inside].any(), change


def test_erasing_is_noise_within_the_papers_shares():
    image, mask = picture()
    augment = built(erasing=1.0)
    shares = []
    for seed in range(60):
        torch.manual_seed(seed)
        changed = augment(image, BOXES, mask)
        assert changed.mask is not None
        there = changed.mask == IGNORED
        shares.append(there.mean())
        rows, columns = np.argwhere(there).max(0) - np.argwhere(there).min(0) + 1
        assert rows * columns == there.sum()
        assert 0.25 < rows / columns < 4
        assert np.array_equal(changed.image[~there], image[~there])
        assert changed.image[there].std() > 50
    assert 0.015 < min(shares) < 0.08
    assert 0.28 < max(shares) < 0.41


def test_a_policy_stays_as_it_is_published():
    """The numbers of sub-policies and changes of google/automl's tables, and the list of RandAugment."""
    assert {name: (len(table), sum(map(len, table))) for name, table in TABLES.items()} == {
        "v0": (5, 10), "v1": (20, 40), "v2": (15, 44), "v3": (15, 30),
    }  # fmt: skip
    assert len(RANDOM) == len(set(RANDOM)) == 10
    assert not any(step.change.startswith("inner") for name in ("v2", "v3") for chain in TABLES[name] for step in chain)


def test_amounts_without_randaugment_are_refused():
    with pytest.raises(InputError, match=r"policy\.level is 7\.0, but policy 'v0' has none"):
        BoxPolicy("v0", level=7)
    with pytest.raises(InputError, match="layers is 2, but policy 'none'"):
        MaskPolicy(layers=2)
    with pytest.raises(InputError, match="0 to 10"):
        BoxPolicy("randaugment", level=11)
    with pytest.raises(InputError, match="randaugment"):
        BothPolicy("v0")  # type: ignore[arg-type]
