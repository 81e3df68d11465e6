"""`python -m joint` as its user meets it: training, scoring, prediction, and the messages about mistakes."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from PIL import Image

from detection.data.dataset import collate
from detection.network.postprocess import Postprocess
from detection.scores.metric import evaluate_boxes
from detection.scores.records import DetectionRecords, DetectionTable
from engine.reading.images import Letterbox
from joint import load, load_network
from segmentation.data.cityscapes.labels import CITYSCAPES
from tests.detection.image_files import ImageFiles
from tests.joint.small import CANVAS_HW, command
from tests.segmentation.small import class_ious, logged, read_json, rows_of

ROOT = Path(__file__).parents[2]
OPTIONS = "--trainer.accelerator cpu --trainer.enable_progress_bar false --num_workers 0"


@pytest.fixture
def here(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return trained


def best(run="learnt"):
    return next(Path("runs/joint", run, "checkpoints").glob("best*"))


def alone(network, path, size_hw):
    """Rows of the segmenter's class list at the original size of the picture, by the segmenter alone."""
    picture = np.array(Image.open(path))
    letterbox = Letterbox.fit(picture.shape[:2], CANVAS_HW)
    canvas = torch.from_numpy(letterbox.apply(picture, network.fill_color)).permute(2, 0, 1)[None]
    height, width = letterbox.scaled_hw
    with torch.no_grad():
        logits = network.segmenter(canvas)[..., :height, :width]
    return F.interpolate(logits, size_hw, mode="bilinear")[0].argmax(0).numpy()


def test_a_training_leaves_everything_in_its_folder(here):
    run = here / "runs/joint/learnt"
    names = {path.name.partition(".")[0] for path in run.iterdir()}
    assert {"config", "versions", "metrics", "events", "checkpoints"} <= names
    assert sorted(path.name.partition("-")[0] for path in (run / "checkpoints").iterdir()) == ["best", "last.ckpt"]
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["detector"]["architecture"]["fpn_channels"] == 16
    losses = logged(run, "train_loss")
    assert len(losses) == 12
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    aps, mious, joint = (logged(run, f"val_{name}") for name in ("ap", "miou", "joint"))
    assert joint == pytest.approx((np.array(aps) + np.array(mious)) / 2)
    assert f"val_joint{max(joint):.4f}" in best().name
    stored = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["effdense"]["model"]
    assert stored["detector"]["member"] == stored["segmenter"]["member"] == "lite0"
    assert tuple(stored["segmenter"]["classes"]["names"]) == CITYSCAPES.names
    assert stored["norms"] == "shared"


def test_what_a_newcomer_sees(here):
    said = command("fit --config both.yaml --run.name seen --trainer.max_epochs 1")
    assert said.code == 0, said.err
    assert said.out == ""
    # Under pytest Lightning's logger has another format.
    precision, _, what, data, *unseen, where = (line.removeprefix("INFO: ") for line in said.err.strip().splitlines())
    assert precision.startswith("precision ")
    # The set is so small that some of its classes are nowhere.
    assert [" in none of the 6 samples so far" in line for line in unseen] == [True, True]
    assert what == (
        "EfficientDet lite0 and DeepLabv3+ at output stride 16 on tf_efficientnet_lite0: 3.0 M parameters; "
        "10 classes of boxes, 19 of pixels; images on 128 x 256 pixels (height x width)"
    )
    assert data.startswith("quick check of the boxes of ")
    assert where.startswith("Results are in runs/joint/seen; best checkpoint: runs/joint/seen/checkpoints/best-")


