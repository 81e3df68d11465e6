"""Boxes of unlabelled images become a training set, from each class's own score on."""

from __future__ import annotations

import json

import numpy as np
import pytest

from detection.analysis.curves import ClassCurve
from detection.data.coco import CocoAnnotations
from detection.training.pseudo_labels import least_score, main

CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "owl"}]
BOX = [10, 10, 20, 20]
AWAY = [60, 60, 20, 20]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Cats are right from .3 on, dogs from .8 on, and no owl is ever right."""
    monkeypatch.chdir(tmp_path)
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 100} for i in range(1, 5)]
    truth = [
        {"id": i * 10 + c, "image_id": i, "category_id": c, "bbox": BOX, "area": 400, "iscrowd": 0}
        for i in range(1, 5)
        for c in (1, 2, 3)
    ]
    (tmp_path / "val.json").write_text(json.dumps({"images": images, "annotations": truth, "categories": CATEGORIES}))
    validated = []
    for i, (cat, dog) in enumerate(zip((0.9, 0.5, 0.4, 0.3), (0.9, 0.8, 0.6, 0.5), strict=True), 1):
        validated.append({"image_id": i, "category_id": 1, "bbox": BOX, "score": cat})
        validated.append({"image_id": i, "category_id": 2, "bbox": BOX if dog >= 0.8 else AWAY, "score": dog})
        validated.append({"image_id": i, "category_id": 3, "bbox": AWAY, "score": 0.9})
    (tmp_path / "found_val.json").write_text(json.dumps(validated))
    new = [{"id": i, "file_name": f"new/{i}.jpg", "width": 100, "height": 100} for i in range(3)]
    scored = [(0, 1, 0.35), (0, 2, 0.7), (1, 2, 0.85), (1, 3, 0.99), (2, 1, 0.2), (2, 2, 0.75)]
    found = [
        {"id": n, "image_id": i, "category_id": c, "bbox": BOX, "area": 400, "iscrowd": 0, "score": s}
        for n, (i, c, s) in enumerate(scored, 1)
    ]
    (tmp_path / "new.json").write_text(json.dumps({"categories": CATEGORIES, "images": new, "annotations": found}))
    return ["--ground-truth", "val.json", "--validated", "found_val.json", "--predictions", "new.json"]


def test_each_class_has_its_own_score(files, tmp_path, capsys):
    assert main([*files, "--output", "pseudo.json"]) == 0
    content = json.loads((tmp_path / "pseudo.json").read_text())
    kept = [(a["image_id"], a["category_id"], a["score"]) for a in content["annotations"]]
    assert kept == [(0, 1, 0.35), (1, 2, 0.85)]
    assert [image["id"] for image in content["images"]] == [0, 1]
    said = capsys.readouterr().out
    assert "cat  from 0.300  1" in said
    assert "owl  no score reaches it  0" in said
    assert "2 of 3 images" in said
    trains = CocoAnnotations.read(tmp_path / "pseudo.json", tmp_path)
    assert trains.classes.names == ("cat", "dog", "owl")
    assert len(trains.boxes_xywh) == 2


def test_a_wanted_precision(files, tmp_path, capsys):
    # Of the dogs from .6 on two of three are right, of all of them two of four.
    assert main([*files, "--output", "pseudo.json", "--precision", "0.6"]) == 0
    kept = json.loads((tmp_path / "pseudo.json").read_text())["annotations"]
    assert sum(a["category_id"] == 2 for a in kept) == 3
    assert "dog  from 0.600  3" in capsys.readouterr().out


def test_equal_scores_are_taken_together():
    curve = ClassCurve(4, np.array([0.9, 0.5, 0.5, 0.2]), np.array([True, True, False, False]))
    assert least_score(curve, 0.9) == 0.9
    assert least_score(curve, 0.6) == 0.5
    assert least_score(ClassCurve(4, np.zeros(0), np.zeros(0, bool)), 0.5) is None


def test_a_precision_that_nothing_reaches_is_refused(files, tmp_path, capsys):
    found = json.loads((tmp_path / "found_val.json").read_text())
    (tmp_path / "found_val.json").write_text(json.dumps([{**entry, "bbox": AWAY} for entry in found]))
    assert main([*files, "--output", "pseudo.json", "--precision", "0.5"]) == 2
    assert "Give a lower --precision" in capsys.readouterr().err
    assert not (tmp_path / "pseudo.json").exists()
