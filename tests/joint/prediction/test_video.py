"""Videos on the command line of both tasks: the answers are those of the frames one by one, in every table."""

from __future__ import annotations

import csv
import json
from importlib.metadata import version

import numpy as np
import pytest
import torch

import detection
import joint
from detection.network.model import EfficientDet
from detection.spec import SPEC as DETECTION
from engine.training.checkpoints import save_metadata
from engine.video.frames import VideoFrames
from joint.spec import SPEC as JOINT
from tests.detection.small import command
from tests.engine.video.moving import Scene, spoil
from tests.engine.video.serving import serving
from tests.joint.tiny_network import CANVAS_HW, OBJECTS, tiny_network

FRAMES = 7
OPTIONS = "--trainer.accelerator cpu --trainer.enable_progress_bar false --num_workers 0 --batch_size 3"


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint of each task, and a video."""
    folder = tmp_path_factory.mktemp("videos")
    torch.manual_seed(1)
    detector = EfficientDet(
        "lite0", classes=OBJECTS, image_size=CANVAS_HW, fpn_channels=16, fpn_cells=1, head_repeats=1
    )
    with torch.no_grad():
        for parameter in detector.class_head.predict.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    for task, prefix, part in (("joint", "network", tiny_network()), ("detection", "detector", detector)):
        content = {"state_dict": {f"{prefix}.{key}": value for key, value in part.state_dict().items()}}
        content |= {"pytorch-lightning_version": version("lightning"), "epoch": 0, "global_step": 0}
        save_metadata(content, task, part.settings())
        torch.save(content, folder / f"{task}.ckpt")
    Scene(size_hw=CANVAS_HW, count=3).write(folder / "drive.avi", FRAMES, "MJPG")
    return folder


def run(spec, folder, output, more=""):
    line = f"predict --ckpt_path {folder}/{spec.name}.ckpt --output {output} --score_threshold 0.6 {OPTIONS}"
    return command(f"{line} --source {folder}/drive.avi {more}" if "--source" not in more else f"{line} {more}", spec)


def same_boxes(table, number, found):
    mine = [row for row in table if row["frame"] == str(number) and row["score"]]
    boxes = [[float(row[side]) for side in ("left", "top", "right", "bottom")] for row in mine]
    assert len(mine) == len(found)
    np.testing.assert_allclose([float(row["score"]) for row in mine], found.scores, atol=1e-5)
    np.testing.assert_allclose(np.array(boxes).reshape(-1, 4), found.boxes_xyxy, atol=0.01)
    assert [int(row["category_id"]) for row in mine] == found.category_ids.tolist()


@pytest.mark.slow
def test_detection_is_that_of_each_frame(folder, tmp_path):
    said = run(DETECTION, folder, tmp_path)
    assert said.code == 0, said.err
    predictor, table = detection.load(folder / "detection.ckpt"), rows(tmp_path / "drive_objects.csv")
    total = 0
    for number, frame in enumerate(VideoFrames(folder / "drive.avi")):
        found = predictor.predict(frame, score_threshold=0.6)
        total += len(found)
        same_boxes(table, number, found)
    assert total > FRAMES
    document = json.loads((tmp_path / "detections.json").read_text())
    assert (len(document["images"]), len(document["annotations"])) == (FRAMES, total)
    assert len(list(VideoFrames(tmp_path / "drive_overlay.webm"))) == FRAMES


def test_joint_gives_both(folder, tmp_path):
    said = run(JOINT, folder, tmp_path, "--yolo true")
    assert said.code == 0, said.err
    predictor, table = joint.load(folder / "joint.ckpt"), rows(tmp_path / "drive_objects.csv")
    areas = rows(tmp_path / "drive_areas.csv")
    for number, frame in enumerate(VideoFrames(folder / "drive.avi")):
        both = predictor.predict(frame, score_threshold=0.6)
        same_boxes(table, number, both.found)
        mine = [row for row in areas if row["frame"] == str(number)]
        assert {row["class"]: int(row["pixels"]) for row in mine} == both.segmented.areas()
        lines = (tmp_path / f"drive_labels/drive_{number:06d}.txt").read_text().splitlines()
        assert len(lines) == len(both.found)
    assert (tmp_path / "areas.csv").exists()
    assert (tmp_path / "classes.txt").read_text().split() == ["car", "person"]
    drawn = list(VideoFrames(tmp_path / "drive_overlay.webm"))
    assert len(drawn) == FRAMES
    assert drawn[0].shape[0] > CANVAS_HW[0]  # the legend


@pytest.mark.slow
def test_half_of_joint(folder, tmp_path):
    said = run(JOINT, folder, tmp_path, "--detect false")
    assert said.code == 0, said.err
    assert sorted(path.name for path in tmp_path.glob("drive*")) == ["drive_areas.csv", "drive_overlay.webm"]


@pytest.mark.by_default("detection")
@pytest.mark.parametrize("spec", [DETECTION, JOINT], ids=["detection", "joint"])
def test_a_stream_that_ends_and_a_damaged_video(folder, tmp_path, spec):
    pictures = [Scene(size_hw=CANVAS_HW, count=3).picture(number) for number in range(5)]
    with serving({}, pictures, 0.02) as (address, _):
        said = run(spec, folder, tmp_path / "live", f"--source {address}/camera?key=secret --track true")
    assert said.code == 0, said.err
    assert "secret" not in said.err + said.out
    (table,) = (tmp_path / "live").glob("127-0-0-1_camera_*_objects.csv")
    assert len({row["frame"] for row in rows(table)}) >= 1
    assert not any("secret" in path.read_text(errors="ignore") for path in (tmp_path / "live").iterdir())
    bad = tmp_path / "bad.avi"
    bad.write_bytes((folder / "drive.avi").read_bytes())
    spoil(bad, 0.45, 600)
    said = run(spec, folder, tmp_path / "out", f"--source {bad}")
    assert said.code == 2
    assert "bad.avi' is damaged: " in said.err
    assert len(json.loads((tmp_path / "out/detections.json").read_text())["images"]) >= FRAMES - 1
    assert "bad.avi" in (tmp_path / "out/failed.jsonl").read_text()
