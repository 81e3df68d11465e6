"""Answers in the forms of other libraries, judged by the libraries themselves where they are installed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco
from pycocotools.coco import COCO

import joint
from detection.data.masks import encoded
from detection.prediction.found import Found
from engine.errors import InputError
from joint.prediction.found import JointFound
from segmentation.data.classes import MaskClasses
from segmentation.inference.segmented import Segmented

HEIGHT, WIDTH = 48, 80
DATA = Path(__file__).parents[2] / "before/data"


def masks_of(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Masks that are boxes without their upper left corner."""
    masks = np.zeros((len(boxes), HEIGHT, WIDTH), np.bool_)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
        mask[top : top + 3, left : left + 4] = False
    return masks


MASKS = masks_of((5, 7, 30, 40), (40, 10, 78, 22), (1, 1, 12, 12))


def found(masks: bool = False, tracks: bool = False) -> Found:
    return Found(
        boxes_xyxy=np.array([[5.25, 7.5, 29.75, 40.0], [40, 10, 78, 22.5], [0.5, 1, 12, 12.25]], np.float32),
        scores=np.array([0.9, 0.625, 0.5], np.float32),
        labels=["car", "dog", "car"],
        class_ids=np.array([0, 1, 0], np.int64),
        category_ids=np.array([3, 18, 3], np.int64),
        size_hw=(HEIGHT, WIDTH),
        masks=encoded(MASKS) if masks else None,
        track_ids=np.array([4, -1, 6]) if tracks else None,
    )


def nothing() -> Found:
    empty = np.zeros(0, np.int64)
    return Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), [], empty, empty, (HEIGHT, WIDTH), masks=[])


def segmented() -> Segmented:
    rows = np.zeros((HEIGHT, WIDTH), np.uint8)
    rows[10:20, 5:30] = 2
    rows[12:15, 8:12] = 0
    return Segmented(rows, MaskClasses(("ground", "water", "roof"), (7, 9, 30)))


def test_coco_reads_the_results(tmp_path):
    truth = {"images": [{"id": 12, "height": HEIGHT, "width": WIDTH}], "annotations": [], "categories": []}
    truth["categories"] = [{"id": number, "name": str(number)} for number in (3, 18)]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    results = found(masks=True).to_coco(12)
    (tmp_path / "results.json").write_text(json.dumps(results))
    read = COCO(tmp_path / "truth.json").loadRes(str(tmp_path / "results.json"))
    annotations = read.loadAnns(read.getAnnIds(imgIds=[12]))
    assert [one["category_id"] for one in annotations] == [3, 18, 3]
    for one, mask in zip(annotations, MASKS, strict=True):
        np.testing.assert_array_equal(read.annToMask(one), mask)
    assert results[0]["bbox"] == [5.25, 7.5, 24.5, 32.5]
    assert [one["score"] for one in results] == [np.float32(value).item() for value in (0.9, 0.625, 0.5)]
    assert "segmentation" not in found().to_coco()[0]
    assert nothing().to_coco() == []


def test_coco_reads_the_classes_of_pixels():
    own = segmented()
    results = own.to_coco(5)
    assert [(one["image_id"], one["category_id"]) for one in results] == [(5, 7), (5, 30)]
    for one in json.loads(json.dumps(results)):
        np.testing.assert_array_equal(coco.decode(one["segmentation"]), own.label_ids == one["category_id"])


def test_masks_are_arrays_run_lengths_and_polygons():
    own = found(masks=True)
    np.testing.assert_array_equal(own.mask_pixels(), MASKS)
    for (polygon,), mask in zip(own.polygons(), MASKS, strict=True):
        drawn = coco.decode(coco.frPyObjects([polygon.outline.ravel().astype(float).tolist()], HEIGHT, WIDTH))[..., 0]
        np.testing.assert_array_equal(drawn, mask)
    (roof,) = segmented().polygons("roof")
    assert roof.outline.tolist() == [[5, 10], [5, 20], [30, 20], [30, 10]]
    assert sorted(map(tuple, roof.holes[0].tolist())) == [(8, 12), (8, 15), (12, 12), (12, 15)]
    assert segmented().polygons("water") == []
    assert segmented().mask_of("roof").sum() == 250 - 12
    with pytest.raises(
        InputError, match=r"class 'rooof' is unknown; allowed: ground, water, roof\. Did you mean 'roof'"
    ):
        segmented().mask_of("rooof")
    with pytest.raises(InputError, match="this detector finds boxes only"):
        found().polygons()


