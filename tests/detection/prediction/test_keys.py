"""What `predict` finds, under the ids of an annotation file: it is scored as pycocotools scores the same boxes."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detection.data.classes import BoxClasses
from detection.prediction.document import BoxEntry, write_detections
from detection.prediction.keys import Keys
from detection.scores.score import score
from engine.errors import InputError

MODEL = BoxClasses(("dog", "", "cat", "bird"), (1, 2, 3, 4))
NAMES = ["north/a.png", "south/a.png", "b.png"]
ANNOTATIONS = {
    "images": [{"id": 70 + n, "file_name": name, "width": 90, "height": 90} for n, name in enumerate(NAMES)],
    "categories": [{"id": 1, "name": "cat"}, {"id": 5, "name": "dog"}],
    "annotations": [
        {"id": n, "image_id": image, "category_id": category, "bbox": [5, 5, 20, 30], "area": 600, "iscrowd": 0}
        for n, (image, category) in enumerate([(70, 1), (71, 5), (72, 5), (72, 1)], 1)
    ],
}
BOX = (5.0, 5.0, 25.0, 35.0)


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    path = tmp_path / "val.json"
    path.write_text(json.dumps(ANNOTATIONS))
    return path


def sources(folder: Path) -> list[Path]:
    return [folder / "images" / name for name in NAMES[::-1]]


def entries(folder: Path) -> list[BoxEntry]:
    """A cat where a cat is, a dog where a dog is, a wrong box, and birds, which the annotations do not list."""
    found = {
        "b.png": ([BOX, BOX, BOX], [0.9, 0.8, 0.7], [1, 3, 4]),
        "south/a.png": ([(50.0, 50.0, 60.0, 60.0), BOX], [0.6, 0.5], [1, 1]),
        "north/a.png": ([BOX], [0.4], [3]),
    }
    return [
        msgspec.convert(
            {"source": str(folder / "images" / name), "size_hw": (90, 90), "boxes_xyxy": boxes, "scores": scores,
             "category_ids": ids}, BoxEntry)
        for name, (boxes, scores, ids) in found.items()
    ]  # fmt: skip


def test_the_list_is_scored_by_score_and_by_pycocotools(truth, tmp_path):
    keys = Keys.of(truth, sources(tmp_path), MODEL)
    assert "matched by name" in keys.note
    out = tmp_path / "detections.json"
    write_detections(out, lambda: iter(entries(tmp_path)), MODEL, keys)
    document = json.loads(out.read_text())
    assert [(image["id"], image["file_name"]) for image in document["images"]] == [
        (72, "b.png"), (71, "south/a.png"), (70, "north/a.png"),
    ]  # fmt: skip
    assert document["categories"] == ANNOTATIONS["categories"]
    assert [found["category_id"] for found in document["annotations"]] == [5, 1, 5, 5, 1]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(truth)
        evaluation = COCOeval(coco, coco.loadRes(document["annotations"]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    scores = score(truth, out)
    assert list(scores.twelve.values()) == evaluation.stats.tolist()
    assert 0.5 < scores.ap <= 1


def test_score_matches_the_list_without_keys_to_the_same_numbers(truth, tmp_path):
    keyed, plain = tmp_path / "keyed.json", tmp_path / "plain.json"
    write_detections(keyed, lambda: iter(entries(tmp_path)), MODEL, Keys.of(truth, sources(tmp_path), MODEL))
    write_detections(plain, lambda: iter(entries(tmp_path)), MODEL)
    assert np.allclose(list(score(truth, keyed).twelve.values()), list(score(truth, plain).twelve.values()))


def test_an_image_that_is_not_listed_is_refused_before_the_work(truth, tmp_path):
    with pytest.raises(InputError, match=r"east/a.png' is to be predicted, but .* does not list it"):
        Keys.of(truth, [tmp_path / "east/a.png"], MODEL)
    with pytest.raises(InputError, match="lists 2 images of that name"):
        Keys.of(with_names(truth, ["a.png", "a.png", "b.png"]), [tmp_path / "a.png"], MODEL)
    with pytest.raises(InputError, match=r"are both the image 'b\.png'"):
        Keys.of(truth, [tmp_path / "b.png", tmp_path / "in/b.png"], MODEL)


def test_the_longest_common_name_decides(truth, tmp_path):
    listed = with_names(truth, ["a.png", "north/a.png", "b.png"])
    keys = Keys.of(listed, [tmp_path / "north/a.png", tmp_path / "south/a.png"], MODEL)
    assert [number for number, _ in keys.images.values()] == [71, 70]


def test_accents_in_both_forms_are_one_name(truth, tmp_path):
    keys = Keys.of(with_names(truth, ["caf\u00e9.png", "a", "b"]), [tmp_path / "cafe\u0301.png"], MODEL)
    assert [number for number, _ in keys.images.values()] == [70]


def test_annotations_of_other_things_are_refused(truth, tmp_path):
    others = BoxClasses(("nucleus", ""), (1, 2))
    content = {**ANNOTATIONS, "annotations": []}
    truth.write_text(json.dumps(content))
    with pytest.raises(InputError, match="no category in common: 'cat' and others there, 'nucleus'"):
        Keys.of(truth, sources(tmp_path), others)


def with_names(path: Path, names: list[str]) -> Path:
    images = [{**image, "file_name": name} for image, name in zip(ANNOTATIONS["images"], names, strict=True)]
    path.write_text(json.dumps({**ANNOTATIONS, "images": images}))
    return path
