"""The same set in COCO, Pascal VOC, YOLO and CSV: the same arrays, and the same training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer

from detection.data.boxes import BoxTable
from detection.formats.found import read_set
from detection.formats.module import BoxSetModule
from detection.task import DetectionTask
from tests.detection.formats.sets import BOXES, NAMES, SIZES, SPLITS, WRITERS, write_coco
from tests.detection.small import ARCHITECTURE

LINES = {
    "coco": "COCO, 4 images, 3 classes, 5 boxes (train 2, val 2)",
    "voc": "Pascal VOC, 4 images, 3 classes, 5 boxes (train 2, val 2)",
    "yolo": "YOLO, 4 images, 3 classes, 5 boxes (train 2, val 2)",
    "csv": "CSV of boxes, 4 images, 3 classes, 5 boxes (train 2, val 2)",
}
COLUMNS = ("image_ids", "sizes_hw", "box_ends", "boxes_xywh", "class_ids", "areas", "crowd")


def same(first: BoxTable, second: BoxTable) -> None:
    """All that training and scoring ask is identical."""
    for column in COLUMNS:
        np.testing.assert_array_equal(getattr(first, column), getattr(second, column), column)
    assert first.classes == second.classes
    names = [[table.image_path(place).name for place in range(len(table))] for table in (first, second)]
    assert names[0] == names[1]


@pytest.mark.parametrize("word", WRITERS)
def test_reads_what_was_written_by_hand(word: str, tmp_path: Path) -> None:
    found = read_set(WRITERS[word](tmp_path / "set"))
    assert found.line() == LINES[word]
    for split, names in SPLITS.items():
        table = found.splits[split]
        assert [table.image_path(place).name for place in range(len(table))] == list(names)
        assert all(table.image_path(place).is_file() for place in range(len(table)))
        assert table.sizes_hw.tolist() == [list(SIZES[name]) for name in names]
        boxes = [
            (names[place], NAMES[row], (x, y, x + w, y + h))
            for place in range(len(table))
            for (x, y, w, h), row in zip(
                table.boxes_xywh[table.box_ends[place] : table.box_ends[place + 1]].tolist(),
                table.class_ids[table.box_ends[place] : table.box_ends[place + 1]],
                strict=True,
            )
        ]
        assert boxes == [tuple(box) for box in BOXES if box.image in names]


@pytest.mark.parametrize("word", ["voc", "yolo", "csv"])
def test_arrays_are_those_of_coco(word: str, tmp_path: Path) -> None:
    one, other = read_set(write_coco(tmp_path / "coco")), read_set(WRITERS[word](tmp_path / "other"))
    assert list(one.splits) == list(other.splits)
    for split in one.splits:
        same(one.splits[split], other.splits[split])


def trained(root: Path, steps: int, size: int = 128, **options: object) -> list[torch.Tensor]:
    """The weights after some steps on a set."""
    torch.manual_seed(1)
    task = DetectionTask("lite0", backbone_weights=None, classes=None)
    task.architecture = type(task.architecture)(**{**ARCHITECTURE, "image_size": (size, size)})
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(**off, accelerator="cpu", max_steps=steps, num_sanity_val_steps=0, limit_val_batches=0)
    trainer.fit(task, BoxSetModule(str(root), batch_size=2, num_workers=0, **options))
    return [value.clone() for value in task.state_dict().values()]


@pytest.mark.slow
def test_training_is_that_of_coco_for_20_steps(tmp_path: Path) -> None:
    weights = {word: trained(write(tmp_path / word), steps=20) for word, write in WRITERS.items()}
    before = trained(tmp_path / "coco", steps=1)
    assert any(not torch.equal(one, other) for one, other in zip(before, weights["coco"], strict=True))
    for word in ("voc", "yolo", "csv"):
        assert all(torch.equal(one, other) for one, other in zip(weights["coco"], weights[word], strict=True)), word
