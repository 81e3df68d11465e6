"""The tables of a report on masks are counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from segmentation.data.classes import MaskClasses
from segmentation.reports.masks import FoundMasks, confused_pairs, image_table
from segmentation.scores.metric import class_scores

CLASSES = MaskClasses(("road", "grass", "tree"))
CONFUSION = np.array([[6, 3, 1, 0], [0, 8, 0, 2], [5, 0, 0, 0]])


def test_confused_pairs_and_the_worst_images():
    scores = {4: 0.5, 7: 0.25, 9: float("nan"), 2: 0.75}
    names = {place: f"{place}.png" for place in scores}
    found = FoundMasks(CLASSES, class_scores(CLASSES, CONFUSION), scores, names, lambda _: None)
    assert confused_pairs(found).rows == (
        ("tree", "road", 5, 1.0),
        ("road", "grass", 3, pytest.approx(0.3)),
        ("grass", "no class", 2, pytest.approx(0.2)),
        ("road", "tree", 1, pytest.approx(0.1)),
    )
    assert found.scores.confusion.tolist() == CONFUSION.tolist()  # left as it is
    assert image_table(found).rows == (("7.png", 0.25), ("4.png", 0.5), ("2.png", 0.75))
