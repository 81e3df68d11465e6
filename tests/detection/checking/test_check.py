"""Planted faults of boxes, images, classes and splits, each found by name and file; none in a clean set."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detection.checking.check import check, check_sources, main
from detection.data.boxes import BoxTable
from detection.data.classes import BoxClasses
from detection.network.family import architecture
from engine.checking.asked import Asked
from engine.checking.findings import CheckReport
from tests.detection.checking.sets import GOOD, clean_set, table
from tests.detection.formats.sets import write_coco
from tests.engine.checking.planted import FILE_FAULTS, pixels, postscript, resized

NETWORK = architecture("d0")


def found(splits: dict[str, BoxTable], **options: str) -> set[tuple[str, str]]:
    report = check_sources("set", splits, NETWORK, asked=Asked(**options))
    return {(one.name, Path(one.file).name) for one in report.findings}


def test_a_clean_set_has_no_finding(tmp_path: Path) -> None:
    assert found(clean_set(tmp_path)) == set()


NAN = float("nan")
BOX_FAULTS = {
    "nan": ("box.nan", (NAN, 5, 20, 20)),
    "infinite": ("box.nan", (5, 5, float("inf"), 20)),
    "no width": ("box.no_area", (5, 5, 0, 20)),
    "no height": ("box.no_area", (5, 5, 20, 0)),
    "negative": ("box.no_area", (5, 5, -3, 20)),
    "right of it": ("box.outside", (96, 5, 20, 20)),
    "below it": ("box.outside", (5, 70, 20, 20)),
    "left of it": ("box.outside", (-30, 5, 20, 20)),
    "over the right edge": ("box.over_edge", (90, 5, 20, 20)),
    "over the top": ("box.over_edge", (5, -8, 20, 20)),
    "tiny": ("box.tiny", (5, 5, 0.7, 20)),
    "slim": ("box.slim", (5, 5, 80, 1.2)),
    "huge": ("box.huge", (0, 0, 96, 64)),
    "twice": ("box.duplicate", GOOD[1]),
    "nearly twice": ("box.near_duplicate", (30.1, 30.0, 25.0, 20.0)),
}


@pytest.mark.parametrize("fault", BOX_FAULTS)
def test_a_fault_of_a_box(tmp_path: Path, fault: str) -> None:
    name, box = BOX_FAULTS[fault]
    splits = clean_set(tmp_path, train={2: (*GOOD, box)})
    assert found(splits) - {("anchors.unreached", "train")} == {(name, "2.png")}


def test_one_object_with_two_classes(tmp_path: Path) -> None:
    splits = clean_set(tmp_path, train={2: (GOOD[0], GOOD[1], (5.1, 5.0, 20.0, 20.0), (5.0, 5.1, 20.0, 20.0))})
    splits["train"].class_ids[6] = 1  # the third box of the second image
    assert found(splits) == {("box.two_classes", "2.png")}


def test_an_area_that_is_none_of_the_box(tmp_path: Path) -> None:
    splits = clean_set(tmp_path)
    splits["train"].areas[0] = 5000
    splits["val"].areas[1] = -1
    assert found(splits) == {("box.area", "1.png"), ("box.area", "21.png")}


@pytest.mark.parametrize("name", FILE_FAULTS)
def test_a_fault_of_a_file(tmp_path: Path, name: str) -> None:
    splits = clean_set(tmp_path)
    FILE_FAULTS[name](tmp_path / "train" / "2.png")
    assert found(splits) == {(name, "2.png")}


def test_an_image_of_another_size_than_annotated(tmp_path: Path) -> None:
    splits = clean_set(tmp_path)
    resized(tmp_path / "train" / "2.png")
    assert found(splits) == {("image.size", "2.png")}


def test_a_picture_of_another_program_is_not_opened(tmp_path: Path) -> None:
    splits = clean_set(tmp_path)
    postscript(tmp_path / "train" / "2.png")
    assert found(splits) == {("image.unreadable", "2.png")}


def test_a_picture_of_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = clean_set(tmp_path)
    Image.fromarray(np.zeros((200, 200), np.uint8)).save(tmp_path / "train" / "2.png")
    monkeypatch.setenv("EFFDENSE_MAX_PIXELS", "10000")
    assert found(splits) == {("image.large", "2.png")}


@pytest.mark.parametrize(("size", "name"), [((96, 20), "image.small"), ((1000, 40), "image.long")])
def test_a_picture_of_odd_size(tmp_path: Path, size: tuple[int, int], name: str) -> None:
    splits = clean_set(tmp_path, train={2: ((2.0, 3.0, 14.0, 14.0),)})
    Image.fromarray(pixels(2)).resize(size).save(tmp_path / "train" / "2.png")
    splits["train"].sizes_hw[1] = size[::-1]
    assert found(splits) - {("anchors.unreached", "train")} == {(name, "2.png")}


def test_an_image_without_boxes(tmp_path: Path) -> None:
    assert found(clean_set(tmp_path, train={2: ()})) == {("image.without_boxes", "2.png")}


def test_a_split_of_background(tmp_path: Path) -> None:
    splits = clean_set(tmp_path, val=dict.fromkeys(range(21, 29), ()))
    empty = {("image.without_boxes", f"{seed}.png") for seed in range(21, 29)}
    assert found(splits) == {("split.background", "val"), *empty}


def test_a_crowded_image(tmp_path: Path) -> None:
    many = tuple((4.0 * (k % 16), 4.0 * (k // 16), 21.0, 22.0) for k in range(101))
    splits = clean_set(tmp_path, train={2: many})
    assert ("image.crowded", "2.png") in found(splits)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("near", [False, True])
def test_twins(tmp_path: Path, across: bool, near: bool) -> None:
    splits = clean_set(tmp_path)
    changed = np.clip(pixels(1).astype(int) + 2, 0, 255).astype(np.uint8) if near else pixels(1)
    path = tmp_path / ("val/21.png" if across else "train/2.png")
    Image.fromarray(changed).save(path)
    name = f"{'leak' if across else 'image'}.{'near_' * near}duplicate"
    conflict = set() if near else {("label.conflict", path.name)}
    assert found(splits) == {(name, path.name), *conflict}


def test_copies_with_the_same_boxes_do_not_conflict(tmp_path: Path) -> None:
    splits = clean_set(tmp_path, train={1: GOOD, 2: GOOD})
    Image.fromarray(pixels(1)).save(tmp_path / "train" / "2.png")
    assert found(splits) == {("image.duplicate", "2.png")}


def test_one_label_for_many_images(tmp_path: Path) -> None:
    splits = clean_set(tmp_path, train=dict.fromkeys(range(1, 6), GOOD))
    assert found(splits) == {("label.repeated", f"{seed}.png") for seed in (2, 3, 4, 5)}


NAMES = {
    "leak.source": ("street_aug1.png", "street_aug2.png", {}),
    "leak.video": ("video3_0001.png", "video3_0002.png", {}),
    "leak.group": ("patient7a.png", "patient7b.png", {"group": r"patient(\d)"}),
}


@pytest.mark.parametrize("name", NAMES)
def test_splits_that_share_a_source(tmp_path: Path, name: str) -> None:
    first, second, options = NAMES[name]
    splits = clean_set(tmp_path, renamed={1: first, 21: second})
    assert found(splits, **options) == {(name, second)}


def test_names_that_differ_in_capitals(tmp_path: Path) -> None:
    splits = clean_set(tmp_path, renamed={1: "Street.png", 2: "street.png"})
    assert found(splits) == {("image.case", "street.png")}


def test_a_split_that_is_another_again(tmp_path: Path) -> None:
    splits = clean_set(tmp_path)
    report = check_sources("set", {**splits, "test": splits["train"]}, NETWORK)
    assert [(one.name, one.severity, one.file) for one in report.findings] == [("split.same", "error", "test")]


def _classes(*names: str, ids: tuple[int, ...] | None = None) -> Callable[[BoxTable], BoxTable]:
    numbers = tuple(range(1, len(names) + 1)) if ids is None else ids
    return lambda split: dataclasses.replace(split, classes=BoxClasses(names, numbers))


def _only_first(split: BoxTable) -> BoxTable:
    return dataclasses.replace(split, class_ids=np.zeros_like(split.class_ids))


CLASS_FAULTS: dict[str, tuple[Callable[[BoxTable], BoxTable], set[str]]] = {
    "other names": (_classes("bolt", "washer"), {"class.unknown", "class.missing"}),
    "another order": (_classes("nut", "bolt"), {"class.ids"}),
    "other ids": (_classes("bolt", "nut", ids=(3, 4)), {"class.ids"}),
    "alike": (_classes("bolt", "nut", "Nut "), {"class.unknown", "class.twice", "class.unused"}),
    "no object": (_only_first, {"class.unused", "class.shifted"}),
}


@pytest.mark.parametrize("fault", CLASS_FAULTS)
def test_a_fault_of_classes(tmp_path: Path, fault: str) -> None:
    change, names = CLASS_FAULTS[fault]
    splits = clean_set(tmp_path)
    splits["val"] = change(splits["val"])
    assert found(splits) - {("class.dominant", "val")} == {(name, "val") for name in names}


def test_classes_without_balance(tmp_path: Path) -> None:
    splits = clean_set(tmp_path)
    train = splits["train"]
    rare = np.zeros_like(train.class_ids)
    rare[5] = 1
    few = train.class_ids.copy()
    few[np.flatnonzero(few == 1)[9:]] = 0
    assert found({"train": dataclasses.replace(train, class_ids=few), "val": splits["val"]}) == {
        ("class.few", "train"), ("class.dominant", "train"), ("class.shifted", "val"),
    }  # fmt: skip
    assert found({"train": _only_first(train), "val": splits["val"]}) == {
        ("class.unused", "train"), ("class.not_trained", "val"), ("class.shifted", "val"),
    }  # fmt: skip
    many = table(tmp_path / "many", {7: tuple((0.4 * k, 5.0 + 0.3 * (k % 7), 20.0, 20.0) for k in range(101))})
    rare = dataclasses.replace(many, class_ids=np.array([1] + [0] * 100, np.int32))
    assert ("class.rare", "train") in found({"train": rare})


def test_numbers_that_mean_something_else(tmp_path: Path) -> None:
    splits = clean_set(tmp_path)
    train = splits["train"]
    as_fractions = dataclasses.replace(train, boxes_xywh=train.boxes_xywh / (96, 64, 96, 64))
    assert found({"train": as_fractions}) == {("boxes.fractions", "train")}
    as_corners = train.boxes_xywh.copy()
    as_corners[:, 2:] += as_corners[:, :2]
    assert found({"train": dataclasses.replace(train, boxes_xywh=as_corners)}) == {("boxes.corners", "train")}


def test_unused_files_of_yolo(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for seed in (1, 2):
        (root / "images").mkdir(parents=True, exist_ok=True)
        (root / "labels").mkdir(exist_ok=True)
        Image.fromarray(pixels(seed)).save(root / "images" / f"{seed}.png")
        (root / "labels" / f"{seed}.txt").write_text("0 0.5 0.5 0.3 0.3\n")
    (root / "labels" / "gone.txt").write_text("0 0.5 0.5 0.3 0.3\n")
    names = {(one.name, Path(one.file).name) for one in check(root).findings}
    assert ("label.without_image", "gone.txt") in names


def test_the_command_writes_json_and_pictures_and_tells_by_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_coco(tmp_path / "set")
    command = [str(root), "--output", str(tmp_path / "found.json"), "--pictures", str(tmp_path / "pictures")]
    assert main(command) == 0
    assert main([*command, "--fail_on", "note"]) == 1
    (root / "images" / "a1.png").unlink()
    Image.fromarray(pixels(9)).save(root / "images" / "extra.png")
    assert main(command) == 1
    assert main([*command, "--fail_on", "never"]) == 0
    assert "image.missing" in capsys.readouterr().out
    rows = json.loads((tmp_path / "found.json").read_text())["findings"]
    names = {(row["name"], Path(row["file"]).name) for row in rows}
    assert {("image.missing", "a1.png"), ("image.without_labels", "extra.png")} <= names
    drawn = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert "image.without_labels-1-extra.jpg" in drawn
    assert main([str(tmp_path / "nowhere")]) == 2
    assert main([str(root), "--member", "d99"]) == 2


def test_the_command_takes_the_options_of_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_coco(tmp_path / "set")
    config = tmp_path / "run.yaml"
    config.write_text(
        f"model: {{member: lite0, architecture: {{anchor_scale: 2.0}}}}\n"
        f"data: {{root: {root}, train_images: images, train_annotations: annotations/instances_train.json}}\n"
    )
    assert main(["--config", str(config), "--data.image_size", "256"]) == 0
    shown = capsys.readouterr().out
    assert "train: 2 images" in shown
    assert "val: " not in shown
    assert "on 256 x 256" in shown
    assert "anchors of lite0" in shown
    assert main(["--config", str(config), "--data.train_annotations", "none.json"]) == 2


@pytest.mark.real
def test_the_two_boxes_without_area_of_bccd_and_a_field_of_cells_that_was_photographed_twice() -> None:
    report: CheckReport = check(Path(os.environ["EFFDENSE_REAL"], "bccd"), "voc")
    assert [Path(one.file).name for one in report.by_name()["box.no_area"]] == [
        "BloodImage_00338.jpg",
        "BloodImage_00343.jpg",
    ]
    (twins,) = report.by_name()["image.near_duplicate"]  # the same cells, at another focus
    assert {Path(twins.file).stem, Path(twins.twin or "").stem} == {"BloodImage_00037", "BloodImage_00038"}
    assert {one.name for one in report.findings if one.severity != "note"} == {"box.no_area", "image.near_duplicate"}
