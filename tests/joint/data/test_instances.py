"""Boxes of instance ids, compared with pycocotools, cityscapesScripts' reader and the scenes behind the ids."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from detection.data.coco import CocoAnnotations
from engine.errors import InputError
from joint.data.instances import CLASSES, boxes_of, main, write_boxes
from segmentation.data.cityscapes.labels import LABELS


def rows(found):
    """The N entries as a set of (label id, crowd, box, area)."""
    columns = (found.label_ids, found.iscrowd, found.boxes_xywh, found.areas)
    label_ids, crowds, boxes, areas = (column.tolist() for column in columns)
    entries = list(zip(label_ids, crowds, map(tuple, boxes), areas, strict=True))
    assert len(entries) == len(set(entries))
    return set(entries)


def by_pixels(ids):
    """The same by pycocotools' run-length codes, one mask after another; groups by flooding from pixel to pixel."""
    wanted = {24, 25, 26, 27, 28, 31, 32, 33}  # cityscapesScripts: hasInstances and not ignoreInEval
    entries = set()
    for value in np.unique(ids).tolist():
        label_id, crowd = (value // 1000, False) if value >= 1000 else (value, True)
        if label_id not in wanted:
            continue
        for part in flooded(ids == value) if crowd else [ids == value]:
            code = coco_mask.encode(np.asfortranarray(part, dtype=np.uint8))
            box = tuple(int(side) for side in coco_mask.toBbox(code))
            entries.add((label_id, crowd, box, int(coco_mask.area(code))))
    return entries


def flooded(pixels):
    left = set(map(tuple, np.argwhere(pixels).tolist()))
    while left:
        part, edge = np.zeros_like(pixels), [left.pop()]
        while edge:
            y, x = edge.pop()
            part[y, x] = True
            around = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= around
            edge += around
        yield part


def test_edges_of_pixels():
    ids = np.zeros((4, 6), np.int32)
    ids[0, 0] = 26000
    ids[1:3, 2:6] = 26001
    ids[2, 3] = 7
    found = boxes_of(ids)
    assert rows(found) == {(26, False, (0, 0, 1, 1), 1), (26, False, (2, 1, 4, 2), 7)}


def test_a_group_is_a_crowd_in_each_of_its_parts():
    ids = np.full((8, 20), 7, np.int32)
    ids[2:5, 1:4] = 24
    ids[5, 4] = 24  # touches at a corner
    ids[1:3, 15:20] = 24
    ids[6:8, 8:12] = 24003
    ids[0:2, 8:12] = 20  # a class whose things are not told apart
    assert rows(boxes_of(ids)) == {
        (24, False, (8, 6, 4, 2), 8),
        (24, True, (1, 2, 4, 4), 10),
        (24, True, (15, 1, 5, 2), 10),
    }


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_map_beside_pycocotools(data):
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    values = st.sampled_from([0, 7, 24, 26, 29, 33, 24000, 24001, 26000, 26017, 29000, 33002])
    flat = data.draw(st.lists(values, min_size=height * width, max_size=height * width))
    ids = np.array(flat, np.uint16).reshape(height, width)
    assert rows(boxes_of(ids)) == by_pixels(ids)


def test_the_classes_are_those_of_the_benchmark():
    from cityscapesscripts.helpers.labels import labels

    theirs = [label.name for label in labels if label.hasInstances and not label.ignoreInEval]
    assert list(CLASSES) == theirs
    ids = np.array([[29000, 26000]])
    assert boxes_of(ids).label_ids.tolist() == [26]
    assert boxes_of(ids, ["caravan"]).label_ids.tolist() == [29]
    for wrong, message in ((["trafic light"], "class 'trafic light' is unknown"), ([], "no class is asked for")):
        with pytest.raises(InputError, match=message):
            boxes_of(ids, wrong)


def test_things_beside_the_reader_of_cityscapesscripts(streets):
    """The instances of Cityscapes, by id and pixel count, as its instance benchmark reads them."""
    from cityscapesscripts.helpers.labels import id2label

    instance = pytest.importorskip("cityscapesscripts.evaluation.instance")
    for path in sorted(streets.rglob("*_instanceIds.png")):
        ids = np.array(Image.open(path))
        theirs = [instance.Instance(ids, value) for value in np.unique(ids)]
        wanted = [i for i in theirs if id2label[i.labelID].hasInstances and not id2label[i.labelID].ignoreInEval]
        things = sorted((i.labelID, i.pixelCount) for i in wanted if i.instID >= 1000)
        found = boxes_of(ids)
        ours = zip(found.label_ids.tolist(), found.areas.tolist(), found.iscrowd.tolist(), strict=True)
        assert sorted(entry[:2] for entry in ours if not entry[2]) == things


def test_the_file_is_that_of_the_scenes(streets, tmp_path):
    """The generator writes boxes from the things that it drew, not from the ids."""
    said = write_boxes(str(streets), "train", str(tmp_path / "own.json"), workers=2)
    own, drawn = COCO(str(tmp_path / "own.json")), COCO(str(streets / "annotations/instances_train.json"))
    assert {i["file_name"]: (i["height"], i["width"]) for i in own.imgs.values()} == {
        i["file_name"]: (i["height"], i["width"]) for i in drawn.imgs.values()
    }
    assert {c["id"]: c["name"] for c in own.cats.values()} == {
        label.label_id: label.name for label in LABELS if label.name in CLASSES
    }

    def things(coco):
        name = {image_id: image["file_name"] for image_id, image in coco.imgs.items()}
        return sorted(
            (name[a["image_id"]], a["category_id"], a["bbox"], a["area"])
            for a in coco.anns.values()
            if not a["iscrowd"] and a["category_id"] in own.cats
        )

    assert things(own) == things(drawn)
    assert len(things(own)) > 10
    crowds = sum(a["iscrowd"] for a in own.anns.values())
    assert f"{len(own.imgs)} images, {len(own.anns) - crowds} things, {crowds} groups" in said


def test_the_command_line(streets, tmp_path, capsys):
    root = tmp_path / "streets"
    shutil.copytree(streets / "leftImg8bit", root / "leftImg8bit")
    shutil.copytree(streets / "gtFine", root / "gtFine")
    assert main(["--root", str(root), "--split", "val"]) == 0
    target = root / "annotations/instances_val.json"
    assert str(target) in capsys.readouterr().out
    assert len(CocoAnnotations.read(target)) == 3
    assert (
        main(["--root", str(root), "--split", "val", "--output", str(tmp_path / "cars.json"), "--classes", "[car]"])
        == 0
    )
    assert [c["name"] for c in json.loads((tmp_path / "cars.json").read_text())["categories"]] == ["car"]
    capsys.readouterr()
    for path in root.rglob("*_instanceIds.png"):
        path.unlink()
    for line, message in (
        (["--root", str(root), "--split", "val"], "has no '_instanceIds.png' beside it"),
        (["--root", str(root), "--split", "vall"], "has no split 'vall'"),
        (["--root", str(root)], "give --split"),
        (["--root", str(root), "--split", "val", "--classes", "[cra]"], "class 'cra' is unknown"),
    ):
        assert main(line) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1


def test_an_image_without_things(tmp_path: Path):
    for kind, suffix, value in (("leftImg8bit", "leftImg8bit", 9), ("gtFine", "gtFine_labelIds", 7)):
        folder = tmp_path / kind / "train" / "here"
        folder.mkdir(parents=True)
        Image.new("L", (12, 10), value).save(folder / f"here_000000_000001_{suffix}.png")
    Image.new("I;16", (12, 10), 7).save(folder / "here_000000_000001_gtFine_instanceIds.png")
    write_boxes(str(tmp_path), "train")
    content = json.loads((tmp_path / "annotations/instances_train.json").read_text())
    assert content["annotations"] == []
    assert [(i["height"], i["width"]) for i in content["images"]] == [(10, 12)]
