"""TensorFlow Lite's operator for detections in NumPy, written from its description and source, to compare files with.

Source: tensorflow/lite/kernels/detection_postprocess.cc, `use_regular_nms`: in each class the boxes at or above the
score threshold, best first, each of which drops those that overlap it by more than the threshold; at most
`detections_per_class` of a class; then the best `max_detections` of all classes. All in float32.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Found(NamedTuple):
    """Boxes (N, 4) as ymin, xmin, ymax, xmax, their classes (N,) and scores (N,), best first."""

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray


def overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of one box with others (N, 4); 0 for those without area."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1, dtype=np.float32)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1, dtype=np.float32)
    area = (box[2:] - box[:2]).prod(dtype=np.float32)
    usable = (areas > 0) & (area > 0)
    return np.where(usable, shared / np.where(usable, area + areas - shared, 1), 0)


def suppressed(
    boxes: np.ndarray, scores: np.ndarray, score_threshold: float, iou_threshold: float, max_detections: int
) -> Found:
    """What the operator gives of boxes (R, 4) and scores (R, K)."""
    kept: list[tuple[float, int, int]] = []
    for row in range(scores.shape[1]):
        (alive,) = np.nonzero(scores[:, row] >= np.float32(score_threshold))
        alive = alive[np.argsort(-scores[alive, row], kind="stable")]
        chosen = 0
        while len(alive) and chosen < max_detections:
            best, alive = alive[0], alive[1:]
            kept.append((float(scores[best, row]), row, int(best)))
            chosen += 1
            alive = alive[overlaps(boxes[best], boxes[alive]) <= np.float32(iou_threshold)]
    kept = sorted(kept, key=lambda entry: -entry[0])[:max_detections]
    values, rows, places = (np.array([entry[part] for entry in kept]) for part in range(3))
    return Found(boxes[places.astype(int)], rows.astype(int), values)
