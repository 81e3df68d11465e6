"""Each head goes through the commands that EfficientDet goes through, with odd data too."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from detection import load, load_network
from detection.network.heads.detector import HeadedDetector
from engine.errors import InputError
from tests.detection.heads.small import fit
from tests.detection.small import command


def test_a_checkpoint_says_which_head_it_is(trained):
    head, checkpoint = trained
    stored = torch.load(checkpoint, weights_only=True)["effdense"]["model"]
    assert stored["head"] == head
    network = load_network(checkpoint)
    assert isinstance(network, HeadedDetector)
    assert network.config.head == head
    assert network.config.pyramid == "fpn"
    assert network.settings()["head"] == head


def test_what_is_scored_is_what_is_predicted(trained, there):
    """`validate` writes what Python and `predict` find, and the averaged weights are what all of them use."""
    _, checkpoint = trained
    said = command(f"validate --config heads.yaml --ckpt_path {checkpoint} --model.detections found.json")
    assert said.code == 0, said.err
    assert "Average Precision" in said.out
    found = json.loads(Path("found.json").read_text())
    images = {each["file_name"]: each["id"] for each in _annotated()["images"]}
    detector = load(checkpoint)
    name, image_id = next(iter(images.items()))
    mine = detector.predict(Path("scenes/leftImg8bit/val", name), score_threshold=0.001)
    theirs = [entry for entry in found if entry["image_id"] == image_id]
    assert len(mine) == len(theirs) > 0
    # Folding the batch norms moves the last digits.
    np.testing.assert_allclose(mine.scores, [entry["score"] for entry in theirs], atol=1e-5)
    boxes = np.array([entry["bbox"] for entry in theirs])
    boxes[:, 2:] += boxes[:, :2]
    assert np.median(np.abs(mine.boxes_xyxy - boxes)) < 1e-3
    # With the best box as the threshold the command finds it too.
    least = float(mine.scores[min(3, len(mine) - 1)])
    source = Path("scenes/leftImg8bit/val", name)
    said = command(f"predict --ckpt_path {checkpoint} --source {source} --output out --score_threshold {least}")
    assert said.code == 0, said.err
    written = json.loads(Path("out/detections.json").read_text())["annotations"]
    assert [entry["score"] for entry in written] == pytest.approx(mine.scores[: len(written)].tolist(), abs=1e-5)
    assert list(Path("out").rglob("*.png"))


@pytest.mark.slow
def test_a_training_goes_on_where_it_stopped(trained, there):
    head, checkpoint = trained
    said = command(f"fit --config heads.yaml --ckpt_path {checkpoint} --trainer.max_epochs 2 --run.name more")
    assert said.code == 0, said.err
    before, after = (
        torch.load(path, weights_only=True) for path in (checkpoint, Path("runs/detection/more/checkpoints/last.ckpt"))
    )
    assert after["global_step"] == 2 * before["global_step"]
    assert asdict(load(checkpoint).network.config) == asdict(
        load_network(Path("runs/detection/more/checkpoints/last.ckpt")).config
    )
    with Path("runs/detection/more/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = {f"train_{name}_loss" for name in load(checkpoint).network.head.loss_names}
    assert names <= rows[0].keys()
    assert ("val_loss" in rows[0]) is (head not in ("faster_rcnn", "mask_rcnn"))


@pytest.mark.slow
def test_odd_data(trained, there):
    """Two images, one of them without a box, on a canvas whose sides are no multiples of 32."""
    head, _ = trained
    content = json.loads(Path("scenes/annotations/instances_train.json").read_text())
    boxes = {entry["image_id"] for entry in content["annotations"]}
    first = next(image for image in content["images"] if image["id"] in boxes)
    empty = next(image for image in content["images"] if image is not first)
    content["images"] = [first, empty]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] == first["id"]]
    Path("odd.json").write_text(json.dumps(content))
    odd = (
        "--data.train_annotations odd.json --data.batch_size 1 --model.architecture.image_size [100,150] "
        "--trainer.max_epochs 1 --model.architecture.pyramid bifpn --model.architecture.fpn_cells 1"
    )
    said = fit(head, odd, "odd")
    assert said.code == 0, said.err
    detector = load("runs/detection/odd/checkpoints/last.ckpt")
    assert detector.network.config.pyramid == "bifpn"
    grey = np.full((37, 53, 3), 90, np.uint8)
    for found in detector.predict_many([grey, grey[:20]], score_threshold=0.0):
        height, width = found.size_hw
        assert (found.boxes_xyxy >= 0).all()
        assert (found.boxes_xyxy[:, 2] <= width + 1e-3).all()
        assert (found.boxes_xyxy[:, 3] <= height + 1e-3).all()


def test_masks_are_found_scored_drawn_and_listed(trained, there):
    head, checkpoint = trained
    said = command(
        f"validate --config heads.yaml --ckpt_path {checkpoint} --model.detections found.json --model.scores all.json"
    )
    assert said.code == 0, said.err
    scores = json.loads(Path("all.json").read_text())
    entries = json.loads(Path("found.json").read_text())
    assert ("masks" in scores) is (head == "mask_rcnn")
    assert all(("segmentation" in entry) is (head == "mask_rcnn") for entry in entries)
    if head != "mask_rcnn":
        return
    assert "masks:" in said.out
    name = _annotated()["images"][0]["file_name"]
    picture = Path("scenes/leftImg8bit/val", name)
    found = load(checkpoint).predict(picture, score_threshold=0.001)
    assert found.mask_pixels().shape == (len(found), *found.size_hw)
    said = command(
        "score --ground_truth scenes/annotations/instances_val.json --predictions found.json --iou_type segm"
    )
    assert said.code == 0, said.err
    assert f"= {max(scores['masks']['ap'], 0):0.3f}" in said.out
    with pytest.raises(InputError, match="finds masks too"):
        load(checkpoint).predict(picture, flip=True)


@pytest.mark.slow
def test_a_file_is_scored_as_its_checkpoint(trained, there):
    """The exported file goes through `validate` and finds what the checkpoint finds."""
    from deployment.export.command import main as export

    _, checkpoint = trained
    assert export(["--ckpt_path", str(checkpoint), "--output", "one.onnx"]) == 0
    found = {}
    for name, source in (("checkpoint", checkpoint), ("file", "one.onnx")):
        words = f"--model.detections {name}.json --model.scores {name}_scores.json"
        said = command(f"validate --config heads.yaml --ckpt_path {source} {words}")
        assert said.code == 0, said.err
        found[name] = json.loads(Path(f"{name}.json").read_text())
    assert found["checkpoint"]
    assert len(found["file"]) == pytest.approx(len(found["checkpoint"]), rel=0.01)
    scores = {name: sorted(entry["score"] for entry in entries) for name, entries in found.items()}
    count = min(map(len, scores.values()))
    np.testing.assert_allclose(scores["file"][-count:], scores["checkpoint"][-count:], atol=1e-3)
    measured = [json.loads(Path(f"{name}_scores.json").read_text()) for name in found]
    assert measured[1]["ap50"] == pytest.approx(measured[0]["ap50"], abs=2e-3)
    assert ("masks" in measured[1]) is ("masks" in measured[0])


def _annotated():
    return json.loads(Path("scenes/annotations/instances_val.json").read_text())
