"""Augmented images by stages, balanced orders, and labels in the model's rows."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from classification.data.augment import ClassificationAugmentation
from classification.data.classes import LabelClasses
from classification.data.dataset import GrowingImages, LabelledImage, LabelledImages, collate_training, model_targets
from classification.data.framing import Framing
from classification.data.module import ClassificationDataModule
from classification.data.sources import LabelledFiles
from classification.training.progressive import Progressive
from engine.data.loader import seeded
from engine.errors import InputError

FRAMING = Framing(64, 0.875, "center", "bicubic", (0.5, 0.5, 0.5))
IMAGE = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_an_evaluated_image_is_timms(mode):
    framing = Framing(48, 0.9, mode, "bicubic", (0.4, 0.5, 0.6))
    theirs = create_transform(
        48, is_training=False, use_prefetcher=True, crop_pct=0.9, crop_mode=mode, interpolation="bicubic",
        mean=(0.4, 0.5, 0.6),
    )  # fmt: skip
    expected = np.asarray(theirs(Image.fromarray(IMAGE))).transpose(1, 2, 0)
    assert np.array_equal(pickle.loads(pickle.dumps(framing))(IMAGE).numpy(), expected)


def test_a_training_image_is_timms():
    augmentation = ClassificationAugmentation(area_min=0.3, policy="rand-m9-mstd0.5-inc1", vflip=0.5)
    stage = Progressive(2, magnitude=(4, 9)).stage(0, 64)
    mine = augmentation.build(stage, FRAMING)
    theirs = create_transform(
        64, is_training=True, use_prefetcher=True, scale=(0.3, 1.0), ratio=(3 / 4, 4 / 3), hflip=0.5, vflip=0.5,
        color_jitter=0.4, auto_augment="rand-m4-mstd0.5-inc1", interpolation="bicubic", mean=(0.5, 0.5, 0.5),
    )  # fmt: skip
    for seed in range(5):
        with seeded(seed):
            expected = np.asarray(theirs(Image.fromarray(IMAGE))).transpose(1, 2, 0)
        with seeded(seed):
            assert np.array_equal(mine(IMAGE).numpy(), expected)


class Plain(list):
    """Samples that are all readable."""


def growing(progressive: Progressive, passes: float | None = None) -> GrowingImages:
    plain = Plain(LabelledImage(torch.from_numpy(IMAGE), torch.tensor(number)) for number in range(8))
    stages = [progressive.stage(number, 64) for number in range(progressive.stages)]
    images = GrowingImages(plain, [ClassificationAugmentation().build(stage, FRAMING) for stage in stages], progressive)
    if passes is not None:
        images.close_after(passes)
    return images


def test_images_grow_with_the_passes():
    images = growing(Progressive(3, image_size=(32, 64)), passes=6.0)
    sides = [images.at(0, visit).image.shape[0] for visit in range(7)]
    assert sides == [32, 32, 48, 48, 64, 64, 64]
    assert growing(Progressive(3, image_size=(32, 64))).at(0, 0).stage == 2  # without an end, as the last
    batch = collate_training([images.at(place, visit) for place, visit in ((0, 1), (1, 1), (2, 2))])
    assert batch.images.shape == (3, 3, 32, 32)
    assert batch.stage == 0
    assert batch.targets.tolist() == [0, 1, 2]
    assert growing(Progressive()).at(3, 0).image.shape == (64, 64, 3)


def test_stages_are_those_of_the_paper():
    """Table 6 of arXiv 2104.00298: the first and the last stage of S, L."""
    small = Progressive(4, (128, 300), (5, 15), (0, 0), (0.1, 0.3))
    assert [small.stage(number, 384).image_size for number in range(4)] == [128, 185, 243, 300]
    assert [small.stage(number, 384).dropout for number in range(4)] == pytest.approx([0.1, 1 / 6, 0.7 / 3, 0.3])
    large = Progressive(4, (128, 380), (5, 25), (0, 0.5), (0.1, 0.5))
    last = large.stage(3, 480)
    assert (last.image_size, last.magnitude, last.mixup, last.dropout) == (380, 25, 0.5, 0.5)
    assert last.policy("rand-m9-n2") == "rand-m25-n2"


def test_labels_for_the_sampling_are_those_of_the_images():
    one = LabelledImages(source(("a", "b"), np.array([1, 0, 1])), LabelClasses(("b", "a")))
    assert one.labels().class_ids.tolist() == [0, 1, 0]
    assert one.labels().samples == 3
    marks = np.array([[1, 0], [1, 1], [0, 0]], np.float32)
    several = LabelledImages(source(("a", "b"), marks, several=True), LabelClasses(("a", "b"), True)).labels()
    assert list(zip(several.sample_ids.tolist(), several.class_ids.tolist(), strict=True)) == [(0, 0), (1, 0), (1, 1)]


def source(names: tuple[str, ...], targets: np.ndarray, several: bool = False) -> LabelledFiles:
    return LabelledFiles("set", LabelClasses(names, several), [Path("x")] * len(targets), targets)


def test_labels_are_matched_by_name():
    files = source(("Traffic Light", "car"), np.array([0, 1, 1]))
    assert model_targets(files, LabelClasses(("bus", "car", "traffic_light"))).tolist() == [2, 1, 1]
    marked = source(("b", "a"), np.array([[1, 0], [1, 1]], np.float32), several=True)
    assert model_targets(marked, LabelClasses(("a", "b", "c"), True)).tolist() == [[0, 1, 0], [1, 1, 0]]
    with pytest.raises(InputError, match=r"does not know, such as 'vann'.*Did you mean 'van'"):
        model_targets(source(("car", "vann"), np.array([0])), LabelClasses(("car", "van")))
    with pytest.raises(InputError, match="have one label, but the model gives several labels"):
        model_targets(files, LabelClasses(("car", "van"), True))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"area_min": 0.9, "area_max": 0.5}, "area_min <= area_max"),
        ({"ratio_max": 0.5}, "must be at least 1"),
        ({"policy": "autoo"}, "timm does not know"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, says):
    with pytest.raises(InputError, match=says):
        ClassificationAugmentation(**options)


def test_batches_do_not_depend_on_workers(color_set):
    def batches(workers):
        data = ClassificationDataModule(root=str(color_set / "colors"), batch_size=6, num_workers=workers)
        data.setup("fit")
        loader = data.train_dataloader()
        return [(batch.images, batch.targets) for _ in range(2) for batch in loader]

    for (images, targets), (others, theirs) in zip(batches(0), batches(2), strict=True):
        assert torch.equal(images, others)
        assert torch.equal(targets, theirs)
