"""A user's own box format: a CSV of boxes trains, validates and scores like the same boxes in a COCO file."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from PIL import Image

from detection.data.boxes import BoxTable, box_table
from detection.data.classes import BoxClasses
from detection.data.coco import CocoAnnotations
from detection.data.module import BoxDataModule, CocoDataModule
from detection.scores.metric import evaluate_boxes
from detection.scores.truth import GroundTruth
from detection.task import DetectionTask
from engine.data.contracts import SplitName
from tests.detection.small import ARCHITECTURE

CLASSES = BoxClasses(("car", "tree"), (1, 2))


def read_csv(folder: Path) -> BoxTable:
    """The toy format: `boxes.csv` with lines `image,left,top,width,height,class`; images are all PNG beside it."""
    paths = sorted(folder.glob("*.png"))
    rows = list(csv.reader((folder / "boxes.csv").open()))
    places = {path.name: place for place, path in enumerate(paths)}
    return box_table(
        str(folder / "boxes.csv"),
        CLASSES,
        paths,
        boxes_xywh=np.array([row[1:5] for row in rows], np.float64),
        image_rows=np.array([places[row[0]] for row in rows]),
        class_ids=np.array([CLASSES.names.index(row[5]) for row in rows]),
    )


class CsvData(BoxDataModule):
    """The toy format as a data module."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(**options)
        self.source = read_csv(folder)

    def has(self, split: SplitName) -> bool:
        return split != "test"

    def box_source(self, split: SplitName) -> BoxTable:
        return self.source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four noise images, three of them with boxes whose decimals float32 does not hold, in mixed order."""
    rng = np.random.default_rng(0)
    rows = []
    for place in range(4):
        pixels = rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)
        for number in range(place):
            left, top = (round(float(v), 2) for v in rng.uniform(0, 60, 2))
            pixels[int(top) : int(top) + 30, int(left) : int(left) + 40] = 255 * (number % 2)
            rows.append([f"{place}.png", left, top, 40.1, 30.3, CLASSES.names[number % 2]])
        Image.fromarray(pixels).save(tmp_path / f"{place}.png")
    with (tmp_path / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows[::-1])
    return tmp_path


def as_coco(table: BoxTable, path: Path) -> Path:
    """The same boxes as a COCO file."""
    images = [{"id": int(i), "file_name": table.file_name(k)} for k, i in enumerate(table.image_ids)]
    counts = np.diff(table.box_ends)
    annotations = [
        {"id": number, "image_id": int(image), "category_id": CLASSES.category_ids[row], "bbox": box}
        for number, (image, row, box) in enumerate(
            zip(np.repeat(table.image_ids, counts), table.class_ids, table.boxes_xywh.tolist(), strict=True), start=1
        )
    ]
    categories = [{"id": i, "name": name} for name, i in zip(CLASSES.names, CLASSES.category_ids, strict=True)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def trained(data: BoxDataModule) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Validation scores after one step, and the weights."""
    torch.manual_seed(1)
    task = DetectionTask("lite0", backbone_weights=None, classes=None)
    task.architecture = type(task.architecture)(**{**ARCHITECTURE, "image_size": (128, 128)})
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = Trainer(**options, max_steps=1, enable_model_summary=False, num_sanity_val_steps=0)
    trainer.fit(task, data)
    return {name: float(value) for name, value in trainer.validate(task, data, verbose=False)[0].items()}, {
        name: value.clone() for name, value in task.state_dict().items()
    }


def test_the_toy_format_by_hand(folder: Path) -> None:
    table = read_csv(folder)
    assert [table.image_path(place).name for place in range(4)] == ["0.png", "1.png", "2.png", "3.png"]
    assert np.diff(table.box_ends).tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(table.areas, [40.1 * 30.3] * 6, rtol=1e-15)
    lines = [row for row in csv.reader((folder / "boxes.csv").open()) if row[0] == "2.png"]
    np.testing.assert_array_equal(table.boxes_xywh[1:3], np.array([row[1:5] for row in lines], np.float64))


def test_trains_and_scores_as_the_same_boxes_in_coco_form(folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"batch_size": 4, "num_workers": 0}
    numbers, weights = trained(CsvData(folder, **options))
    assert not list(folder.rglob("*.json"))
    file = as_coco(read_csv(folder), tmp_path / "boxes.json")
    paths = {f"{split}_{what}": str(path) for split in ("train", "val") for what, path in
             (("images", folder), ("annotations", file))}  # fmt: skip
    wanted_numbers, wanted_weights = trained(CocoDataModule(**paths, **options))
    assert numbers == pytest.approx(wanted_numbers, rel=0, abs=0, nan_ok=True)
    assert {"val_ap", "val_ap50", "val_ar100"} <= set(numbers)
    assert all(torch.equal(value, wanted_weights[name]) for name, value in weights.items())


def test_found_boxes_score_the_same_against_table_file_and_object(folder: Path, tmp_path: Path) -> None:
    table = read_csv(folder)
    file = as_coco(table, tmp_path / "boxes.json")
    truth = GroundTruth.of(table)
    found = np.column_stack(
        [truth.annotation_image_ids, truth.boxes_xywh + np.array((3, 0, 4, 0)), np.linspace(0, 1, 6),
         truth.annotation_category_ids]
    )  # fmt: skip
    scores = evaluate_boxes(table, found)
    assert 0.5 < scores.ap < 1
    assert scores == evaluate_boxes(file, found) == evaluate_boxes(CocoAnnotations.read(file), found)
