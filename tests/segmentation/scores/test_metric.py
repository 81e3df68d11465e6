"""The names of the scores, how they are printed, and what a file of them holds."""

import json
import math

import numpy as np
import pytest

from segmentation.data.cityscapes.labels import CITYSCAPES
from segmentation.data.classes import MaskClasses
from segmentation.scores.records import SegmentationRecords
from tests.segmentation.cityscapes_oracle import awkward_image

NUCLEI = MaskClasses(("background", "nucleus", "never"))


def nuclei_scores(boundary=None):
    records = SegmentationRecords(NUCLEI, boundary=boundary)
    true = np.array([[0, 0, 1, 1], [0, 0, 1, 255]], np.uint8)
    predicted = np.array([[0, 1, 1, 1], [0, 0, 0, 1]], np.uint8)
    records.add(0, predicted, true)
    return records.scores()


def test_numbers_of_any_classes():
    scores = nuclei_scores()
    assert scores.class_ious == {"background": 3 / 5, "nucleus": 2 / 4, "never": None}
    assert scores.as_dict() == {
        "val_miou": pytest.approx(0.55),
        "val_pixel_accuracy": 5 / 7,
        "val_mean_accuracy": pytest.approx((3 / 4 + 2 / 3) / 2),
    }
    assert scores.confusion.tolist() == [[3, 1, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0]]
    assert scores.as_dict("test_").keys() == {"test_miou", "test_pixel_accuracy", "test_mean_accuracy"}
    assert all(type(value) is float for value in scores.as_dict().values())


def test_table_of_any_classes():
    assert nuclei_scores(boundary=1).table().splitlines() == [
        # Every pixel is at the frame, so that along the outlines there is the same as everywhere.
        " class         IoU  boundary F  boundary IoU",
        " background  0.600       1.000         0.600",
        " nucleus     0.500       1.000         0.500",
        " never           -           -             -",
        " mean        0.550       1.000         0.550",
        "",
        " pixel accuracy 0.714   mean accuracy 0.708",
    ]
    assert nuclei_scores().table(per_class=False).splitlines()[:2] == [" class    IoU", " mean   0.550"]


def test_table_and_names_of_cityscapes():
    records = SegmentationRecords(CITYSCAPES, cityscapes=True)
    for seed in range(20):
        records.put(seed, records.counter.of_ids(*awkward_image(seed, (20, 20))))
    scores = records.scores()
    assert scores.as_dict("").keys() == {
        "miou", "pixel_accuracy", "mean_accuracy", "iiou", "category_iou", "category_iiou"
    }  # fmt: skip
    lines = scores.table().splitlines()
    assert lines[0].split() == ["class", "IoU", "iIoU"]
    assert [line.split()[0] for line in lines if line.startswith(" mean ")] == ["mean", "mean"]
    assert f"{scores.class_iious['rider']:0.3f}" in next(line for line in lines if line.startswith(" rider "))
    assert len({len(line) for line in lines[:21]}) == 1
    assert len(lines) == 21 + 1 + 9 + 2


def test_nothing_counted_is_nan_and_null():
    records = SegmentationRecords(NUCLEI)
    scores = records.scores()
    assert all(math.isnan(value) for value in scores.as_dict().values())
    records.add(0, np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8))
    scores = records.scores()
    assert all(math.isnan(value) for value in scores.as_dict().values())
    assert scores.table().splitlines()[-1] == " pixel accuracy -   mean accuracy -"
    stored = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert stored["miou"] is None
    assert stored["class_ious"] == dict.fromkeys(NUCLEI.names)
    assert np.array(stored["confusion"]).shape == (3, 4)


def test_a_file_of_the_scores_holds_all_of_them():
    scores = nuclei_scores(boundary=1)
    stored = scores.to_dict()
    assert stored["boundary_fs"] == {"background": 1, "nucleus": 1, "never": None}
    assert stored["boundary_ious"] == {"background": 0.6, "nucleus": 0.5, "never": None}
    assert stored["miou"] == scores.miou
    assert "category_ious" not in stored
