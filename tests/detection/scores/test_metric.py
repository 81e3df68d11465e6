"""The COCO numbers against a plain pycocotools run."""

import copy
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from detection.scores.metric import evaluate_boxes
from detection.scores.records import DetectionTable
from detection.scores.score import score
from detection.scores.truth import GroundTruth
from engine.errors import InputError
from tests.detection.coco_oracle import NAMES, assert_equal, awkward_set, evaluate, run_pycocotools, twelve

CASES = {
    "mixed": {},
    "crowds": {"crowd": 0.7},
    "all tied": {"steps": 1},
    "single class": {"categories": 1},
    "over 100 detections": {"images": 3, "detections": 450, "categories": 2},
    "no objects": {"per_image": 0},
    "no detections": {"detections": 0},
    "only crowds": {"crowd": 1.1},
}


@pytest.mark.by_default("mixed", "pycocotools")
@pytest.mark.parametrize("backend", ["pycocotools", "faster", "hotcoco"])
@pytest.mark.parametrize("case", CASES)
def test_equals_pycocotools_on_awkward_sets(case, backend):
    for seed in range(4):
        dataset, results = awkward_set(seed, **CASES[case])
        assert_equal(evaluate(dataset, results, backend=backend), dataset, results)


@st.composite
def tiny_sets(draw):
    """At most two images and categories on a coarse grid, where IoUs fall onto the thresholds and scores tie."""
    box = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 4), st.integers(0, 4))
    scaled = st.builds(lambda corner, unit: [float(unit * v) for v in corner], box, st.sampled_from([1, 16, 60]))
    place = {"image_id": st.sampled_from([4, 9]), "category_id": st.sampled_from([0, 3]), "bbox": scaled}
    area = st.sampled_from([0.0, 1.0, 1024.0, 9216.0, 9217.0])
    annotation = st.fixed_dictionaries({**place, "area": area, "iscrowd": st.sampled_from([0, 0, 0, 1])})
    result = st.fixed_dictionaries({**place, "score": st.sampled_from([-1.0, 0.0, 0.5, 1.0])})
    annotations = draw(st.lists(annotation, max_size=6))
    dataset = {
        "images": [{"id": 9}, {"id": 4}],
        "categories": [{"id": 3, "name": "a"}, {"id": 0, "name": "b"}],
        "annotations": [{"id": 10 - k, **a} for k, a in enumerate(annotations)],
    }
    return dataset, draw(st.lists(result, max_size=8))


@settings(max_examples=60, deadline=None)
@given(tiny_sets())
def test_equals_pycocotools_on_the_thresholds(drawn):
    dataset, results = drawn
    assert_equal(evaluate(dataset, results), dataset, results)


@settings(max_examples=60, deadline=None)
@given(tiny_sets())
def test_fast_backends_equal_pycocotools_on_the_thresholds(drawn):
    dataset, results = drawn
    for backend in ("faster", "hotcoco"):
        assert_equal(evaluate(dataset, results, backend=backend), dataset, results)


@pytest.mark.parametrize("backend", ["pycocotools", "faster", "hotcoco"])
def test_image_ids_restrict_the_set(backend):
    dataset, results = awkward_set(3)
    chosen = [image["id"] for image in dataset["images"][1:8:2]]
    scores = evaluate(dataset, results, image_ids=np.array(chosen[::-1]), backend=backend)
    assert_equal(scores, dataset, results, image_ids=chosen)
    assert twelve(evaluate(dataset, results, image_ids=[], backend=backend)) == [-1.0] * 12
    with pytest.raises(InputError, match=r"images to score name 1 image id that .* does not list: 12345\."):
        evaluate(dataset, results, image_ids=[12345])


@pytest.mark.parametrize("backend", ["pycocotools", "faster", "hotcoco"])
def test_nothing_to_find_is_minus_one_and_nothing_found_is_zero(backend):
    dataset, results = awkward_set(0)
    assert twelve(evaluate({**dataset, "annotations": []}, results, backend=backend)) == [-1.0] * 12
    assert twelve(evaluate({key: [] for key in dataset}, [], backend=backend)) == [-1.0] * 12
    large = {"id": 1, "image_id": 5, "category_id": 1, "bbox": [0, 0, 200, 200], "area": 4e4, "iscrowd": 0}
    tiny = {"images": [{"id": 5}], "categories": [{"id": 1, "name": "a"}], "annotations": [large]}
    scores = evaluate(tiny, np.empty((0, 7)), backend=backend)
    assert (scores.ap, scores.ap_large, scores.ap_small, scores.ap_medium) == (0, 0, -1, -1)


def test_rows_entries_and_table_score_alike():
    dataset, results = awkward_set(5)
    rows = np.array([[r["image_id"], *r["bbox"], r["score"], r["category_id"]] for r in results])
    numpy_entries = [
        {**r, "image_id": np.int64(r["image_id"]), "bbox": np.array(r["bbox"]), "score": np.float64(r["score"])}
        for r in results
    ]
    expected = evaluate(dataset, results)
    assert evaluate(dataset, rows) == evaluate(dataset, numpy_entries) == expected
    assert evaluate_boxes(GroundTruth.of(_as_coco(dataset)), DetectionTable.of(rows)) == expected


