"""The same set as the files of annotation tools and public data sets: the arrays of COCO."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from detection.formats.collected import ReadOptions
from detection.formats.found import read_set
from tests.detection.formats.sets import NAMES, write_coco
from tests.detection.formats.test_same_set import same
from tests.detection.formats.tool_sets import TOOLS

SIZED = {"labelme", "cvat", "supervisely"}  # whose files say how large each image is
ORDERED = {"labelme", "cvat", "supervisely"}  # whose files have an order of classes


@pytest.mark.parametrize("word", TOOLS)
def test_arrays_are_those_of_coco(word: str, tmp_path: Path) -> None:
    name, write = TOOLS[word]
    coco = read_set(write_coco(tmp_path / "coco"))
    options = ReadOptions() if word in ORDERED else ReadOptions(classes=NAMES)
    found = read_set(write(tmp_path / "set"), None, options)
    images, val = (3, 1) if word == "openimages" else (4, 2)  # whose tables name no image without a box
    assert found.line() == f"{name}, {images} images, 3 classes, 5 boxes (train 2, val {val})"
    assert list(found.splits) == ["train", "val"]
    for split, table in found.splits.items():
        expected = coco.splits[split]
        if word == "openimages" and split == "val":
            np.testing.assert_array_equal(table.boxes_xywh, expected.boxes_xywh)
            np.testing.assert_array_equal(table.class_ids, expected.class_ids)
            continue
        if word not in SIZED:
            known = table.sizes_hw.any(axis=1)
            np.testing.assert_array_equal(table.sizes_hw[known], expected.sizes_hw[known])
            expected = dataclasses.replace(expected, sizes_hw=table.sizes_hw)
        same(table, expected)
        assert all(table.image_path(place).is_file() for place in range(len(table)))


@pytest.mark.parametrize("word", sorted(TOOLS.keys() - ORDERED))
def test_classes_without_an_order_are_sorted(word: str, tmp_path: Path) -> None:
    found = read_set(TOOLS[word][1](tmp_path))
    assert all(table.classes.names == tuple(sorted(NAMES)) for table in found.splits.values())
