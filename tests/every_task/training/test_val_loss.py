"""The loss of a validation: that of all its images, however they come, and what acts on it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import detection
import joint
import segmentation
from detection.network.loss_settings import DetectionLoss
from detection.network.losses import detection_losses
from engine.reading.images import Letterbox, pad_to_canvas, read_image, resize_labels
from segmentation.network.losses import SegmentationLoss, segmentation_losses
from tests.every_task.watching import run, seen

ONE = "--trainer.max_epochs 1 --trainer.num_sanity_val_steps 0"
LOSSES = {
    "detection": "--model.loss.box_weight 20 --model.loss.assigner task_aligned --model.loss.classes varifocal",
    "segmentation": "--model.loss.dice 0.5 --model.loss.focal 2 --model.architecture.aux_head true",
    "joint": "--model.balance.detection 0.5 --model.balance.segmentation 2 --model.detection_loss.assigner atss "
    "--model.detection_loss.classes quality_focal --model.detection_loss.boxes giou",
}
TEST = {
    "detection": "--data.test_images scenes/leftImg8bit/val "
    "--data.test_annotations scenes/annotations/instances_val.json",
    "segmentation": "--data.cityscapes.test_split val",
    "joint": "--data.masks.cityscapes.test_split val",
}


def pictures(split: str) -> list[Path]:
    return sorted(Path("scenes/leftImg8bit", split).rglob("*.png"))


def true_boxes(picture: Path, classes, scale: float, size_hw) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes on the canvas and rows of an image, from the annotation file; written anew."""
    content = json.loads(Path("scenes/annotations/instances_val.json").read_text())
    names = {each["id"]: each["name"] for each in content["categories"]}
    image_id = next(each["id"] for each in content["images"] if Path(each["file_name"]).name == picture.name)
    boxes, rows = [], []
    for each in content["annotations"]:
        x, y, width, height = each["bbox"]
        if each["image_id"] == image_id and not each["iscrowd"] and width > 0 and height > 0:
            corners = np.array([x, y, x + width, y + height]) * scale
            boxes.append(corners.clip(0, [size_hw[1], size_hw[0]] * 2))
            rows.append(classes.names.index(names[each["category_id"]]))
    return torch.tensor(np.array(boxes), dtype=torch.float32).reshape(-1, 4), torch.tensor(rows, dtype=torch.int64)


def true_rows(picture: Path, classes) -> np.ndarray:
    """(H, W) rows of the class list, 255 where the label is not among them."""
    truth = str(picture).replace("leftImg8bit", "gtFine", 1).replace("_leftImg8bit", "_gtFine_labelIds")
    rows = np.full(256, 255, np.uint8)
    rows[list(classes.label_ids)] = np.arange(len(classes))
    return rows[np.array(Image.open(truth))]


def detection_by_hand(predict, detector, config, pictures):
    """The detection loss of all images at once, from what the network answers for each canvas."""
    parts = []
    for picture in pictures:
        image = read_image(picture)
        box = Letterbox.fit(image.shape[:2], detector.config.image_size)
        canvas = torch.from_numpy(box.apply(image, detector.fill_color)).permute(2, 0, 1)[None]
        logits, deltas, anchors = predict(canvas)
        boxes, rows = true_boxes(picture, detector.classes, box.scale, box.scaled_hw)
        lattice = detector.lattice(tuple(canvas.shape[-2:]))
        parts.append(detection_losses(logits, deltas, anchors, boxes[None], rows[None], config, lattice))
    classes, boxes, positives = (sum(float(part[place]) for part in parts) for place in range(3))
    assert positives > 10
    return (classes + config.of_boxes * boxes) / (positives + 1)


def by_hand(task: str, checkpoint: str) -> float:
    """The loss of the validation set, computed outside of the trainer."""
    with torch.no_grad():
        if task == "detection":
            network = detection.load_network(checkpoint).eval()
            config = DetectionLoss(assigner="task_aligned", classes="varifocal", box_weight=20)
            return detection_by_hand(network.predictions, network, config, pictures("val"))
        if task == "segmentation":
            network = segmentation.load_network(checkpoint).eval()
            images = torch.stack([torch.from_numpy(read_image(each)).permute(2, 0, 1) for each in pictures("val")])
            masks = torch.stack([torch.from_numpy(true_rows(each, network.classes)) for each in pictures("val")])
            assert (masks == 255).any()
            config = SegmentationLoss(dice=0.5, focal=2)
            return float(segmentation_losses(network(images), masks, config).total(config))
        network = joint.load_network(checkpoint).eval()
        config = DetectionLoss(assigner="atss", classes="quality_focal", boxes="giou")
        boxes = detection_by_hand(network.detector.predictions, network.detector, config, pictures("val"))
        logits, masks = [], []
        for picture in pictures("val"):
            image, rows = read_image(picture), true_rows(picture, network.segmenter.classes)
            box = Letterbox.fit(image.shape[:2], network.detector.config.image_size)
            canvas = torch.from_numpy(box.apply(image, network.fill_color)).permute(2, 0, 1)[None]
            logits.append(network.segmenter(canvas)[0])
            drawn = pad_to_canvas(resize_labels(rows, box.scaled_hw), box.canvas_hw, 255)
            masks.append(torch.from_numpy(drawn).long())
        pixels = F.cross_entropy(torch.stack(logits), torch.stack(masks), ignore_index=255)
        return 0.5 * boxes + 2 * float(pixels)


@pytest.mark.slow
def test_it_is_the_training_loss_of_all_images(task):
    """In `fit`, `validate` and `test`, for any size of a batch."""
    options = f"--config small.yaml {LOSSES[task]}"
    size = "--data.batch_size" if task == "detection" else "--data.eval_batch_size"
    fitted = seen(task, f"fit {options} {ONE} {size} 2 --run.name it")
    checkpoint = str(next(Path(f"runs/{task}/it/checkpoints").glob("last*")))
    expected = by_hand(task, checkpoint)
    assert expected > 0.1
    assert fitted["val_loss"] == pytest.approx(expected, rel=1e-5)
    stored = f"{options} --ckpt_path {checkpoint}"
    for count in (1, 3):
        found = seen(task, f"validate {stored} {size} {count}")
        assert found["val_loss"] == pytest.approx(fitted["val_loss"], rel=1e-5)
    found = seen(task, f"test {stored} {TEST[task]}")
    assert found["test_loss"] == pytest.approx(fitted["val_loss"], rel=1e-5)


@pytest.mark.by_default("segmentation")
def test_a_training_stops_by_it(task):
    early = "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val_loss --trainer.callbacks.patience=1"
    # No loss falls by this much, so the second epoch is the last.
    line = f"fit --config small.yaml --trainer.max_epochs 5 {early} --trainer.callbacks.min_delta=100"
    run(task, f"{line} --run.name it")
    last = torch.load(f"runs/{task}/it/checkpoints/last.ckpt", weights_only=True)
    assert last["epoch"] == 1
