"""Categories are matched by name: other numbers are mapped, other names refused, and scores do not change."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.data.boxes import BoxTable
from detection.data.categories import CategoryRows
from detection.data.classes import BoxClasses
from detection.data.coco import CocoAnnotations
from detection.scores.documents import read_predictions
from detection.scores.metric import evaluate_boxes
from detection.scores.records import DetectionRecords
from engine.errors import InputError

MODEL = BoxClasses(("cat", "dog", "", "traffic light"), (1, 2, 3, 10))


def source_of(classes: BoxClasses, class_ids: list[int]) -> BoxTable:
    count = len(class_ids)
    boxes = np.array([[10.0 * n, 5, 8, 8] for n in range(count)], np.float64).reshape(-1, 4)
    return BoxTable(
        source="val.json", image_folder="in", classes=classes, image_ids=np.array([7]),
        sizes_hw=np.array([[100, 200]], np.int32), name_bytes=np.frombuffer(b"a.png", np.uint8),
        name_ends=np.array([0, 5]), box_ends=np.array([0, count]), boxes_xywh=boxes,
        class_ids=np.array(class_ids, np.int32), areas=np.full(count, 64.0), crowd=np.zeros(count, np.bool_),
    )  # fmt: skip


def test_the_same_list_is_taken_without_a_word():
    matched = CategoryRows.of(source_of(MODEL, [0, 1, 3]), MODEL)
    assert matched.rows.tolist() == [0, 1, 2, 3]
    assert matched.category_ids.tolist() == [1, 2, 3, 10]
    assert matched.note == ""


def test_other_numbers_are_mapped_and_said():
    """A dog does not become a cat because an exporter counts otherwise."""
    matched = CategoryRows.of(source_of(BoxClasses(("dog", "cat"), (1, 2)), [0, 1]), MODEL)
    assert matched.rows.tolist() == [1, 0]
    assert matched.category_ids.tolist() == [2, 1, -1, -1]
    assert "numbers its categories otherwise than the model, such as 'dog' 1 for 2" in matched.note


def test_another_spelling_is_taken_and_said():
    matched = CategoryRows.of(source_of(BoxClasses(("Traffic_Light",), (10,)), [0]), MODEL)
    assert matched.rows.tolist() == [3]
    assert "calls the model's 'traffic light' 'Traffic_Light'" in matched.note


@pytest.mark.parametrize("numbers", [(1, 2), (5, 6)])
def test_other_names_are_refused(numbers):
    with pytest.raises(InputError, match=r"such as 'dgo' .*the model knows 'cat', 'dog'.* Did you mean 'dog'\? Rename"):
        CategoryRows.of(source_of(BoxClasses(("cat", "dgo"), numbers), [0, 1]), MODEL)


def test_an_unknown_category_without_boxes_is_left_out():
    matched = CategoryRows.of(source_of(BoxClasses(("cat", "cow"), (1, 2)), [0]), MODEL)
    assert matched.rows.tolist() == [0, -1]


def test_two_categories_never_become_one():
    with pytest.raises(InputError, match="two categories for the model's 'cat'"):
        CategoryRows.of(source_of(BoxClasses(("cat", "Cat"), (1, 2)), [0, 1]), MODEL)


def test_a_model_without_names_is_matched_by_number():
    matched = CategoryRows.of(source_of(BoxClasses(("x", "y"), (3, 1)), [0, 1]), BoxClasses.numbered(4))
    assert matched.rows.tolist() == [2, 0]
    with pytest.raises(InputError, match="4 classes by number, ids 1 to 4"):
        CategoryRows.of(source_of(BoxClasses(("x",), (9,)), [0]), BoxClasses.numbered(4))


NAMES = ["cat", "dog", "bird", "car", "bus"]


@settings(deadline=None, max_examples=40)
@given(st.permutations(range(1, 40)).map(lambda ids: ids[:5]), st.integers(1, 5), st.integers(0, 9))
def test_numbers_do_not_change_scores(ids, listed, seed):
    """However the annotations number their categories, and even if they list fewer than the model knows."""
    rng = np.random.default_rng(seed)
    model = BoxClasses(tuple(NAMES), (1, 2, 3, 4, 5))
    first = model.in_order(zip(NAMES[:listed], range(1, listed + 1), strict=True))
    truth = source_of(first, rng.integers(0, listed, 12).tolist())
    other_classes = BoxClasses.in_order(zip(NAMES[:listed], ids[:listed], strict=True))
    place = {name: row for row, name in enumerate(other_classes.names)}
    rows = np.array([place[first.names[row]] for row in truth.class_ids.tolist()], np.int32)
    other = dataclasses.replace(truth, classes=other_classes, class_ids=rows)

    count = 30
    records = DetectionRecords()
    low = rng.uniform(0, 100, (1, count, 2))
    low[0, :12] = truth.boxes_xywh[:, :2] + rng.uniform(-2, 2, (12, 2))
    records.add(
        np.array([7]), np.concatenate([low, low + 8], -1), rng.random((1, count)), rng.integers(1, 6, (1, count))
    )
    scores = [evaluate_boxes(one, records.numbered_as(one, model).table(), image_ids=[7]) for one in (truth, other)]
    assert scores[0].twelve == pytest.approx(scores[1].twelve)  # means over the classes in another order
    assert scores[0].per_class == scores[1].per_class
    written = {one["category_id"] for one in records.numbered_as(other, model).as_results()}
    assert written <= set(other_classes.category_ids)


def test_a_category_without_a_name_is_refused(tmp_path):
    """An empty name means an unused row of a model; as a category it would never be found."""
    path = tmp_path / "a.json"
    content = {"images": [{"id": 1, "file_name": "a"}], "annotations": [], "categories": [{"id": 3, "name": " "}]}
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="category 3 has an empty name"):
        CocoAnnotations.read(path)


def document(names, boxes):
    return {
        "images": [{"id": number, "file_name": name, "width": 50, "height": 50} for number, name in enumerate(names)],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": [1, 2, 10, 10], "score": s}
            for n, (i, c, s) in enumerate(boxes)
        ],
    }


TRUTH = {
    "images": [{"id": 40, "file_name": "street/a.png"}, {"id": 41, "file_name": "b.png"}],
    "categories": [{"id": 8, "name": "cat"}, {"id": 9, "name": "dog"}],
    "annotations": [{"id": 1, "image_id": 41, "category_id": 8, "bbox": [1, 2, 10, 10], "area": 100, "iscrowd": 0}],
}


def test_the_document_of_predict_is_scored_by_names(tmp_path):
    """Numbers of images and categories are those of the annotations, whatever predict counted."""
    truth, found = tmp_path / "truth.json", tmp_path / "found.json"
    truth.write_text(json.dumps(TRUTH))
    found.write_text(json.dumps(document(["photos/b.png", "photos/street/a.png"], [(0, 2, 0.9), (1, 1, 0.4)])))
    table = read_predictions(found, CocoAnnotations.to_score(truth))
    assert table.image_ids.tolist() == [41, 40]
    assert table.category_ids.tolist() == [8, 9]
    assert evaluate_boxes(truth, table).ap == pytest.approx(1)


@pytest.mark.parametrize("name", ["c.png", "other/a.png"])
def test_an_image_that_is_not_annotated_is_named(tmp_path, name):
    truth, found = tmp_path / "truth.json", tmp_path / "found.json"
    truth.write_text(json.dumps(TRUTH))
    found.write_text(json.dumps(document([name], [(0, 2, 0.9)])))
    with pytest.raises(InputError, match=f"the image '{name}', but the annotations do not list it"):
        read_predictions(found, CocoAnnotations.to_score(truth))
