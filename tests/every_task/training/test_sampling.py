"""Images that come more often because of their classes: the shares that were asked for, and crops of the class."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from detection.data.module import CocoDataModule
from detection.data.tiles.options import TrainingTiles
from engine.data.sampling.settings import BoxSampling, MaskSampling
from segmentation.data.augment import SegmentationAugmentation
from segmentation.data.dataset import TrainingCrops
from segmentation.data.mask_folder import FolderData
from segmentation.data.module import SegmentationDataModule
from tests.detection.small import command
from tests.engine.data.sampling.test_repeats import drawn_by_class, lvis
from tests.every_task import watching


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """A folder of 64 x 64 pictures with masks: class 0 everywhere, a spot of class 1 in the last one of six."""
    folder = tmp_path_factory.mktemp("cells")
    generator = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for number in range(6):
        mask = np.zeros((64, 64), np.uint8)
        if number == 5:
            mask[40:44, 9:13] = 1
        Image.fromarray(mask).save(folder / f"masks/{number}.png")
        pixels = generator.integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"images/{number}.png")
    return folder


def spots(folder, sampling, repeat=1):
    """A data module of the cells, begun."""
    data = SegmentationDataModule(
        "folder",
        str(folder),
        folder=FolderData(train_images="images", train_masks="masks", classes=("background", "spot")),
        crop_size=33,
        batch_size=2,
        num_workers=0,
        augmentation=SegmentationAugmentation(scale_min=1.0, scale_max=1.0),
        repeat=repeat,
        sampling=sampling,
    )
    data.setup("fit")
    return data


def shown(data, steps):
    """The share of the crops that show the spot."""
    loader = iter(data.train_dataloader())
    crops = []
    while len(crops) < 2 * steps:
        try:
            crops += [bool((ids == 1).any()) for ids in next(loader).class_ids]
        except StopIteration:
            loader = iter(data.train_dataloader())
    return sum(crops) / len(crops)


def test_crops_show_the_class_that_they_are_taken_for(cells):
    plain = shown(spots(cells, MaskSampling()), 60)
    wanted = shown(spots(cells, MaskSampling("class_balanced")), 60)
    # One picture of six has it, and about a quarter of its crops would; of the balanced half, nearly all do.
    assert plain < 0.12
    assert wanted > 0.4


def test_repeat_means_what_it_did(cells):
    assert len(spots(cells, MaskSampling(), repeat=4).train_dataloader()) == 12
    data = spots(cells, MaskSampling("repeat_factor", threshold=0.5), repeat=4)
    expected = 4 * sum(lvis(np.array([[1, 0]] * 5 + [[1, 1]]), 0.5))
    assert len(data.train_dataloader()) == int(np.ceil(expected)) // 2


def test_boxes_are_balanced_as_a_class_and_then_an_image(sets):
    root = sets / "detection/scenes"
    data = CocoDataModule(
        str(root),
        train_images="leftImg8bit/train",
        train_annotations="annotations/instances_train.json",
        image_size=64,
        batch_size=3,
        num_workers=0,
        sampling=BoxSampling("class_balanced"),
    )
    data.setup("fit")
    source = data.box_source("train")
    table = np.zeros((6, len(source.classes)))
    for image in range(6):
        for box in range(*source.box_ends[image : image + 2]):
            width, height = source.boxes_xywh[box, 2:]
            table[image, source.class_ids[box]] += width > 0 and height > 0 and not source.crowd[box]
    loader = data.train_dataloader()
    some = int(table.any(1).sum())
    expected = np.where(table.any(1), drawn_by_class(table, np.ones(table.shape[1])) * some, 1.0)
    assert loader.mixture.repeats[0].counts == pytest.approx(expected)
    counts = Counter(draw.place for step in range(600) for draw in loader.mixture.at(step))
    assert [counts[place] / 300 for place in range(6)] == pytest.approx(expected, abs=0.05)
    assert max(expected) > 1.2


def test_tiles_are_taken_for_what_they_show(sets):
    root = sets / "detection/scenes"
    data = CocoDataModule(
        str(root),
        train_images="leftImg8bit/train",
        train_annotations="annotations/instances_train.json",
        image_size=64,
        batch_size=2,
        num_workers=0,
        tiles=TrainingTiles(window=64),
        sampling=BoxSampling("repeat_factor", threshold=1.0),
    )
    (tiles,) = data.training_sets()
    labels = tiles.labels()
    assert labels.samples == len(tiles)
    seen = np.zeros((len(tiles), len(data.train_classes())), bool)
    seen[labels.sample_ids, labels.class_ids] = True
    assert seen[: len(tiles.full)].any(1).all()
    assert not seen[len(tiles.full) :].any()
    # A tile that is not moved shows these classes, and no others.
    tiles._moved = lambda index, number: tiles.tiles.area(number)
    tiles.augmenter = lambda image, boxes: (image, boxes, np.arange(len(boxes)), None)
    for index in range(len(tiles.full)):
        assert set(np.flatnonzero(seen[index])) == set(tiles[index].class_ids.tolist())


def test_masks_that_cannot_be_read_show_nothing(cells, tmp_path):
    (tmp_path / "images").symlink_to(cells / "images")
    (tmp_path / "masks").mkdir()
    for path in (cells / "masks").iterdir():
        (tmp_path / "masks" / path.name).write_bytes(b"no" if path.stem == "5" else path.read_bytes())
    data = SegmentationDataModule(
        "folder",
        str(tmp_path),
        folder=FolderData(train_images="images", train_masks="masks", classes=("background", "spot")),
        crop_size=33,
        batch_size=2,
    )
    (crops,) = data.training_sets()
    assert isinstance(crops, TrainingCrops)
    assert sorted(set(crops.labels().sample_ids.tolist())) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--data.sampling.name often", "data.sampling.name"),
        ("--data.sampling.threshold 0.5", "sampling.threshold is for name repeat_factor"),
    ],
)
@pytest.mark.parametrize("task", ["detection", "joint"], indirect=True)
def test_wrong_choices_are_one_line(task, words, told):
    said = command(f"fit --config small.yaml {words}", watching.find_task(task))
    assert said.code == 2
    assert told in said.err
