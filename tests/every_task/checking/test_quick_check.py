"""The line of `fit` about its data, in every task: by annotations and few files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detection.checking.quick import quick_report as look_at_boxes
from detection.data.module import CocoDataModule
from detection.network.family import architecture
from engine.tasks import find_task
from segmentation.checking.quick import quick_check as look_at_masks
from segmentation.data.module import SegmentationDataModule
from tests.detection.small import command

_LINES = {
    "detection": "quick check of the boxes of 10 images: ",
    "segmentation": "quick check of the pairs of 10 images, and 10 of their masks: ",
    "joint": "quick check of the boxes of 10 images and some of their masks: ",
}


@pytest.mark.by_default("detection")
def test_fit_says_what_it_found_in_one_line(task: str) -> None:
    said = command("fit --config small.yaml --trainer.fast_dev_run true --trainer.accelerator cpu", find_task(task))
    assert said.code == 0, said.err
    lines = [line for line in said.err.splitlines() if "quick check" in line]
    assert len(lines) == 1
    assert _LINES[task] in lines[0]
    assert "split.same" not in lines[0]  # a test on other splits is no matter of a training


@pytest.mark.parametrize("task", ["detection"], indirect=True)
def test_a_planted_fault_of_a_box_is_in_the_line(task: str) -> None:
    content = json.loads(Path("scenes/annotations/instances_train.json").read_text())
    content["annotations"][0]["bbox"][2] = 0
    content["annotations"].append({**content["annotations"][1], "id": 10_000})
    Path("broken.json").write_text(json.dumps(content))
    report = look_at_boxes(CocoDataModule(None, "scenes", "broken.json"), architecture("lite0"))
    assert report is not None
    assert "box.no_area 1" in report.line()
    assert "box.duplicate 1" in report.line()
    assert report.first_look("doctor").endswith("; `doctor` tells more")
    assert look_at_boxes("no data module", architecture("lite0")) is None


@pytest.mark.parametrize("task", ["segmentation"], indirect=True)
def test_a_planted_fault_of_a_mask_is_in_the_line(task: str) -> None:
    for split in ("train", "val"):
        for kind, end in (("leftImg8bit", "_leftImg8bit.png"), ("gtFine", "_gtFine_labelIds.png")):
            for path in Path("scenes", kind, split).rglob(f"*{end}"):
                target = Path("own", kind, split, "a", path.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    report = look_at_masks(SegmentationDataModule("cityscapes", "own"))
    assert report is not None
    assert report.line() == "nothing found"
    mask = next(Path("own/gtFine/val").rglob("*.png"))
    Image.fromarray(np.array(Image.open(mask))[:-1]).save(mask)
    report = look_at_masks(SegmentationDataModule("cityscapes", "own"))
    assert report is not None
    assert [(one.name, one.file) for one in report.findings] == [("mask.size", str(mask))]
    assert look_at_masks("no data module") is None
