"""Weighted box fusion as ensemble-boxes 1.0.9 computes it, and what must hold of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detection.data.batch import Detections
from detection.tiles.fusion import fused

# For each pass its boxes: left, top, right, bottom, 100 times the score, class. Then what `weighted_boxes_fusion` of
# ensemble-boxes 1.0.9 makes of them, with its defaults and coordinates divided by 100: box, score, class.
CASES = [
    (
        [
            [
                [2, 47, 21, 61, 21, 0],
                [36, 44, 57, 73, 86, 0],
                [37, 49, 62, 67, 77, 0],
                [38, 47, 58, 73, 81, 0],
            ],
            [
                [41, 50, 61, 65, 36, 0],
                [44, 49, 64, 67, 25, 0],
                [0, 51, 21, 61, 54, 0],
                [39, 50, 57, 72, 86, 0],
            ],
        ],
        [
            [37.5061, 47.4667, 58.4121, 71.3394, 0.825, 0],
            [0.56, 49.88, 21.0, 61.0, 0.375, 0],
            [42.2295, 49.5902, 62.2295, 65.8197, 0.305, 0],
        ],
    ),
    (
        [
            [
                [49, 39, 62, 58, 51, 0],
                [50, 50, 80, 65, 93, 0],
                [18, 0, 33, 25, 26, 1],
                [51, 48, 76, 61, 74, 0],
                [56, 52, 78, 62, 6, 0],
            ],
            [
                [56, 52, 77, 68, 47, 0],
                [50, 44, 63, 58, 93, 0],
                [50, 40, 65, 63, 25, 0],
                [51, 50, 80, 61, 37, 0],
                [48, 46, 66, 62, 63, 0],
            ],
            [
                [19, 5, 29, 20, 95, 1],
                [56, 48, 75, 61, 61, 0],
                [52, 49, 81, 67, 70, 0],
                [45, 38, 66, 57, 39, 0],
                [47, 39, 68, 63, 78, 0],
            ],
        ],
        [
            [52.0095, 50.1143, 79.6619, 66.3381, 0.7, 0],
            [47.8313, 41.8072, 66.7892, 62.6205, 0.55333, 0],
            [49.6458, 42.2292, 62.6458, 58.0, 0.48, 0],
            [52.882, 48.5506, 76.5562, 61.0337, 0.445, 0],
            [19.0, 5.0, 29.0, 20.0, 0.31667, 1],
            [45.0, 38.0, 66.0, 57.0, 0.13, 0],
            [18.0, 0.0, 33.0, 25.0, 0.08667, 1],
        ],
    ),
    (
        [
            [
                [8, 7, 25, 35, 68, 0],
                [18, 38, 52, 60, 41, 1],
                [20, 43, 50, 65, 36, 1],
                [7, 13, 27, 34, 11, 0],
                [19, 46, 50, 58, 22, 1],
                [24, 45, 45, 58, 83, 1],
            ],
            [
                [25, 40, 49, 61, 48, 1],
                [21, 42, 51, 57, 85, 1],
                [25, 45, 51, 59, 22, 1],
                [5, 9, 24, 32, 48, 0],
                [8, 5, 28, 33, 36, 0],
                [22, 41, 47, 65, 46, 1],
            ],
            [
                [2, 12, 26, 35, 28, 0],
                [25, 43, 53, 63, 9, 1],
                [7, 9, 23, 38, 94, 0],
                [24, 44, 48, 57, 24, 1],
                [8, 5, 29, 33, 22, 0],
                [4, 6, 26, 33, 59, 0],
            ],
            [
                [8, 8, 24, 38, 89, 0],
                [18, 45, 48, 65, 53, 1],
                [19, 41, 52, 63, 73, 1],
                [2, 8, 22, 39, 33, 0],
                [5, 7, 28, 39, 57, 0],
                [2, 9, 25, 38, 49, 0],
            ],
        ],
        [
            [20.6883, 40.6518, 51.0729, 60.0486, 0.6175, 1],
            [5.7845, 7.9007, 25.0875, 36.1229, 0.495, 0],
            [23.4172, 44.9868, 47.0795, 57.9868, 0.3775, 1],
            [20.2153, 43.0972, 48.4931, 64.875, 0.36, 1],
        ],
    ),
]


def found(rows: object) -> Detections:
    values = torch.tensor(rows, dtype=torch.float32).reshape(1, -1, 6)
    return Detections(values[..., :4], values[..., 4] / 100, values[..., 5].long())


@pytest.mark.parametrize(("passes", "expected"), CASES)
def test_as_the_authors_compute_it(passes: object, expected: object) -> None:
    together = fused([found(rows) for rows in passes])
    rows = np.array(expected)
    assert together.class_ids[0].tolist() == rows[:, 5].tolist()
    np.testing.assert_allclose(together.boxes_xyxy[0].numpy(), rows[:, :4], atol=1e-4)
    np.testing.assert_allclose(together.scores[0].numpy(), rows[:, 4], atol=1e-5)


def test_pictures_of_a_batch_do_not_touch_each_other() -> None:
    """Nor does padding, which one picture has and the other has not."""
    (first, _), (second, _) = CASES[0], CASES[1]
    passes = []
    for one, other in zip(first, second, strict=False):
        longest = max(len(one), len(other))
        padded = [torch.tensor(rows + [[0, 0, 0, 0, 0, -1]] * (longest - len(rows))).float() for rows in (one, other)]
        values = torch.stack(padded)
        passes.append(Detections(values[..., :4], values[..., 4] / 100, values[..., 5].long()))
    together = fused(passes)
    for row, rows in enumerate((first, second[: len(first)])):
        alone = fused([found(part) for part in rows])
        count = len(alone.scores[0])
        assert together.class_ids[row, :count].tolist() == alone.class_ids[0].tolist()
        assert (together.class_ids[row, count:] == -1).all()
        torch.testing.assert_close(together.boxes_xyxy[row, :count], alone.boxes_xyxy[0])
        torch.testing.assert_close(together.scores[row, :count], alone.scores[0])


def test_equal_passes_change_nothing() -> None:
    one = found([[0, 0, 10, 10, 90, 0], [50, 50, 60, 70, 40, 1]])
    together = fused([one, one, one])
    torch.testing.assert_close(together.boxes_xyxy, one.boxes_xyxy)
    torch.testing.assert_close(together.scores, one.scores)


def test_a_box_of_one_pass_has_its_share_of_the_score_and_may_fall_below_the_threshold() -> None:
    alone, nothing = found([[0, 0, 10, 10, 90, 0]]), found([])
    assert fused([alone, nothing]).scores.tolist() == [[pytest.approx(0.45)]]
    assert fused([alone, nothing], score_threshold=0.5).scores.shape == (1, 0)
    assert fused([nothing, nothing]).boxes_xyxy.shape == (1, 0, 4)
