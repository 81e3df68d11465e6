"""However an exporter writes COCO's JSON, it is read as pycocotools reads the usual form."""

from __future__ import annotations

import contextlib
import copy
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from detection.data.coco import CocoAnnotations
from detection.scores.result_files import read_results
from detection.scores.truth import GroundTruth
from engine.errors import InputError

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
SIDES = st.integers(1, 60) | st.floats(0.5, 60).map(lambda side: round(side, 2))


@st.composite
def sets(draw):
    """The content of a COCO file in its usual form."""
    images = [
        {"id": number, "file_name": f"Straße {number}.png", "width": 100, "height": 80}
        for number in draw(st.lists(st.integers(0, 2**40), min_size=1, max_size=4, unique=True))
    ]
    ids = draw(st.lists(st.integers(1, 99), min_size=1, max_size=3, unique=True))
    annotations = []
    for number in range(1, draw(st.integers(0, 6)) + 1):
        box = draw(st.lists(SIDES, min_size=4, max_size=4))
        annotations.append(
            {
                "id": number,
                "image_id": draw(st.sampled_from(images))["id"],
                "category_id": draw(st.sampled_from(ids)),
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": draw(st.integers(0, 1)),
            }
        )
    categories = [{"id": number, "name": f"name {number}"} for number in ids]
    return {"images": images, "annotations": annotations, "categories": categories}


def as_text(value):
    return str(value) if isinstance(value, int | float) else [as_text(one) for one in value]


def respelled(content, draw):
    """The same content as other exporters write it."""
    other = copy.deepcopy(content)
    number = st.sampled_from([lambda value: value, as_text])
    for entry in other["images"]:
        entry |= {key: draw(number)(entry[key]) for key in ("id", "width", "height")}
    for entry in other["annotations"]:
        area, own = entry["area"], entry["bbox"][2] * entry["bbox"][3]
        entry |= {key: draw(number)(entry[key]) for key in ("id", "image_id", "category_id", "area", "iscrowd", "bbox")}
        if area == own and draw(st.booleans()):
            entry["area"] = None
        if entry["iscrowd"] in (0, "0") and draw(st.booleans()):
            entry["iscrowd"] = None
        if draw(st.booleans()):
            entry["id"] = None
        if draw(st.booleans()):
            entry["segmentation"] = [[float("nan"), 1.0]]  # which no box needs
    if draw(st.booleans()):
        first = other["images"][0]["id"]
        empty = {"id": 1000, "image_id": first, "category_id": other["categories"][0]["id"], "bbox": []}
        other["annotations"].insert(0, empty)
    if not other["annotations"] and draw(st.booleans()):
        del other["annotations"]
    return other


def by_pycocotools(content):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = content
        coco.createIndex()
        return {
            image_id: [
                (entry["category_id"], entry["bbox"], entry["area"], entry["iscrowd"])
                for entry in coco.loadAnns(coco.getAnnIds(imgIds=[image_id]))
            ]
            for image_id in coco.getImgIds()
        }


def by_training(read):
    ends = read.box_ends
    return {
        int(image_id): [
            (read.classes.category_ids[read.class_ids[n]], read.boxes_xywh[n].tolist(), read.areas[n], read.crowd[n])
            for n in range(ends[index], ends[index + 1])
        ]
        for index, image_id in enumerate(read.image_ids)
    }


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("json") / "set.json"


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_every_spelling_is_read_as_pycocotools_reads_the_usual_one(path, data):
    content = data.draw(sets())
    other = respelled(content, data.draw)
    encoding = data.draw(st.sampled_from(ENCODINGS))
    path.write_bytes(json.dumps(other, ensure_ascii=data.draw(st.booleans())).encode(encoding))
    read = CocoAnnotations.read(path)
    assert by_training(read) == by_pycocotools(content)
    assert [read.file_name(n) for n in range(len(read.image_ids))] == [i["file_name"] for i in content["images"]]
    if "annotations" in other:
        scored, trained = GroundTruth.of(path), GroundTruth.of(read)
        assert scored.image_ids == trained.image_ids
        assert np.array_equal(scored.boxes_xywh, trained.boxes_xywh)
        assert np.array_equal(scored.annotation_category_ids, trained.annotation_category_ids)


WRONG = [
    ("annotations", "area", float("nan"), "annotation 4 has the area nan. Give a finite number, or leave it out"),
    ("annotations", "bbox", [1, 2, float("inf"), 4], "annotation 4 has the box [1, 2, inf, 4]"),
    ("images", "width", float("nan"), "image 7 has the width nan"),
    ("annotations", "area", "NaN", "annotation 4 has the area nan"),
    ("annotations", "bbox", ["1", "2", "nan", "4"], "annotation 4 has the box [1.0, 2.0, nan, 4.0]"),
    ("images", "width", "NaN", "image 7 has the size"),
]


@pytest.mark.parametrize(("part", "field", "value", "message"), WRONG)
def test_a_number_that_is_none_is_named(path, part, field, value, message):
    content = {
        "images": [{"id": 7, "file_name": "a.png", "width": 9, "height": 9}],
        "annotations": [{"id": 4, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    content[part][0][field] = value
    path.write_text(json.dumps(content))
    for reader in (CocoAnnotations.read, GroundTruth.of):
        with pytest.raises(InputError) as caught:
            reader(path)
        assert message in str(caught.value)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_results_are_read_in_every_encoding(path, encoding):
    entry = {"image_id": "3", "category_id": 1, "bbox": ["1", 2, 3, 4], "score": "0.5"}
    path.write_bytes(json.dumps([entry]).encode(encoding))
    (found,) = read_results(path)
    assert (found.image_id, found.bbox, found.score) == (3, (1.0, 2.0, 3.0, 4.0), 0.5)


def test_bytes_that_are_no_text_are_refused_briefly(path):
    for raw in (b"\xff\xfe{\x00\x00", b"\xef\xbb\xbf{\xff", b"\x00\x00\x00{", b'{"x": ' + b"[" * 100_000):
        path.write_bytes(raw)
        with pytest.raises(InputError, match="not valid JSON"):
            CocoAnnotations.read(path)


def test_results_nested_without_end_are_refused_briefly(path):
    path.write_bytes(b'[{"x": ' + b"[" * 100_000)
    with pytest.raises(InputError, match="too deep"):
        read_results(path)
