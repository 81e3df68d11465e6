"""Fifty steps on real photographs: the pictures of the run, and their numbers beside pycocotools'."""

from __future__ import annotations

import contextlib
import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.detection.small import command

CONFIG = Path(__file__).parents[3] / "configs/detection/bccd.yaml"

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(3600)]


def test_fifty_steps_on_blood_cells(real_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = "--trainer.max_epochs 1 --trainer.limit_train_batches 50 --trainer.check_val_every_n_epoch 1"
    said = command(
        f"fit --config {CONFIG} --data.root {real_data / 'bccd'} {short} --trainer.log_every_n_steps 5 --ema.decay 0.9 "
        "--model.detections found.json --trainer.enable_progress_bar false --run.name cells"
    )
    assert said.code == 0, said.err
    folder = Path("runs/detection/cells")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(real_data / "bccd/instances_val.json"))
        evaluator = COCOeval(truth, truth.loadRes("found.json"), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"][:, :, :, 0, -1]
    rows = list(csv.DictReader((folder / "pictures/val/ap_by_class.csv").open()))
    np.testing.assert_allclose([float(row["AP"]) for row in rows], precision.mean(axis=(0, 1)), atol=1e-12)
    np.testing.assert_allclose([float(row["AP50"]) for row in rows], precision[0].mean(axis=0), atol=1e-12)
    assert sum(int(row["objects"]) for row in rows) == sum(not each["iscrowd"] for each in truth.anns.values())
    with Image.open(folder / "pictures/train/batch_0.jpg") as batch:
        assert np.asarray(batch).std() > 10
    assert (folder / "report.html").stat().st_size < 15e6
