"""The BCCD blood cells as COCO, as Pascal VOC, and in forms made of the COCO: one set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from detection.formats.convert_data import convert_data
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


@pytest.fixture
def tool_forms(real_data: Path, tmp_path: Path) -> dict[str, Path]:
    """The set as the files of LabelMe and CVAT, written here, and of `convert-data`."""
    source = real_data / "bccd"
    roots = {word: tmp_path / word for word in ("labelme", "cvat")}
    for split in SPLITS:
        content = json.loads((source / f"instances_{split}.json").read_text())
        for root in roots.values():
            (root / split).mkdir(parents=True)
        body = ""
        for image in content["images"]:
            name, width, height = image["file_name"], image["width"], image["height"]
            for root in roots.values():
                (root / split / name).symlink_to(source / "images" / name)
            shapes, xml = [], ""
            for found in content["annotations"]:
                if found["image_id"] != image["id"]:
                    continue
                x, y, w, h = found["bbox"]
                label = NAMES[found["category_id"] - 1]
                shapes.append({"label": label, "shape_type": "rectangle", "points": [[x + w, y + h], [x, y]]})
                sides = f'xtl="{x:.2f}" ytl="{y:.2f}" xbr="{x + w:.2f}" ybr="{y + h:.2f}"'
                xml += f'<box label="{label}" {sides} z_order="0"/>'
            body += f'<image id="0" name="{name}" width="{width}" height="{height}">{xml}</image>'
            labelme = {"version": "5.4.1", "shapes": shapes, "imagePath": name, "imageData": None}
            labelme |= {"imageHeight": height, "imageWidth": width}
            (roots["labelme"] / split / f"{Path(name).stem}.json").write_text(json.dumps(labelme))
        labels = "".join(f"<label><name>{name}</name></label>" for name in NAMES)
        meta = f"<version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"
        (roots["cvat"] / split / "annotations.xml").write_text(f"<annotations>{meta}{body}</annotations>")
    (roots["labelme"] / "labels.txt").write_text("\n".join(NAMES))
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


def test_bccd_is_the_same_set_in_the_files_of_tools(
    forms: dict[str, Path], tool_forms: dict[str, Path], tmp_path: Path
) -> None:
    expected = read_set(forms["coco"])
    convert_data(tool_forms["cvat"], tmp_path / "back", to="labelme", images="copy")
    for root in (*tool_forms.values(), tmp_path / "back"):
        found = read_set(root)
        assert list(found.splits) == list(SPLITS)
        for split in SPLITS:
            same(found.splits[split], expected.splits[split])


def test_bccd_trains_the_same_for_20_steps(forms: dict[str, Path], tool_forms: dict[str, Path]) -> None:
    forms |= tool_forms
    weights = {word: trained(root, steps=20) for word, root in forms.items()}
    for word in ("voc", "yolo", "labelme", "cvat"):
        assert all(torch.equal(one, other) for one, other in zip(weights["coco"], weights[word], strict=True)), word