def test_pandas():
    pytest.importorskip("pandas")
    table = found(tracks=True).to_pandas()
    assert list(table) == ["label", "score", "class_id", "category_id", "left", "top", "right", "bottom", "track_id"]
    assert table.groupby("label")["score"].max().to_dict() == {"car": np.float32(0.9), "dog": 0.625}
    np.testing.assert_array_equal(table[["left", "top", "right", "bottom"]].to_numpy(), found().boxes_xyxy)
    assert len(nothing().to_pandas()) == 0
    assert "track_id" not in nothing().to_pandas()
    areas = segmented().to_pandas().set_index("class")
    assert areas["pixels"].to_dict() == {"ground": HEIGHT * WIDTH - 238, "water": 0, "roof": 238}
    assert areas["share"].sum() == pytest.approx(1)
    assert areas["label_id"].to_list() == [7, 9, 30]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_torchmetrics_finds_what_was_found(kind):
    detection = pytest.importorskip("torchmetrics.detection")
    metric = detection.MeanAveragePrecision(iou_type=kind)
    own = found(masks=kind == "segm").to_torchmetrics()
    truth = {name: value for name, value in own.items() if name != "scores"}
    metric.update([own], [truth])
    metric.update([nothing().to_torchmetrics()], [truth])
    scores = metric.compute()
    assert scores["classes"].tolist() == [3, 18]
    # Half of the objects are found, all of those at first: precision is 1 up to recall 0.5, at 51 of 101 places.
    assert scores["map"].item() == pytest.approx(51 / 101)


def test_torchmetrics_takes_classes_of_pixels():
    metric = pytest.importorskip("torchmetrics.segmentation").MeanIoU(num_classes=3, input_format="index")
    own = segmented().to_torchmetrics()
    assert (own.shape, own.dtype) == ((1, HEIGHT, WIDTH), torch.int64)
    metric.update(own, own)
    assert metric.compute().item() == 1


def test_supervision():
    sv = pytest.importorskip("supervision")
    theirs = found(masks=True, tracks=True).to_supervision()
    np.testing.assert_array_equal(theirs.xyxy, found().boxes_xyxy)
    np.testing.assert_array_equal(theirs.area, MASKS.sum((1, 2)))
    cars = theirs[theirs["class_name"] == "car"]
    assert (cars.confidence.tolist(), cars.tracker_id.tolist()) == ([np.float32(0.9), 0.5], [4, 6])
    assert len(theirs.with_nms(0.5)) == 3
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    assert sv.MaskAnnotator().annotate(picture.copy(), theirs).any()
    assert sv.BoxAnnotator().annotate(picture.copy(), found().to_supervision()).any()
    assert len(nothing().to_supervision()) == 0
    classes = segmented().to_supervision()
    assert classes["class_name"].tolist() == ["ground", "roof"]
    assert classes.class_id.tolist() == [0, 2]
    np.testing.assert_array_equal(classes.mask[1], segmented().mask_of("roof"))
    assert classes.xyxy[1].tolist() == [5, 10, 30, 20]


def test_sahi():
    pytest.importorskip("sahi")
    theirs = found(masks=True).to_sahi()
    for one, mask in zip(theirs, MASKS, strict=True):
        np.testing.assert_array_equal(one.mask.bool_mask, mask)
    boxes = found().to_sahi()
    assert [one.bbox.to_xyxy() for one in boxes] == found().boxes_xyxy.tolist()
    assert [(one.category.id, one.category.name) for one in boxes] == [(3, "car"), (18, "dog"), (3, "car")]
    own = found().to_coco(3)
    for one, other in zip(boxes, own, strict=True):
        written = one.to_coco_prediction(image_id=3).json
        assert (written["bbox"], written["category_id"]) == (other["bbox"], other["category_id"])
        assert written["score"] == pytest.approx(other["score"])
    assert nothing().to_sahi() == []


def test_fiftyone():
    fo = pytest.importorskip("fiftyone")
    theirs = found(tracks=True).to_fiftyone()
    assert [one.label for one in theirs.detections] == ["car", "dog", "car"]
    assert [one.index for one in theirs.detections] == [4, None, 6]
    assert theirs.detections[1].bounding_box == [0.5, 10 / 48, 38 / 80, 12.5 / 48]
    for one, mask in zip(found(masks=True).to_fiftyone().detections, MASKS, strict=True):
        whole = one.to_segmentation(frame_size=(WIDTH, HEIGHT), target=1)
        np.testing.assert_array_equal(whole.mask > 0, mask)
    assert nothing().to_fiftyone().detections == []
    classes = segmented().to_fiftyone()
    assert isinstance(classes, fo.Segmentation)
    np.testing.assert_array_equal(classes.mask, segmented().label_ids)


@pytest.mark.parametrize("package", ["pandas", "supervision", "fiftyone", "sahi"])
def test_a_missing_package_is_named(package, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    said = rf"^this needs the package {package}, which is not installed\. Run: pip install {package}$"
    answers: list[Any] = [found()] if package == "sahi" else [found(), segmented()]
    for answer in answers:
        with pytest.raises(InputError, match=said):
            getattr(answer, f"to_{package}")()


def test_both_answers_of_a_joint_network():
    both: JointFound = joint.load(DATA / "joint.ckpt", fold=False).predict(min((DATA / "pictures").glob("*.png")))
    assert both.found is not None
    assert both.segmented is not None
    assert len(both.found.to_coco(1)) == len(both.found)
    pixels = sum(coco.area(one["segmentation"]) for one in both.segmented.to_coco(1))
    assert pixels == both.size_hw[0] * both.size_hw[1]
