"""COCO's numbers of masks: the published answer of the COCO API, and what must come out by reason."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from detection.data.classes import BoxClasses
from detection.data.coco import CocoAnnotations
from detection.data.masks import encoded
from detection.scores.masks import MaskRecords, evaluate_masks, read_masks, write_masks
from detection.scores.score import score
from engine.errors import InputError


@pytest.mark.real
def test_the_known_answer_of_the_coco_api():
    folder = Path(os.environ["EFFDENSE_REAL"], "cocoapi_known_answer")
    found = score(
        folder / "instances_val2014_100.json", folder / "instances_val2014_fakesegm100_results.json", iou_type="segm"
    )
    # val2014_fake_eval_res.txt, ~~~~ mask ~~~~
    assert found.ap == pytest.approx(0.3195452759, abs=1e-10)


@pytest.fixture
def truth(tmp_path):
    """Two images with a square each."""
    masks = np.zeros((2, 40, 40), np.bool_)
    masks[0, 5:25, 5:25] = masks[1, 10:30, 0:20] = True
    rles = encoded(masks)
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 40, "width": 40} for i in (1, 2)],
        "categories": [{"id": 5, "name": "thing"}],
        "annotations": [
            {
                "id": i + 1,
                "image_id": i + 1,
                "category_id": 5,
                "iscrowd": 0,
                "area": 400,
                "bbox": box,
                "segmentation": rle,
            }
            for i, (rle, box) in enumerate(zip(rles, ([5, 5, 20, 20], [0, 10, 20, 20]), strict=True))
        ],
    }
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(content))
    return path, rles


def test_masks_are_scored_and_not_boxes(truth, tmp_path):
    path, rles = truth
    half = np.zeros((1, 40, 40), np.bool_)
    half[0, 10:30, 0:9] = True  # less than half of the square, with the box of the whole
    records = MaskRecords()
    records.add(1, rles[:1], [(5, 5, 25, 25)], [0.9], [1])
    records.add(1, rles[:1], [(5, 5, 25, 25)], [0.9], [1])  # an image that comes again
    records.add(2, encoded(half), [(0, 10, 20, 30)], [0.8], [1])
    classes = BoxClasses(("thing",), (1,))  # the model's own number
    entries = records.gather().entries(CocoAnnotations.to_score(path), classes)
    assert len(entries) == 2
    assert {entry["category_id"] for entry in entries} == {5}
    found = evaluate_masks(path, entries)
    # Half of the objects at full precision: 51 of 101 recalls.
    assert found.ap == pytest.approx(51 / 101)
    assert found.per_class == {"thing": pytest.approx(51 / 101)}
    write_masks(tmp_path / "found.json", entries)
    assert evaluate_masks(path, read_masks(tmp_path / "found.json")) == found
    assert score(path, tmp_path / "found.json").ap == pytest.approx(1.0)  # the boxes are right
    assert evaluate_masks(path, entries, image_ids=[1]).ap == pytest.approx(1.0)


def test_nothing_found_is_zero(truth):
    assert evaluate_masks(truth[0], []).ap == 0.0


def test_faults_are_said(truth, tmp_path):
    path, rles = truth
    entry = {"image_id": 9, "category_id": 5, "segmentation": rles[0], "bbox": [0, 0, 1, 1], "score": 1.0}
    with pytest.raises(InputError, match="image"):
        evaluate_masks(path, [entry])
    (tmp_path / "boxes.json").write_text('[{"image_id": 1, "category_id": 5, "bbox": [0, 0, 1, 1], "score": 1}]')
    with pytest.raises(InputError, match="segmentation"):
        read_masks(tmp_path / "boxes.json")
    with pytest.raises(InputError, match="scored by pycocotools"):
        score(path, tmp_path / "boxes.json", iou_type="segm", backend="faster")
    content = json.loads(path.read_text())
    del content["annotations"][0]["segmentation"]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="annotations without a 'segmentation'"):
        evaluate_masks(path, [])
