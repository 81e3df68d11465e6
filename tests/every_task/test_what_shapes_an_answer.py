"""What shapes an answer is stored in the checkpoint: the commands and Python give the answers that were scored."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from detection.prediction.predictor import load as load_detector
from engine.tasks import find_task
from joint.prediction.predictor import load as load_joint
from segmentation.inference.predictor import load as load_segmenter
from tests.detection.small import command

TASKS = ("detection", "segmentation", "joint")
CONFIGS = {"detection": "small.yaml", "segmentation": "streets.yaml", "joint": "both.yaml"}
LOAD = {"detection": load_detector, "segmentation": load_segmenter, "joint": load_joint}
BRIEF = "--trainer.max_epochs 1 --trainer.limit_train_batches 1 --trainer.limit_val_batches 1"
BOXES = "--model.postprocess.nms soft --model.postprocess.max_detections 7 --model.postprocess.class_agnostic true"
# Settings that are choices of the moment: stored, taken from the checkpoint, and replaced where a command asks.
CHOSEN = {
    "detection": (BOXES, "postprocess", {"nms": "soft", "max_detections": 7, "class_agnostic": True}),
    "segmentation": (
        "--model.inference.window 64 --model.inference.flip true",
        "inference",
        {"window": 64, "flip": True},
    ),
    "joint": (BOXES, "postprocess", {"nms": "soft", "max_detections": 7, "class_agnostic": True}),
}
# What the weights have meaning for: stored, and another value is refused.
DECIDED = {
    "detection": ["member d0", "architecture.mean [0,0,0]", "architecture.fill black", "architecture.image_size 256",
                  "architecture.pads_canvas true", "architecture.value_range [0,9]"],
    "segmentation": ["member b0", "architecture.mean [0,0,0]", "architecture.output_stride 32",
                     "architecture.alignment corners", "architecture.bands [1,2,3]"],
    "joint": ["detector.member d0", "detector.architecture.std [1,1,1]", "detector.architecture.image_size 64",
              "segmenter.architecture.output_stride 32", "detector.architecture.nodata 3"],
}  # fmt: skip


FOLDERS: dict[str, Path] = {}


@pytest.fixture
def trained(task, tmp_path_factory):
    """The folder of a short training of the task with settings of its own, made once."""
    from tests.detection.small import write_set
    from tests.joint import small as joint
    from tests.segmentation import small as segmentation

    if task not in FOLDERS:
        folder = tmp_path_factory.mktemp(task)
        if task == "detection":
            write_set(folder)
        else:
            segmentation.write_set(folder)
            data = {**joint.CONFIG["data"], "format": "both", "root": "scenes"}
            (folder / "both.yaml").write_text(yaml.safe_dump({**joint.CONFIG, "data": data}))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            said = run(task, f"fit --config {CONFIGS[task]} {BRIEF} {CHOSEN[task][0]}")
        assert said.code == 0, said.err
        FOLDERS[task] = folder
    return FOLDERS[task]


@pytest.fixture
def here(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return trained


def run(task, line):
    said = command(f"{line} --trainer.accelerator cpu", find_task(task))
    assert "Traceback" not in said.err
    return said


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.by_default("segmentation")
def test_they_are_in_the_checkpoint(task, here):
    _, name, values = CHOSEN[task]
    content = torch.load(f"runs/{task}/version_0/checkpoints/last.ckpt", weights_only=True)
    assert values.items() <= content["effdense"]["model"][name].items()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.by_default("segmentation")
def test_python_and_the_command_answer_alike(task, here, tmp_path):
    _, name, values = CHOSEN[task]
    predictor = LOAD[task]("last")
    assert values.items() <= asdict(getattr(predictor, name)).items()
    picture = next(Path("scenes/leftImg8bit/val").rglob("*.png"))
    said = run(task, f"predict --ckpt_path last --source {picture} --output {tmp_path / 'out'}")
    assert said.code == 0, said.err
    settings = next((tmp_path / "out").glob("settings.json")).read_text()
    assert ('"nms": "soft"' if name == "postprocess" else '"window": 64') in settings
    answer = predictor.predict(picture)
    if task != "detection":
        segmented = answer if task == "segmentation" else answer.segmented
        mask = np.asarray(Image.open(next((tmp_path / "out").rglob("*.png"))))
        np.testing.assert_array_equal(mask, segmented.label_ids)
    # A command that asks for something else gets it, and keeps the rest.
    other = "--model.postprocess.nms hard" if name == "postprocess" else "--model.inference.flip false"
    said = run(task, f"predict --ckpt_path last --source {picture} --output {tmp_path / 'other'} {other}")
    assert said.code == 0, said.err
    settings = next((tmp_path / "other").glob("settings.json")).read_text()
    boxes = ('"max_detections": 7', '"nms": "hard"')
    assert all(part in settings for part in (boxes if name == "postprocess" else ('"window": 64', '"flip": false')))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.by_default("segmentation")
def test_what_the_weights_mean_is_refused_otherwise(task, here):
    picture = next(Path("scenes/leftImg8bit/val").rglob("*.png"))
    for setting in DECIDED[task]:
        said = run(task, f"predict --ckpt_path last --source {picture} --output none --model.{setting}")
        assert said.code == 2, setting
        assert f"model.{setting.split()[0]} is" in said.err, setting
        assert "as the checkpoint decides it" in said.err, setting
    assert not Path("none").exists()


@pytest.mark.parametrize("task", TASKS)
def test_a_checkpoint_of_before_has_the_usual_settings(task):
    predictor = LOAD[task](Path(__file__).parents[1] / f"before/data/{task}.ckpt")
    name = CHOSEN[task][1]
    usual = type(getattr(predictor, name))()
    shown = asdict(getattr(predictor, name))
    assert {key: value for key, value in shown.items() if key != "score_threshold"} == {
        key: value for key, value in asdict(usual).items() if key != "score_threshold"
    }
