"""A plain pycocotools run, and sets on which it is hard to get the same numbers."""

import contextlib
import copy
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detection.scores.metric import evaluate_boxes

NAMES = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"]
NAMES += ["ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"]


def run_pycocotools(dataset, results, image_ids=None, category_ids=None):
    """The twelve numbers and the printed table of pycocotools, from dictionaries that are not changed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(dataset)
        truth.createIndex()
        if results:
            found = truth.loadRes(copy.deepcopy(results))
        else:
            found = COCO()
            found.dataset = {**copy.deepcopy(dataset), "annotations": []}
            found.createIndex()
        evaluator = COCOeval(truth, found, "bbox")
        if image_ids is not None:
            evaluator.params.imgIds = list(image_ids)
        if category_ids is not None:
            evaluator.params.catIds = list(category_ids)
        evaluator.evaluate()
        evaluator.accumulate()
        with contextlib.redirect_stdout(printed):
            evaluator.summarize()
    return evaluator.stats, printed.getvalue()


def evaluate(dataset, results, **options):
    """Our numbers, from a COCO object."""
    truth = COCO()
    truth.dataset = dataset
    return evaluate_boxes(truth, results, **options)


def twelve(scores):
    return [getattr(scores, name) for name in NAMES]


def assert_equal(scores, dataset, results, tolerance=1e-9, **options):
    expected, _ = run_pycocotools(dataset, results, **options)
    np.testing.assert_allclose(twelve(scores), expected, rtol=0, atol=tolerance)
    for category in dataset["categories"]:
        alone, _ = run_pycocotools(dataset, results, category_ids=[category["id"]], **options)
        ours = scores.per_class[category["name"]]
        assert (-1 if ours is None else ours) == pytest.approx(alone[0], abs=tolerance)


def awkward_set(seed, images=9, per_image=12, detections=30, categories=4, crowd=0.15, steps=6):
    """Objects of all sizes and detections that hit, touch and miss them, with tied scores and ids with gaps."""
    rng = np.random.default_rng(seed)
    image_ids = rng.choice(np.r_[0, 1, 7, 2**31 + np.arange(images), 2**53 - 1 - np.arange(images)], images, False)
    category_ids = rng.choice(np.r_[0 : 3 * categories, 10**6], categories, False)
    dataset = {
        "images": [{"id": int(i), "width": 900, "height": 900} for i in image_ids],
        "categories": [{"id": int(c), "name": f"class {c}"} for c in category_ids],
        "annotations": [],
    }
    results = []
    for image_id in image_ids:
        objects = rng.integers(0, per_image + 1) * (rng.random() > 0.2)
        sizes = rng.choice([8, 32, 33, 64, 96, 97, 250], (objects, 2))
        boxes = np.c_[rng.integers(0, 400, (objects, 2)), sizes].astype(float)
        rows = rng.choice(category_ids[: max(1, categories - 1)], objects)  # the last one never occurs
        for box, category_id in zip(boxes, rows, strict=True):
            area = float(rng.choice([box[2] * box[3], 32.0**2, 96.0**2, box[2] * box[3] * 0.4]))
            dataset["annotations"].append(
                {
                    "id": 3 * len(dataset["annotations"]) + 5,
                    "image_id": int(image_id),
                    "category_id": int(category_id),
                    "bbox": box.tolist(),
                    "area": area,
                    "iscrowd": int(rng.random() < crowd),
                    "ignore": int(rng.random() < 0.2),
                }
            )
        for _ in range(detections * (rng.random() > 0.2)):
            known = len(boxes) and rng.random() < 0.8
            pick = rng.integers(len(boxes)) if known else 0
            box = boxes[pick].copy() if known else np.r_[rng.integers(0, 400, 2), rng.integers(0, 200, 2)] * 1.0
            box += rng.choice([0, 0, 1, 4, -0.25, 8], 4)
            results.append(
                {
                    "image_id": int(image_id),
                    "category_id": int(rows[pick] if known and rng.random() < 0.9 else rng.choice(category_ids)),
                    "bbox": np.maximum(box, 0).tolist(),
                    "score": float(rng.integers(0, steps) / steps),
                }
            )
    rng.shuffle(results)
    return dataset, results
