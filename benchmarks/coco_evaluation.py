"""COCO's twelve numbers by pycocotools, faster-coco-eval and hotcoco: that they are equal, and how long each takes.

    python benchmarks/coco_evaluation.py

1,000 images with 100 detections and about seven objects each, in 80 categories, as in a validation on COCO. The
backends take turns; measured is all of `evaluate_boxes`, which is what `validate` calls.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import time

import numpy as np
from pycocotools.coco import COCO

from detection.scores.metric import BoxScores, evaluate_boxes
from detection.scores.records import DetectionTable
from detection.scores.truth import GroundTruth
from engine.hardware.machine import in_words, machine

BACKENDS = ("pycocotools", "faster", "hotcoco")
CATEGORIES = 80


def generated(images: int, detections: int) -> tuple[GroundTruth, DetectionTable]:
    """Objects of COCO's sizes, and detections of which about a half lie on an object."""
    random = np.random.default_rng(0)
    objects = random.poisson(7.3, images)
    owner = np.repeat(np.arange(images), objects)
    size = np.exp(random.normal(4, 0.9, (len(owner), 2)))
    boxes = np.concatenate([random.uniform(0, 500, (len(owner), 2)), size], 1)
    categories = random.integers(0, CATEGORIES, len(owner)) + 1
    content = {
        "images": [{"id": image + 1, "width": 640, "height": 640} for image in range(images)],
        "categories": [{"id": number + 1, "name": f"class {number}"} for number in range(CATEGORIES)],
        "annotations": [
            {"id": n + 1, "image_id": int(owner[n]) + 1, "category_id": int(categories[n]), "iscrowd": 0,
             "bbox": boxes[n].tolist(), "area": float(boxes[n, 2:].prod())}
            for n in range(len(owner))
        ],
    }  # fmt: skip
    image_ids = np.repeat(np.arange(images), detections)
    found = np.concatenate(
        [random.uniform(0, 500, (len(image_ids), 2)), np.exp(random.normal(4, 0.9, (len(image_ids), 2)))], 1
    )
    found_categories = random.integers(0, CATEGORIES, len(image_ids)) + 1
    near = random.integers(0, len(owner), len(image_ids) // 2)
    places = image_ids.searchsorted(owner[near]) + random.integers(0, detections, len(near))
    found[places] = boxes[near] + random.normal(0, 6, (len(near), 4))
    found[places, 2:] = np.maximum(found[places, 2:], 1)
    found_categories[places] = categories[near]
    scores = random.random(len(image_ids))
    rows = np.column_stack([image_ids + 1, found, scores, found_categories])
    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return GroundTruth.of(coco), DetectionTable.of(rows)


def main() -> None:
    """Print minimum and median of each in seconds, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    truth, table = generated(given.images, given.detections)
    seconds: dict[str, list[float]] = {backend: [] for backend in BACKENDS}
    scores: dict[str, BoxScores] = {}
    for _ in range(given.rounds):
        for backend in BACKENDS:
            start = time.perf_counter()
            scores[backend] = evaluate_boxes(truth, table, backend=backend)
            seconds[backend].append(time.perf_counter() - start)
    expected = scores["pycocotools"]
    print(in_words(machine()))
    print(f"{given.images} images, {len(table)} detections; AP {expected.ap:.4f}")
    for backend in BACKENDS:
        own = np.array(list(scores[backend].twelve.values()))
        apart = np.abs(own - list(expected.twelve.values())).max()
        least, median = min(seconds[backend]), statistics.median(seconds[backend])
        ratio = min(seconds["pycocotools"]) / least
        print(f"{backend:12s} {least:8.3f} s {median:8.3f} s {ratio:7.1f} times; largest difference {apart:.1e}")


if __name__ == "__main__":
    main()