def test_both_tables_are_those_of_each_head_alone(here, streets):
    """Detections and masks of the two single networks, scored by pycocotools and pixel by pixel."""
    files = "--model.scores new/found.json --model.detections new/boxes.json"
    said = command(f"validate --config both.yaml --ckpt_path {best()} {files}")
    assert said.code == 0, said.err
    found = read_json("new/found.json")
    network = load_network(best())
    annotations = json.loads((streets / "annotations/instances_val.json").read_text())
    paths = [streets / "leftImg8bit/val" / image["file_name"] for image in annotations["images"]]
    images = ImageFiles(paths, CANVAS_HW, network.fill_color)
    batch = collate([images[index] for index in range(len(paths))])
    records = DetectionRecords()
    detections = network.detector.detect(batch, Postprocess())
    ids = np.array([image["id"] for image in annotations["images"]])
    category_ids = np.array(network.detector.classes.category_ids)[detections.class_ids.clamp(min=0).numpy()]
    valid = (detections.class_ids >= 0).numpy()
    records.add(ids, detections.boxes_xyxy.numpy(), detections.scores.numpy(), category_ids, valid)
    scores = evaluate_boxes(streets / "annotations/instances_val.json", records.table())
    written = DetectionTable.read("new/boxes.json")
    results = evaluate_boxes(streets / "annotations/instances_val.json", written)
    assert results.as_dict("") == pytest.approx(scores.as_dict(""), abs=1e-6, nan_ok=True)
    for name, value in scores.twelve.items():
        assert found["boxes"][name] == (None if value < 0 else pytest.approx(value, abs=1e-6))
    truth = rows_of(streets / "gtFine/val", CITYSCAPES.label_ids)
    predicted = [alone(network, path, rows.shape) for path, rows in zip(sorted(paths), truth.values(), strict=True)]
    ious = class_ious(predicted, list(truth.values()), 19)
    measured = [np.nan if value is None else value for value in found["masks"]["class_ious"].values()]
    assert measured == pytest.approx(ious.tolist(), abs=2e-3, nan_ok=True)  # a pixel may tie
    assert found["joint"] == pytest.approx((found["boxes"]["ap"] + found["masks"]["miou"]) / 2)
    # The tables of the single tasks, one below the other.
    assert said.out.index("Average Precision  (AP) @[ IoU=0.50:0.95") < said.out.index("class            IoU   iIoU")
    assert re.search(r"^ category +IoU +iIoU", said.out, re.MULTILINE)
    # As the training logged it.
    assert max(logged("runs/joint/learnt", "val_joint")) == pytest.approx(found["joint"], abs=1e-6)


@pytest.mark.slow
def test_two_sets_are_each_scored_on_their_own_labels(here, photos, streets):
    said = command("fit --config two.yaml --run.name two --trainer.max_epochs 1 --data.eval_batch_size 5")
    assert said.code == 0, said.err
    said = command("validate --config two.yaml --ckpt_path last --run.name two --model.scores two.json")
    assert said.code == 0, said.err
    found = read_json("two.json")
    true = rows_of(streets / "gtFine/val", CITYSCAPES.label_ids)
    assert np.sum(found["masks"]["confusion"]) == sum((rows != 255).sum() for rows in true.values())
    categories = json.loads((photos / "val.json").read_text())["categories"]
    assert set(found["boxes"]["per_class"]) == {category["name"] for category in categories}
    assert logged("runs/joint/two", "val_joint") == pytest.approx([found["joint"]], abs=1e-6)


