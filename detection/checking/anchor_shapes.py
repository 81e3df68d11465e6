"""Anchors of a set's own shapes: the ratios and the scale under which the most boxes reach an anchor.

Redmon and Farhadi, "YOLO9000" (arXiv 1612.08242, section 2), cluster boxes by 1 - IoU; here the shapes alone are
clustered, as the sizes of anchors follow from levels and octaves, and the scale is tried.
"""

from __future__ import annotations

import numpy as np

from detection.data.boxes import Floats

SHAPES = 3  # as many as the published networks have, so that a cell costs the same
_ROUNDS = 50


def fitted_ratios(boxes_xyxy: Floats, count: int = SHAPES) -> tuple[tuple[float, float], ...]:
    """Width and height of `count` shapes of a unit square's area, the widest last.

    k-means over the shapes of the boxes, all brought to one area: a box belongs to the shape with which its IoU is
    largest, and a shape is the geometric mean of its boxes. The start are quantiles, so that the result is always the
    same.

    Args:
        boxes_xyxy: (N, 4) with positive sides, N at least 1.
        count: number of shapes.
    """
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    logs = 0.5 * np.log(sides[:, 0] / sides[:, 1])  # of the width of a box of area 1; its height has the negative
    shapes = np.quantile(logs, (np.arange(count) + 0.5) / count)
    for _ in range(_ROUNDS):
        # Of two boxes of area 1 with one centre, the shared part is exp(-|difference of the logs|): the IoU falls with
        # that difference, and the nearest shape is the one of the largest IoU.
        own = np.abs(logs[:, None] - shapes).argmin(axis=1)
        moved = np.array([logs[own == k].mean() if (own == k).any() else shapes[k] for k in range(count)])
        if np.allclose(moved, shapes, atol=1e-6):
            break
        shapes = moved
    return tuple((round(float(np.exp(log)), 2), round(float(np.exp(-log)), 2)) for log in sorted(shapes))
