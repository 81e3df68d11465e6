"""What a detector found, as a set of every format that is written: our reader has the same boxes and classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from detection.data.classes import BoxClasses
from detection.formats.found import read_set
from detection.formats.pre_labels import FOLDER, PreLabelFormat, known_by, write_pre_labels
from detection.formats.writers.choice import WRITERS
from tests.detection.formats.sets import SIZES, write_images


@dataclass(frozen=True)
class Entry:
    source: str
    size_hw: tuple[int, int]
    boxes_xyxy: list[tuple[float, float, float, float]]
    category_ids: list[int]


def test_every_format_that_is_written_may_be_asked_for() -> None:
    assert set(get_args(PreLabelFormat)) == set(WRITERS)


@pytest.mark.parametrize("to", sorted(WRITERS))
def test_the_set_is_read_again(to: PreLabelFormat, tmp_path: Path) -> None:
    write_images(tmp_path / "photos")
    classes = BoxClasses(("wheel", "", "nut"), (3, 5, 7))  # a row without a name, as COCO's ninety have ten
    found = {
        "a1.png": [(1.25, 2.5, 30.0, 40.75), (0.0, 0.0, 128.0, 96.0)],
        "b1.png": [(5.5, 6.0, 50.0, 90.25)],
        "b2.png": [],
    }
    entries = [
        Entry(str(tmp_path / "photos" / name), SIZES[name], boxes, [7, 3][: len(boxes)])
        for name, boxes in found.items()
    ]
    write_pre_labels(tmp_path / "out", entries, classes, to)
    assert (tmp_path / "out" / known_by(to)).is_file()
    table = read_set(tmp_path / "out" / FOLDER).splits["all"]
    assert len(table) == 3
    for place in range(3):
        boxes = np.array(found[table.image_path(place).name]).reshape(-1, 4)
        rows = slice(int(table.box_ends[place]), int(table.box_ends[place + 1]))
        read = table.boxes_xywh[rows].copy()
        read[:, 2:] += read[:, :2]
        np.testing.assert_allclose(read, boxes, atol=1e-3)
        assert [table.classes.names[row] for row in table.class_ids[rows]] == ["nut", "wheel"][: len(boxes)]
