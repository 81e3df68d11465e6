"""Rows that stop a training are all named by the check, beside other faults; the rest of the set is looked at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from detection.checking.check import check, main
from detection.formats.found import read_set
from detection.formats.module import BoxSetModule
from engine.annotations.files import BrokenRow
from engine.checking.asked import Asked
from engine.errors import InputError
from tests.detection.formats.sets import WRITERS, write_coco, write_yolo
from tests.detection.formats.tool_sets import TOOLS
from tests.engine.checking.planted import cut

WRITERS_OF: dict[str, Callable[[Path], Path]] = WRITERS | {name: write for name, (_, write) in TOOLS.items()}


def replaced(file: str, old: str, new: str) -> Callable[[Path], None]:
    """What changes the first such text in a file."""

    def change(root: Path) -> None:
        text = (root / file).read_text()
        assert old in text, text
        (root / file).write_text(text.replace(old, new, 1))

    return change


def coco_rows(root: Path) -> None:
    file = root / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"] = [1, 2, float("nan"), 4]
    content["annotations"][1]["category_id"] = 77
    file.write_text(json.dumps(content))


# Two rows or objects of train that cannot be read, and the files they are in.
BREAKS: dict[str, tuple[list[str], tuple[Callable[[Path], None], ...]]] = {
    "coco": (["instances_train.json"] * 2, (coco_rows,)),
    "voc": (
        ["a1.xml", "a2.xml"],
        (replaced("Annotations/a1.xml", "<xmax>50</xmax>", ""), replaced("Annotations/a2.xml", "</annotation>", "")),
    ),
    "yolo": (
        ["a1.txt", "a2.txt"],
        (replaced("train/labels/a1.txt", "2 ", "9 "), replaced("train/labels/a2.txt", "1 ", "one ")),
    ),
    "csv": (
        ["boxes.csv"] * 2,
        (replaced("boxes.csv", "10,20,50,70", "10,20,5o,70"), replaced("boxes.csv", "bolt,5,6,25,46,train", "bolt,5")),
    ),
    "labelme": (
        ["a1.json", "a2.json"],
        (
            replaced("train/a1.json", '"shape_type": "rectangle"', '"shape_type": "star"'),
            replaced("train/a2.json", '"label": "bolt"', '"label": ["bolt"]'),
        ),
    ),
    "label_studio": (
        ["project-3.json"] * 2,
        (
            replaced("train/project-3.json", '"image_rotation": 0', '"image_rotation": 90'),
            replaced("train/project-3.json", '"value": {"x": 6.25', '"value": {"x": "left"'),
        ),
    ),
    "label_studio_min": (["min.json"], (replaced("train/min.json", '"x": 6.25', '"x": "left"'),)),
    "cvat": (
        ["annotations.xml"] * 2,
        (
            replaced("train/annotations.xml", 'xtl="10.00"', 'xtl="ten"'),
            replaced("train/annotations.xml", '<box label="bolt"', '<star label="bolt"'),
            replaced("train/annotations.xml", "</box></image></annotations>", "</star></image></annotations>"),
        ),
    ),
    "via": (
        ["via.json"] * 2,
        (
            replaced("train/via.json", '"name": "rect", "x": 10', '"name": "star", "x": 10'),
            replaced("train/via.json", '"x": 5', '"x": "five"'),
        ),
    ),
    "via_csv": (["via.csv"], (replaced("train/via.csv", '""rect"", ""x"": 10', 'rect, ""x"": 10'),)),
    "supervisely": (
        ["a1.png.json", "a2.png.json"],
        (
            replaced("train/ann/a1.png.json", '"geometryType": "rectangle"', '"geometryType": "star"'),
            lambda root: (root / "train/ann/a2.png.json").write_text('{"size": {"height": 4}, "objects": 1}'),
        ),
    ),
    "kitti": (
        ["a1.txt", "a2.txt"],
        (
            replaced("train/label_2/a1.txt", " 128.00 ", " wide "),
            replaced("train/label_2/a2.txt", " 9 -1.5", " 9"),
        ),
    ),
    "dota": (
        ["a1.txt", "a2.txt"],
        (
            replaced("train/labelTxt/a1.txt", "10.0 20.0 ", "ten 20.0 "),
            replaced("train/labelTxt/a2.txt", " bolt 0", ""),
        ),
    ),
    "openimages": (
        ["train-annotations-bbox.csv"] * 2,
        (
            replaced("train-annotations-bbox.csv", "0.078125,", "far,"),
            replaced("train-annotations-bbox.csv", "0.0625,", "62.5,"),
        ),
    ),
}  # fmt: skip
# What a whole image loses with one fault, in rows besides the two.
ALSO_LOST = {"label_studio": 1}


@pytest.mark.parametrize("name", BREAKS)
def test_every_broken_row_is_named_and_the_others_are_read(name: str, tmp_path: Path) -> None:
    root = WRITERS_OF[name](tmp_path / "set")
    clean = read_set(root).splits
    files, breaks = BREAKS[name]
    for change in breaks:
        change(root)
    with pytest.raises(InputError):
        read_set(root)
    broken: list[BrokenRow] = []
    found = read_set(root, broken=broken).splits
    assert sorted(Path(row.file).name for row in broken) == sorted(files), broken
    assert all(row.fault and not row.fault.startswith("'") for row in broken)
    left = 3 - len(files) - ALSO_LOST.get(name, 0)
    if name == "voc":
        left = 1  # the second file as a whole, of one box, and one of two boxes of the first
    assert len(found["train"].boxes_xywh) == left
    np.testing.assert_array_equal(found["val"].boxes_xywh, clean["val"].boxes_xywh)
    known = {tuple(box) for box in clean["train"].boxes_xywh.tolist()}
    assert {tuple(box) for box in found["train"].boxes_xywh.tolist()} <= known


def names_of(root: Path) -> list[tuple[str, str]]:
    return [(one.name, Path(one.file).name) for one in check(root).findings if one.severity == "error"]


def test_the_check_goes_on_and_the_copy_is_without_the_rows(tmp_path: Path) -> None:
    root = write_yolo(tmp_path / "set")
    for change in BREAKS["yolo"][1]:
        change(root)
    cut(root / "val/images/b1.png")
    assert set(names_of(root)) == {
        ("label.broken", "a1.txt"), ("label.broken", "a2.txt"), ("image.truncated", "b1.png"),
    }  # fmt: skip
    report = check(root, asked=Asked(fix=tmp_path / "out"))
    assert "  2 rows of labels that cannot be read were left out" in report.measures
    assert names_of(tmp_path / "out") == []
    assert "line 1: class 9, but there are 3" in "".join(one.detail for one in report.findings)


def test_an_unreadable_image_of_yolo_does_not_end_the_check(tmp_path: Path) -> None:
    """YOLO's fractions need the size of the image."""
    root = write_yolo(tmp_path / "set")
    (root / "train/images/a1.png").write_bytes(b"no image")
    with pytest.raises(InputError):
        read_set(root)
    assert names_of(root) == [("image.unreadable", "a1.png")]


def test_a_set_of_nothing_else_is_told_with_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = TOOLS["labelme"][1](tmp_path / "set")
    for file in root.rglob("*.json"):
        file.write_text('{"shapes": 1, "imagePath": "x"}' if file.stem != "a1" else '{"shapes": [{"label": 3}]}')
    assert main([str(root)]) == 1
    shown = capsys.readouterr().out
    assert "label.broken" in shown
    assert "labels.unusable" in shown


def test_files_of_coco_that_are_named_one_by_one(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "set")
    coco_rows(root)
    words = ["--data.root", str(root), "--data.train_images", "images"]
    words += ["--data.train_annotations", "annotations/instances_train.json", "--output", str(tmp_path / "found.json")]
    assert main(words) == 1
    rows = json.loads((tmp_path / "found.json").read_text())["findings"]
    details = [row["detail"] for row in rows if row["name"] == "label.broken"]
    assert len(details) == 2
    assert details[0].startswith("annotations[0] has the box [1.0, 2.0, nan, 4.0]")
    assert details[1].startswith("annotations[1]: category_id 77")
    strict = BoxSetModule(str(root), train_images="images", train_annotations="annotations/instances_train.json")
    with pytest.raises(InputError):  # a training ends at the first, as before
        strict.box_source("train")
