"""Checkpoints that commit a552459 wrote, before the house was rebuilt, still give what they gave then.

`data/` holds, of each task, a checkpoint of a network with some 50,000 parameters, and what that commit answered to
five pictures and a validation set; the commands are spelled as they were then. On the same processor and with the same
PyTorch, the answers must be bit-identical; elsewhere rounding may differ in the last digits.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import detection
import joint
import segmentation
from detection.spec import SPEC as DETECTION
from engine.tasks import TaskSpec
from joint.spec import SPEC as JOINT
from segmentation.data.cityscapes.labels import CITYSCAPES
from segmentation.spec import SPEC as SEGMENTATION
from tests.detection.small import command

DATA = Path(__file__).parent / "data"
PICTURES = sorted((DATA / "pictures").glob("*.png"))
ANSWERS: dict[str, Any] = json.loads((DATA / "answers.json").read_text())
THRESHOLD = 0.05
CPU = "--trainer.accelerator cpu"
LOADING = "--data.num_workers 0"


def processor() -> str:
    """A hash of what decides how libraries compute: maker, model, cache and instructions of the first core."""
    names = ("vendor_id", "cpu family", "model", "model name", "stepping", "cache size", "flags")
    path = Path("/proc/cpuinfo")
    lines = path.read_text().partition("\n\n")[0].splitlines() if path.exists() else []
    known = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return hashlib.sha256("|".join(known.get(name, "") for name in names).encode()).hexdigest()[:16]


EXACT = (processor(), torch.__version__) == (ANSWERS["processor"], ANSWERS["torch"])


def assert_same(found: Any, expected: Any) -> None:
    """Both alike in structure and numbers."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, float) and not EXACT:
        # Scores lie below 1; larger numbers are pixels, of which a thousandth depends on the order of additions.
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-4 if abs(expected) <= 1 else 1e-3)
    else:
        assert found == expected


def assert_same_masks(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert (found != expected).mean() <= (0 if EXACT else 1e-3)


@pytest.fixture(scope="module")
def masks() -> dict[str, np.ndarray]:
    with np.load(DATA / "masks.npz") as file:
        return {name.replace("|", "/"): file[name] for name in file.files}


def objects(found: Any) -> dict[str, Any]:
    return {
        "boxes_xyxy": found.boxes_xyxy.tolist(),
        "scores": found.scores.tolist(),
        "category_ids": found.category_ids.tolist(),
    }


def by_picture(document: dict[str, Any]) -> dict[str, list[Any]]:
    """Boxes and scores of a COCO document, by the pictures' names."""
    names = {image["id"]: Path(image["file_name"]).name for image in document["images"]}
    found: dict[str, list[Any]] = {name: [] for name in names.values()}
    for entry in document["annotations"]:
        found[names[entry["image_id"]]].append([entry["category_id"], entry["score"], *entry["bbox"]])
    return found


def said(line: str, spec: TaskSpec) -> None:
    answer = command(line, spec)
    assert answer.code == 0, answer.err


def rows_of(path: Path) -> np.ndarray:
    rows = np.full(256, 255, np.uint8)
    rows[CITYSCAPES.label_by_class[: len(CITYSCAPES)]] = np.arange(len(CITYSCAPES))
    return rows[np.asarray(Image.open(path))]


@pytest.mark.parametrize("task", ["detection", "joint"])
def test_objects_on_a_tight_canvas(task: str) -> None:
    load: Any = {"detection": detection.load, "joint": joint.load}[task]
    network = load(DATA / f"{task}.ckpt")
    answers = network.predict_many(PICTURES, score_threshold=THRESHOLD, canvas="tight")
    found = {path.name: objects(getattr(one, "found", one)) for path, one in zip(PICTURES, answers, strict=True)}
    assert sum(len(one["scores"]) for one in found.values()) > 100
    assert_same(found, ANSWERS[f"{task}_tight"])


@pytest.mark.slow  # of both tasks at once below
def test_objects_by_the_command_line(tmp_path: Path) -> None:
    line = f"predict --ckpt_path {DATA}/detection.ckpt --source {DATA}/pictures --output {tmp_path}/out"
    said(f"{line} --score_threshold {THRESHOLD} --pictures false {CPU}", DETECTION)
    found = by_picture(json.loads((tmp_path / "out/detections.json").read_text()))
    assert_same(found, by_picture(ANSWERS["detection_full"]))


@pytest.mark.slow  # of both tasks at once below
def test_validation_of_a_detector(tmp_path: Path) -> None:
    data = f"--data.val_images {DATA}/scenes/leftImg8bit/val"
    data += f" --data.val_annotations {DATA}/scenes/annotations/instances_val.json"
    line = f"validate --ckpt_path {DATA}/detection.ckpt --model.results {tmp_path}/found.json"
    said(f"{line} {data} {LOADING} --data.batch_size 4 {CPU}", DETECTION)
    assert_same(json.loads((tmp_path / "found.json").read_text()), ANSWERS["detection_results"])


def test_masks_in_python(masks: dict[str, np.ndarray]) -> None:
    found = segmentation.load(DATA / "segmentation.ckpt").predict_many(PICTURES)
    for path, one in zip(PICTURES, found, strict=True):
        assert_same_masks(one.class_ids, masks[f"segmentation/{path.name}"])


@pytest.mark.slow  # of both tasks at once below
def test_masks_by_the_command_line(tmp_path: Path, masks: dict[str, np.ndarray]) -> None:
    line = f"predict --ckpt_path {DATA}/segmentation.ckpt --source {DATA}/pictures --output {tmp_path}/out"
    said(f"{line} --overlay false {CPU}", SEGMENTATION)
    for path in PICTURES:
        assert_same_masks(rows_of(tmp_path / "out" / path.name), masks[f"segmentation/{path.name}"])


@pytest.mark.slow  # of both tasks at once below
def test_validation_of_a_segmenter(tmp_path: Path) -> None:
    line = f"validate --ckpt_path {DATA}/segmentation.ckpt --model.results {tmp_path}/scores.json"
    said(f"{line} --data.layout cityscapes --data.root {DATA}/scenes {LOADING} {CPU}", SEGMENTATION)
    assert_same(json.loads((tmp_path / "scores.json").read_text()), ANSWERS["segmentation_scores"])


def test_both_in_python(masks: dict[str, np.ndarray]) -> None:
    found = joint.load(DATA / "joint.ckpt").predict_many(PICTURES, score_threshold=THRESHOLD, canvas="tight")
    for path, one in zip(PICTURES, found, strict=True):
        assert_same_masks(one.segmented.class_ids, masks[f"joint_tight/{path.name}"])


def test_both_by_the_command_line(tmp_path: Path, masks: dict[str, np.ndarray]) -> None:
    line = f"predict --ckpt_path {DATA}/joint.ckpt --source {DATA}/pictures --output {tmp_path}/out"
    said(f"{line} --score_threshold {THRESHOLD} --overlay false {CPU}", JOINT)
    found = by_picture(json.loads((tmp_path / "out/detections.json").read_text()))
    assert_same(found, by_picture(ANSWERS["joint_full"]))
    for path in PICTURES:
        assert_same_masks(rows_of(tmp_path / "out" / path.name), masks[f"joint_full/{path.name}"])


def test_validation_of_a_joint_network(tmp_path: Path) -> None:
    line = f"validate --ckpt_path {DATA}/joint.ckpt --model.results {tmp_path}/scores.json"
    said(f"{line} --data.root {DATA}/scenes {LOADING} --data.batch_size 4 {CPU}", JOINT)
    assert_same(json.loads((tmp_path / "scores.json").read_text()), ANSWERS["joint_scores"])