def test_predictions_are_masks_pictures_and_tables(here, streets):
    source = f"predict --ckpt_path {best()} --source {streets}/leftImg8bit/val --output out {OPTIONS}"
    said = command(f"{source} --score_threshold 0.01")
    assert said.code == 0, said.err
    pictures = sorted((streets / "leftImg8bit/val").rglob("*.png"))
    names = [path.relative_to(streets / "leftImg8bit/val").with_suffix("") for path in pictures]
    network = load(best()).network
    objects = json.loads(Path("out/detections.json").read_text())
    assert sorted(Path(image["file_name"]).stem for image in objects["images"]) == sorted(p.stem for p in pictures)
    for path, name in zip(pictures, names, strict=True):
        assert Image.open(f"out/{name}_overlay.jpg").width >= 128
        rows = alone(network, path, (64, 128))
        agree = np.array(CITYSCAPES.label_ids)[rows] == np.array(Image.open(f"out/{name}.png"))
        assert agree.mean() > 0.999
    with Path("out/areas.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 19 * len(pictures)
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.png")}
    next(Path("out").rglob("*_overlay.jpg")).unlink()
    said = command(f"{source} --score_threshold 0.01")
    assert (said.code, f"{len(pictures) - 1} of {len(pictures)} are finished in out" in said.err) == (0, True)
    assert sum(path.stat().st_mtime_ns != time for path, time in before.items()) == 1
    said = command(f"{source} --score_threshold 0.5")
    assert (said.code, "holds results of other settings" in said.err) == (2, True)
    said = command(f"{source.replace('--output out', '--output boxes')} --segment false")
    assert said.code == 0, said.err
    assert not list(Path("boxes").rglob("*/*.png"))
    assert not Path("boxes/areas.csv").exists()


@pytest.mark.slow
def test_boxes_of_one_cityscapes_folder_train_both(here, streets, tmp_path):
    """Boxes are made from instance ids alone, because Cityscapes has no annotation file of boxes."""
    for name in ("leftImg8bit", "gtFine"):
        (tmp_path / name).symlink_to(streets / name)
    line = f"--config both.yaml --data.root {tmp_path} --trainer.max_epochs 1 --run.name bare"
    said = command(f"fit {line}")
    assert said.code == 2
    made = re.search(r"python -m joint (boxes --root \S+ --split train --output \S+)", said.err)[1]
    for split in ("train", "val"):
        done = command(made.replace("--split train", f"--split {split}").replace("_train.json", f"_{split}.json"))
        assert done.code == 0, done.err
    said = command(f"fit {line}")
    assert said.code == 0, said.err
    assert "8 classes of boxes" in said.err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("predict --ckpt_path last", "predict needs images or a video. Give --source"),
        ("predict --ckpt_path last --source x --detect false --segment false", "leaves nothing to find"),
        ("validate --config both.yaml", "validate needs trained weights"),
        ("fit --config both.yaml --model.norms batch", "norms"),
        ("fit --config both.yaml --model.ap_share 2", "model.ap_share is '2'; allowed: 0 to 1"),
        ("fit --config both.yaml --model.norms per_task --model.grad_checkpointing true", "Leave one of them out"),
        ("validate --config both.yaml --ckpt_path last --model.member d1", "the detector is lite0. Leave model.member"),
        ("fit --config both.yaml --model.detector_checkpoint none.ckpt", "there is no checkpoint 'none.ckpt'"),
    ],
)
def test_a_mistake_gets_one_short_message(here, line, said):
    found = command(line if "--ckpt_path last" not in line else f"{line} --run.name learnt")
    assert found.code == 2
    errors = [text for text in found.err.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1
    assert said in errors[0]
    assert len(errors[0]) < 400


def test_a_checkpoint_of_another_task_is_refused(here, streets, tmp_path):
    from tests.joint.small import write_parts

    write_parts(tmp_path, streets)
    said = command(f"fit --config both.yaml --model.detector_checkpoint {tmp_path}/segmenter.ckpt")
    assert (said.code, "is a segmentation checkpoint; detection is asked for" in said.err) == (2, True)


def test_help_version_and_boxes_do_not_wait_for_torch():
    code = (
        "import sys\n"
        "from engine.cli.commands import run_task\nfrom joint.spec import SPEC\n"
        "for words in (['--help'], ['--version'], ['boxes', '--help'], ['fit', '--help'], ['predict', '--help'],\n"
        "    ['fit', '--help', 'data'], ['fit', '--config', 'none'], ['fti'], ['fit', '--ckpt_path', 'none.ckpt']):\n"
        "    try:\n"
        "        run_task(SPEC, words)\n"
        "    except SystemExit as leaving:\n"
        "        assert not leaving.code\n"
        "sys.exit(sorted({'torch', 'lightning', 'timm', 'albumentations'} & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
    assert "fit        train" in done.stdout
    assert "--split" in done.stdout
