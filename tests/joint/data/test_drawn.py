"""Boxes and masks of objects that an annotation tool has drawn: one set, read once, in equal splits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.errors import InputError
from joint.data.files import BoxFiles, MaskFiles
from joint.data.module import JointDataModule
from segmentation.data.drawn.masks import DrawnData
from tests.joint.sets import LOADING

SIZE_HW = (40, 60)
OBJECTS = {  # left, top, right, bottom, of whole pixels
    "a.png": (("bolt", (5, 5, 30, 25)), ("nut", (40, 10, 55, 30))),
    "b.png": (("bolt", (0, 0, 10, 40)),),
    "c.png": (("nut", (20, 3, 21, 9)), ("nut", (30, 3, 44, 39))),
    **{f"{letter}.png": (("bolt", (9, 9, 20, 30)),) for letter in "defghijklmnop"},
}


def write_set(root: Path, splits: dict[str, tuple[str, ...]]) -> Path:
    """A COCO set of polygons, whose boxes are those of the polygons."""
    for split, names in splits.items():
        (root / split).mkdir(parents=True)
        images, annotations = [], []
        for number, name in enumerate(names, 1):
            pixels = np.random.default_rng(ord(name[0])).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / name)
            images.append({"id": number, "file_name": name, "height": SIZE_HW[0], "width": SIZE_HW[1]})
            for label, (left, top, right, bottom) in OBJECTS[name]:
                ring = [left, top, right, top, right, bottom, left, bottom]
                box = [left, top, right - left, bottom - top]
                entry = {"id": len(annotations) + 1, "image_id": number, "segmentation": [ring], "bbox": box}
                category = ["bolt", "nut"].index(label) + 1
                annotations.append(entry | {"category_id": category, "iscrowd": 0, "area": box[2] * box[3]})
        categories = [{"id": 1, "name": "bolt"}, {"id": 2, "name": "nut"}]
        document = {"images": images, "annotations": annotations, "categories": categories}
        (root / split / "_annotations.coco.json").write_text(json.dumps(document))
    return root


def data_of(root: Path, drawn: DrawnData = DrawnData()) -> JointDataModule:
    return JointDataModule("both", str(root), BoxFiles(), MaskFiles(format="drawn", drawn=drawn), **LOADING)


def test_one_set_gives_boxes_and_masks(tmp_path: Path) -> None:
    data = data_of(write_set(tmp_path / "set", {"train": ("a.png", "c.png"), "valid": ("b.png",)}))
    assert data.classes.names == ("bolt", "nut")
    assert data.segmentation_classes.names == ("background", "bolt", "nut")
    assert [data.has(split) for split in ("train", "val", "test")] == [True, True, False]
    (images,) = data.whole_sets("val")
    sample = images[0]
    rows = np.zeros(SIZE_HW, np.uint8)
    rows[0:40, 0:10] = 1
    assert np.array_equal(sample.truth, rows)
    assert sample.labelled.class_ids.tolist() == [0]
    assert (sample.labelled.boxes_xyxy / sample.labelled.scale).tolist() == [pytest.approx([0, 0, 10, 40])]
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch.boxed.all()
    assert batch.masked.all()


def test_shares_part_boxes_and_masks_alike(tmp_path: Path) -> None:
    """Each image that has a mask in a split has its boxes there too; a set without splits is parted once."""
    root = write_set(tmp_path / "set", {"images": tuple(OBJECTS)})
    data = data_of(root, DrawnData(split="0.5/0.25/0.25"))
    seen = []
    for split in ("train", "val", "test"):
        masks = [pair.image.name for pair in data.mask_source(split).pairs]
        source = data.box_source(split)
        assert sorted(masks) == sorted(source.image_path(place).name for place in range(len(source.image_ids)))
        seen += masks
    assert sorted(seen) == sorted(OBJECTS)


def test_a_set_of_boxes_alone_is_refused(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", {"train": ("a.png",)})
    path = root / "train" / "_annotations.coco.json"
    document = json.loads(path.read_text())
    for entry in document["annotations"]:
        del entry["segmentation"]
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="boxes alone"):
        data_of(root).mask_source("train")
