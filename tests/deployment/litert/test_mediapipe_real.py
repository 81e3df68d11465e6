"""MediaPipe's Object Detector finds in photographs of blood cells what our own predictor finds.

Needs EFFDENSE_REAL (the folder of real images), EFFDENSE_BCCD (a checkpoint trained on `bccd`) and EFFDENSE_MEDIAPIPE
(a Python that has mediapipe, whose OpenCV does not go with this project's).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

import detection
from deployment.export.options import Options
from deployment.export.write import export
from deployment.litert.calibration import write_canvases
from deployment.networks import load_any

pytestmark = [pytest.mark.slow, pytest.mark.real]
SCRIPT = Path(__file__).with_name("mediapipe_boxes.py")
THRESHOLD = 0.3
MARGIN = 0.01  # a box whose score is that near the threshold may be found by one of the two only
PICTURES = 12


def variable(name: str, what: str) -> str:
    value = os.environ.get(name)
    if not value:
        pytest.fail(f"this test needs ${name}, {what}")
    return value


def test_the_same_boxes_classes_and_labels(real_data, tmp_path):
    source = variable("EFFDENSE_BCCD", "a checkpoint trained on bccd")
    python = variable("EFFDENSE_MEDIAPIPE", "a Python that has mediapipe")
    annotations = json.loads((real_data / "bccd" / "instances_val.json").read_text())
    names = sorted(image["file_name"] for image in annotations["images"])[:PICTURES]
    images = [real_data / "bccd" / "images" / name for name in names]
    loaded = load_any(source)
    canvas_hw = loaded.network.config.image_size
    canvases = tmp_path / "canvases.npy"
    write_canvases(canvases, images, loaded.network, canvas_hw)

    path = tmp_path / "bccd.tflite"
    export(loaded, path, "litert", Options(score_threshold=THRESHOLD))
    done = subprocess.run(
        [python, "-I", str(SCRIPT), str(path), str(canvases)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads(done.stdout.splitlines()[-1])

    predictor = detection.load(source)
    ours = predictor.predict_many(list(np.load(canvases)), score_threshold=THRESHOLD)
    height, width = canvas_hw
    over_the_border = 0
    labels: set[str] = set()
    for one, other in zip(ours, theirs, strict=True):
        assert len(one.scores) > 3
        boxes = torch.tensor([row[:4] for row in other], dtype=torch.float64)
        overlaps = box_iou(torch.from_numpy(np.asarray(one.boxes_xyxy)).double(), boxes)
        same = torch.tensor([[label == row[5] for row in other] for label in one.labels])
        overlaps = torch.where(same, overlaps, 0.0)
        for place, score in enumerate(one.scores):
            if score > THRESHOLD + MARGIN:
                best, index = overlaps[place].max(0)
                assert best > 0.95, (one.boxes_xyxy[place], one.labels[place], score)
                assert other[int(index)][4] == pytest.approx(float(score), abs=MARGIN)
        for place, row in enumerate(other):
            if row[4] > THRESHOLD + MARGIN:
                assert overlaps[:, place].max() > 0.95, row
        edges = np.asarray(one.boxes_xyxy)
        over_the_border += int(((edges[:, :2] == 0).any(1) | (edges[:, 2:] == (width, height)).any(1)).sum())
        labels |= {row[5] for row in other}
    assert over_the_border > 5  # whose corners MediaPipe would have moved
    assert labels == {"RBC", "WBC", "Platelets"}