def _as_coco(dataset):
    coco = COCO()
    coco.dataset = dataset
    return coco


def test_ids_that_floats_cannot_hold_are_refused():
    row = np.array([[2.0**53, 0, 0, 1, 1, 0.5, 1]])
    with pytest.raises(InputError, match="not a whole number that float64 holds exactly"):
        DetectionTable.of(row)
    with pytest.raises(InputError, match="not a whole number that float32 holds exactly"):
        DetectionTable.of(np.array([[2.0**24, 0, 0, 1, 1, 0.5, 1]], np.float32))
    with pytest.raises(InputError, match=r"category id 1\.5 is not a whole number"):
        DetectionTable.of([{"image_id": 1, "category_id": 1.5, "bbox": [0, 0, 1, 1], "score": 0.5}])
    with pytest.raises(InputError, match=r"\(D, 7\) rows"):
        DetectionTable.of(np.zeros((3, 6)))
    with pytest.raises(InputError, match=r"detections\[1\] has no 'score'"):
        DetectionTable.of(
            [
                dict.fromkeys(("image_id", "category_id", "bbox", "score"), 0),
                {"image_id": 1, "category_id": 1, "bbox": []},
            ]
        )


def test_the_ground_truth_stays_untouched_and_nothing_is_printed(capfd):
    dataset, results = awkward_set(1)
    before = copy.deepcopy((dataset, results))
    evaluate(dataset, results)
    assert (dataset, results) == before
    assert capfd.readouterr() == ("", "")


def test_missing_area_and_iscrowd_are_filled(tmp_path):
    dataset, results = awkward_set(2, crowd=0)
    for annotation in dataset["annotations"]:
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    bare = copy.deepcopy(dataset)
    for annotation in bare["annotations"]:
        del annotation["area"], annotation["iscrowd"], annotation["id"]
    path = tmp_path / "bare.json"
    path.write_text(json.dumps(bare))
    assert_equal(evaluate_boxes(path, results), dataset, results)


@pytest.mark.parametrize("ids", ["from zero", "repeated"])
def test_annotation_ids_play_no_part(ids, caplog):
    dataset, results = awkward_set(2)
    faulty = copy.deepcopy(dataset)
    for number, annotation in enumerate(faulty["annotations"]):
        annotation["id"] = number if ids == "from zero" else 1 + number // 2
    assert_equal(evaluate(faulty, results), dataset, results)
    assert "they get new ids" in caplog.text


def test_categories_of_one_name_stay_apart():
    dataset, results = awkward_set(4, categories=2)
    first, second = (category["id"] for category in dataset["categories"])
    for category in dataset["categories"]:
        category["name"] = "twin"
    assert set(evaluate(dataset, results).per_class) == {f"twin ({first})", f"twin ({second})"}


def test_detections_of_unlisted_categories_are_left_out():
    dataset, results = awkward_set(6)
    stray = [{**result, "category_id": 777} for result in results]
    assert_equal(evaluate(dataset, results + stray), dataset, results)


def test_table_is_the_one_pycocotools_prints():
    dataset, results = awkward_set(7)
    _, printed = run_pycocotools(dataset, results)
    scores = evaluate(dataset, results)
    assert scores.table(per_class=False) == printed.rstrip("\n")
    last = dataset["categories"][-1]["name"]
    assert scores.per_class[last] is None
    assert f"{last}" in scores.table().splitlines()[-1]
    assert list(scores.as_dict()) == [f"val_{name}" for name in NAMES]


def test_a_score_that_does_not_exist_is_no_number_to_compare():
    """-1 would be the best score so far of a training whose validation has no boxes."""
    dataset, results = awkward_set(7)
    empty = evaluate({**dataset, "annotations": []}, results)
    assert np.isnan(list(empty.as_dict().values())).all()
    assert [empty.to_dict()[name] for name in NAMES] == [None] * 12
    assert empty.table() == " nothing to score: the annotations have no objects in these images"


def test_backend_that_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    dataset, results = awkward_set(0)
    with pytest.raises(InputError, match=r"pip install 'effdense\[fast\]'"):
        evaluate(dataset, results, backend="faster")
    with pytest.raises(InputError, match="'slow' is unknown; allowed: pycocotools, faster, hotcoco"):
        evaluate(dataset, results, backend="slow")


@pytest.mark.real
@pytest.mark.parametrize("backend", ["pycocotools", "faster", "hotcoco"])
def test_published_answer(backend):
    folder = Path(os.environ["EFFDENSE_REAL"]) / "cocoapi_known_answer"
    truth, results = folder / "instances_val2014_100.json", folder / "instances_val2014_fakebbox100_results.json"
    scores = score(truth, results, backend=backend)
    # All digits: the notebook of cocoapi; the table of three digits: val2014_fake_eval_res.txt.
    assert [scores.ap, scores.ap50, scores.ap75] == pytest.approx([0.5045806987, 0.6969727247, 0.5729816670], abs=1e-9)
    text = (folder / "val2014_fake_eval_res.txt").read_text().split("type=bbox")[1].split("type=keypoints")[0]
    published = [float(line.split("=")[-1]) for line in text.splitlines() if "Average" in line]
    assert [round(value, 3) for value in twelve(scores)] == published
