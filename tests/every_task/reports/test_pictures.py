"""A run of each task draws itself, logs the same pictures, and its numbers are those of the printed table."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from engine.reports.document import read_report
from engine.tasks import find_task
from tests.detection.small import command
from tests.every_task.watching import run

BOXES = {"precision_and_recall.png", "f1_over_the_least_score.png", "confusion_of_classes.png", "a_sample.jpg"}
MASKS = {"confusion.png", "images_of_the_lowest_mean_iou.jpg", "a_sample.jpg"}
EXPECTED = {"detection": BOXES, "segmentation": MASKS, "joint": BOXES | MASKS}


def names(folder):
    return {path.name for path in folder.iterdir()}


def events(folder):
    found = EventAccumulator(str(folder), size_guidance={"images": 0})
    found.Reload()
    return found


@pytest.mark.by_default("segmentation")
def test_a_training_draws_itself(task):
    short = "--trainer.max_epochs 1 --trainer.limit_train_batches 2"
    said = command(f"fit --config small.yaml --run.name drawn --run.pictures true {short}", find_task(task))
    assert said.code == 0, said.err
    folder = Path("runs", task, "drawn")
    assert re.search(rf"Pictures and report.html are in {folder} \([\d.]+ s\)", said.err)
    pictures = folder / "pictures"
    assert {"batch_0.jpg", "loss.png", "learning_rate.png"} <= names(pictures / "train")
    assert names(pictures / "val") >= EXPECTED[task]
    for path in pictures.rglob("*.[pj][np]g"):
        with Image.open(path) as picture:
            assert np.asarray(picture).std() > 0, path
    logged = events(folder)
    tags = set(logged.Tags()["images"])
    assert {f"val/{Path(name).stem}" for name in EXPECTED[task]} | {"train/batch_0", "train/loss"} <= tags
    report = read_report(folder / "report.html")
    assert [section.title for section in report.sections][-1] == "Training"
    last = {}
    for row in csv.DictReader((folder / "metrics.csv").open()):
        last |= {name: float(value) for name, value in row.items() if value}
    shown = {figure.name: figure.value for figure in report.figures}
    if task != "segmentation":
        assert shown["AP50"] == pytest.approx(last["val_ap50"], abs=1e-6)
        rows = list(csv.DictReader((pictures / "val/ap_by_class.csv").open()))
        aps = [float(row["AP"]) for row in rows if row["AP"]]
        assert np.mean(aps) == pytest.approx(last["val_ap"], abs=1e-6)
        fifty = [float(row["AP50"]) for row in rows if row["AP50"]]
        assert np.mean(fifty) == pytest.approx(last["val_ap50"], abs=1e-6)
    if task != "detection":
        rows = list(csv.DictReader((pictures / "val/classes.csv").open()))
        ious = [float(row["IoU"]) for row in rows if row["IoU"]]
        assert np.mean(ious) == pytest.approx(last["val_miou"], abs=1e-6)


@pytest.mark.parametrize("task", ["detection"], indirect=True)
@pytest.mark.slow
def test_validate_draws_where_it_is_told(task):
    quick = "--trainer.max_epochs 1 --trainer.limit_train_batches 1"
    run(task, f"fit --config small.yaml --run.name drawn --run.pictures false --run.log csv {quick}")
    folder = Path("runs/detection/drawn")
    plain = {"config.yaml", "versions.json", "metrics.csv", "checkpoints"}
    assert names(folder) == plain
    best = "validate --config small.yaml --ckpt_path best --run.name drawn --run.pictures"
    run(task, f"{best} false")
    assert names(folder) == plain
    run(task, f"{best} true")
    assert names(folder) == {*plain, "pictures", "report.html"}
    assert names(folder / "pictures/val") >= EXPECTED[task]
    # A checkpoint that lies in no run leaves nothing.
    (lone := Path("lone")).mkdir()
    (lone / "best.ckpt").write_bytes(next((folder / "checkpoints").glob("best*")).read_bytes())
    run(task, "validate --config small.yaml --ckpt_path lone/best.ckpt --run.pictures true")
    assert names(lone) == {"best.ckpt"}
