"""`convert-data`: there and back without a loss, images and all; what is refused leaves nothing behind."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from detection.formats.convert_data import convert_data
from detection.formats.found import FoundSet, read_set
from engine.errors import InputError, OutputError
from tests.detection.formats.sets import write_coco
from tests.detection.small import command

FORMATS = ("coco", "voc", "yolo", "labelme")


def contents(found: FoundSet) -> dict[str, list[tuple[bytes, list[tuple[str, bool]], np.ndarray]]]:
    """For each split, the images by their bytes, with classes, crowds and corners of their boxes in a fixed order."""
    splits = {}
    for split, table in found.splits.items():
        images = []
        for index in range(len(table)):
            part = slice(int(table.box_ends[index]), int(table.box_ends[index + 1]))
            names = [table.classes.names[row] for row in table.class_ids[part]]
            crowd = table.crowd[part].tolist()
            images.append(
                (table.image_path(index).read_bytes(), list(zip(names, crowd, strict=True)), table.boxes_xywh[part])
            )
        splits[split] = sorted(images, key=lambda image: image[0])
    return splits


def assert_same(first: FoundSet, second: FoundSet) -> None:
    one, other = contents(first), contents(second)
    assert one.keys() == other.keys()
    for split in one:
        assert len(one[split]) == len(other[split])
        for here, there in zip(one[split], other[split], strict=True):
            assert here[:2] == there[:2]
            np.testing.assert_allclose(there[2], here[2], rtol=0, atol=1e-6)


@st.composite
def sets(draw: st.DrawFn, crowds: bool) -> dict[str, object]:
    """COCO files of a set: boxes of a fifth of a pixel and more, between pixels or on them, and classes without one."""
    splits: dict[str, object] = {}
    name = st.text("abcé 日_-0", min_size=1, max_size=6).map(str.strip).filter(bool)
    classes = draw(st.lists(name, min_size=1, max_size=4, unique_by=str.casefold))
    ids = draw(st.lists(st.integers(1, 90), min_size=len(classes), max_size=len(classes), unique=True))
    whole = draw(st.booleans())
    stem = itertools.count()
    for split in draw(st.sampled_from([("train",), ("train", "val"), ("train", "val", "test")])):
        images, annotations = [], []
        for image_id in range(1, draw(st.integers(1, 3)) + 1):
            height, width = draw(st.integers(8, 90)), draw(st.integers(8, 90))
            file = f"{draw(st.sampled_from(['same', 'Foto é', 'b.c']))}{draw(st.sampled_from(['', next(stem)]))}.png"
            if file in [image["file_name"] for image in images]:
                continue
            images.append({"id": image_id, "file_name": file, "height": height, "width": width})
            for _ in range(draw(st.integers(0, 3))):
                left, top = (draw(st.floats(0, 0.8)) * side for side in (width, height))
                right, bottom = (
                    max(low + draw(st.floats(0.001, 1)) * (side - low), low + 0.2)
                    for low, side in ((left, width), (top, height))
                )
                if whole:
                    left, top, right, bottom = int(left), int(top), int(right) + 1, int(bottom) + 1
                    right, bottom = min(right, width), min(bottom, height)
                assume(max(right, bottom) > 1)  # boxes within 0 and 1 are taken for fractions, and refused
                box = [left, top, right - left, bottom - top]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": draw(st.sampled_from(ids)),
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": int(crowds and draw(st.booleans())),
                    }
                )
        categories = [{"id": i, "name": n} for i, n in zip(ids, classes, strict=True)]
        splits[split] = {"images": images, "annotations": annotations, "categories": categories}
    return splits


def write(splits: dict[str, object], root: Path) -> Path:
    for count, (split, content) in enumerate(splits.items()):
        (root / "images" / split).mkdir(parents=True)
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        assert isinstance(content, dict)
        for image in content["images"]:
            pixels = np.full((image["height"], image["width"], 3), (17 * image["id"] + 80 * count) % 256, np.uint8)
            pixels[:2, :2] = len(image["file_name"])
            Image.fromarray(pixels).save(root / "images" / split / image["file_name"])
    return root


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data(), st.sampled_from(FORMATS))
def test_there_and_back(data: st.DataObject, middle: str) -> None:
    """A set written in another format, and again as COCO, has the same images, splits, classes and boxes."""
    splits = data.draw(sets(crowds=middle != "yolo"))
    with tempfile.TemporaryDirectory() as folder:
        root = write(splits, Path(folder, "set"))
        convert_data(root, Path(folder, "middle"), to=middle)  # type: ignore[arg-type]
        convert_data(Path(folder, "middle"), Path(folder, "back"), to="coco")
        given_set = read_set(root)
        if middle == "yolo":  # which reads a row that stands twice as one
            rows = [tuple(box) for table in given_set.splits.values() for box in table.boxes_xywh]
            if len(set(rows)) < len(rows):
                return
        assert_same(given_set, read_set(Path(folder, "middle")))
        assert_same(given_set, read_set(Path(folder, "back")))


def test_ids_areas_and_unused_classes_stay_in_coco(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "set")
    path = root / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    content["categories"].append({"id": 77, "name": "washer"})
    content["annotations"][0]["area"] = 12.5
    path.write_text(json.dumps(content))
    convert_data(root, tmp_path / "out")
    written = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    assert written["categories"] == content["categories"]
    assert [image["id"] for image in written["images"]] == [image["id"] for image in content["images"]]
    assert 12.5 in [entry["area"] for entry in written["annotations"]]


def test_a_set_without_splits_is_given_some(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "set")
    (root / "annotations/instances_val.json").unlink()
    (root / "annotations/instances_train.json").rename(root / "annotations/instances.json")
    for name in FORMATS:
        convert_data(root, tmp_path / name, to=name)  # type: ignore[arg-type]
        assert list(read_set(tmp_path / name).splits) == ["all"]
        assert_same(read_set(root), read_set(tmp_path / name))
    said = convert_data(root, tmp_path / "parts", to="yolo", split="0.5/0.5")
    assert set(read_set(tmp_path / "parts").splits) == {"train", "val"}
    assert said.splitlines()[-1] == f"written as yolo to '{tmp_path / 'parts'}'"


def test_links_take_no_room(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "set")
    convert_data(root, tmp_path / "out", to="voc", images="link")
    assert (tmp_path / "out/JPEGImages/a1.png").samefile(root / "images/a1.png")


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_coco(tmp_path / "set")
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("dear")
    with pytest.raises(OutputError, match="holds something already"):
        convert_data(root, full)
    with pytest.raises(OutputError, match="outside of it"):
        convert_data(root, root / "inner")
    (root / "images/a2.png").unlink()
    with pytest.raises(InputError, match=r"1 images of the labels are not there: 'a2.png'.*on_missing_image skip"):
        convert_data(root, tmp_path / "out")
    said = convert_data(root, tmp_path / "fewer", on_missing_image="skip")
    assert "1 images are not there and were left out" in said
    assert len(read_set(tmp_path / "fewer").splits["train"]) == 1

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        convert_data(root, tmp_path / "broken", on_missing_image="skip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fewer", "full", "set"]
    assert [path.name for path in full.iterdir()] == ["mine.txt"]


def test_labels_without_any_image_ask_for_the_folder_of_both(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "set")
    shutil.rmtree(root / "images")
    with pytest.raises(InputError, match=r"no image of the labels lies below .*set'\. Give the folder that holds both"):
        convert_data(root, tmp_path / "out")


def test_crowds_are_named(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "set")
    path = root / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["iscrowd"] = 1
    path.write_text(json.dumps(content))
    assert "1 crowds were left out" in convert_data(root, tmp_path / "yolo", to="yolo")
    for word in ("voc", "labelme"):
        assert "1 crowds are marked as difficult" in convert_data(root, tmp_path / word, to=word)  # type: ignore[arg-type]
        assert read_set(tmp_path / word).splits["train"].crowd.sum() == 1


def test_the_command(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "set")
    said = command(f"convert-data {root} {tmp_path / 'out'} --to yolo --images link")
    assert said.code == 0, said.err
    assert "is COCO, 4 images, 3 classes, 5 boxes (train 2, val 2)" in said.out
    assert (tmp_path / "out/data.yaml").is_file()
    said = command(f"convert-data {root} {tmp_path / 'out'} --to yolo")
    assert said.code == 2
    assert "holds something already" in said.err
