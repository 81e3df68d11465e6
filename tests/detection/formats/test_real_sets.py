"""The BCCD blood cells as COCO, as Pascal VOC, and as a YOLO form made of the COCO: one set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from detection.formats.found import read_set
from tests.detection.formats.test_same_set import same, trained

pytestmark = pytest.mark.real
NAMES = ("RBC", "WBC", "Platelets")
SPLITS = ("train", "val", "test")
FLAT = {"BloodImage_00338.jpg", "BloodImage_00343.jpg"}  # with a box without area, in the XML alone


@pytest.fixture
def forms(real_data: Path, tmp_path: Path) -> dict[str, Path]:
    """The folders of the three forms; images are links."""
    source = real_data / "bccd"
    content = {split: json.loads((source / f"instances_{split}.json").read_text()) for split in SPLITS}
    roots = {word: tmp_path / word for word in ("coco", "voc", "yolo")}
    for word, images in (("coco", "images"), ("voc", "JPEGImages"), ("yolo", "images")):
        roots[word].mkdir()
        (roots[word] / images).symlink_to(source / "images")
    (roots["voc"] / "Annotations").symlink_to(source / "voc")
    (roots["voc"] / "ImageSets/Main").mkdir(parents=True)
    (roots["voc"] / "classes.txt").write_text("\n".join(NAMES))
    (roots["yolo"] / "labels").mkdir()
    yaml = [f"names: [{', '.join(NAMES)}]"]
    for split, found in content.items():
        names = [image["file_name"] for image in found["images"]]
        (roots["coco"] / f"{split}.json").symlink_to(source / f"instances_{split}.json")
        (roots["voc"] / f"ImageSets/Main/{split}.txt").write_text("\n".join(Path(name).stem for name in names))
        (roots["yolo"] / f"{split}.txt").write_text("\n".join(f"./images/{name}" for name in names))
        yaml.append(f"{split}: {split}.txt")
        for image in found["images"]:
            width, height = image["width"], image["height"]
            rows = [
                (a["category_id"] - 1, (x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
                for a in found["annotations"] if a["image_id"] == image["id"]
                for x, y, w, h in [a["bbox"]]
            ]  # fmt: skip
            text = "\n".join(" ".join(map(repr, row)) for row in rows)
            (roots["yolo"] / f"labels/{Path(image['file_name']).stem}.txt").write_text(text)
    (roots["yolo"] / "data.yaml").write_text("\n".join(yaml))
    return roots


def test_bccd_is_the_same_set_in_three_formats(forms: dict[str, Path]) -> None:
    found = {word: read_set(root) for word, root in forms.items()}
    assert found["voc"].line() == "Pascal VOC, 364 images, 3 classes, 4,888 boxes (train 205, val 87, test 72)"
    assert found["coco"].line().startswith("COCO, 364 images, 3 classes, 4,886 boxes")
    for split in SPLITS:
        tables = {word: one.splits[split] for word, one in found.items()}
        same(tables["coco"], tables["yolo"])
        voc, whole = tables["voc"], tables["coco"]
        flat = np.flatnonzero((voc.boxes_xywh[:, 2:] == 0).any(axis=1))
        images = np.repeat(np.arange(len(voc)), np.diff(voc.box_ends))
        assert {voc.image_path(int(images[row])).name for row in flat} <= FLAT
        for column in ("boxes_xywh", "class_ids", "areas", "crowd"):
            np.testing.assert_array_equal(np.delete(getattr(voc, column), flat, 0), getattr(whole, column))
        np.testing.assert_array_equal(
            np.delete(images, flat), np.repeat(np.arange(len(whole)), np.diff(whole.box_ends))
        )
        np.testing.assert_array_equal(voc.sizes_hw, whole.sizes_hw)
        assert voc.classes == whole.classes


def test_bccd_trains_the_same_for_20_steps(forms: dict[str, Path]) -> None:
    weights = {word: trained(root, steps=20) for word, root in forms.items()}
    for word in ("voc", "yolo"):
        assert all(torch.equal(one, other) for one, other in zip(weights["coco"], weights[word], strict=True)), word
