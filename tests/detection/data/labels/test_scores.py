"""Labels that are not certain: read in the order of the boxes, and learned as the mean over being right or wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from detection.data.augment import DetectionAugmentation
from detection.data.coco import CocoAnnotations
from detection.data.dataset import BoxImages, collate
from detection.data.labels.scores import scores_of_labels
from detection.network.anchors import Lattice, make_anchors
from detection.network.family import architecture
from detection.network.loss_settings import DetectionLoss
from detection.network.losses import detection_losses
from engine.errors import InputError


def write(path, scores):
    boxes = [[4.0, 4, 20, 20], [40, 10, 24, 30], [10, 30, 30, 20], [30, 30, 20, 20]]
    owners = (7, 3, 7, 3)
    annotations = [
        {"id": n + 1, "image_id": image, "category_id": 1, "bbox": box, "area": 100.0, "iscrowd": 0}
        | ({} if score is None else {"score": score})
        for n, (image, box, score) in enumerate(zip(owners, boxes, scores, strict=True))
    ]
    images = [{"id": i, "file_name": f"{i}.png", "width": 96, "height": 64} for i in (3, 7)]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    path.write_text(json.dumps(content))
    return path


def test_scores_come_with_their_boxes(tmp_path):
    from PIL import Image

    for name in (3, 7):
        Image.new("RGB", (96, 64), (90, 90, 90)).save(tmp_path / f"{name}.png")
    file = write(tmp_path / "a.json", (0.25, 0.5, None, 0.75))
    source = CocoAnnotations.read(file, tmp_path)
    scores = scores_of_labels(file)
    of_box = {tuple(box): score for box, score in zip(source.boxes_xywh.tolist(), scores.tolist(), strict=True)}
    assert of_box == {(4, 4, 20, 20): 0.25, (40, 10, 24, 30): 0.5, (10, 30, 30, 20): 1.0, (30, 30, 20, 20): 0.75}
    augmenter = DetectionAugmentation(hflip=1.0, scale_min=1.0, scale_max=1.0).build((64, 96), (0, 0, 0))
    images = BoxImages(source, source.classes, (64, 96), (0, 0, 0), augmenter)
    images.certainty = scores
    batch = collate([images[0], images[1]])
    assert batch.certainty is not None
    for row in range(2):
        for box, certainty in zip(batch.boxes_xyxy[row].tolist(), batch.certainty[row].tolist(), strict=True):
            left, top, right, bottom = (round(side) for side in box)
            assert of_box[(96 - right, top, right - left, bottom - top)] == certainty


def test_files_without_scores_and_wrong_ones_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no annotation of .* has a 'score'"):
        scores_of_labels(write(tmp_path / "a.json", (None,) * 4))
    with pytest.raises(InputError, match=r"has the score 1\.5; allowed are 0 to 1"):
        scores_of_labels(write(tmp_path / "b.json", (0.5, 1.5, 0.2, 0.1)))


@pytest.mark.parametrize(
    "config",
    [
        DetectionLoss(),
        DetectionLoss(label_smoothing=0.1, boxes="ciou"),
        DetectionLoss(assigner="atss", classes="varifocal", boxes="giou"),
        DetectionLoss(assigner="atss", classes="quality_focal"),
    ],
)
def test_an_uncertain_label_is_the_mean_of_being_right_and_wrong(config):
    generator = torch.Generator().manual_seed(3)
    shape = architecture("d0")
    anchors, lattice = make_anchors((128, 128), shape), Lattice.of((128, 128), shape)
    logits = torch.randn(2, len(anchors), 3, generator=generator) - 3
    deltas = torch.randn(2, len(anchors), 4, generator=generator) / 5
    boxes = torch.tensor([[[20.0, 20, 70, 60]], [[30, 40, 110, 100]]])
    class_ids = torch.tensor([[1], [2]])

    def sums(ids, certainty=None):
        found = detection_losses(logits, deltas, anchors, boxes, ids, config, lattice, certainty)
        return torch.stack([found.classes, found.boxes, found.positives]).double()

    certain, none = sums(class_ids), sums(torch.full_like(class_ids, -1))
    torch.testing.assert_close(sums(class_ids, torch.ones(2, 1)), certain)
    torch.testing.assert_close(sums(class_ids, torch.zeros(2, 1)), none)
    for certainty in (0.2, 0.7):
        mean = certainty * certain + (1 - certainty) * none
        torch.testing.assert_close(sums(class_ids, torch.full((2, 1), certainty)), mean, rtol=1e-5, atol=1e-4)
    # Each box by its own: the first alone is certain.
    first = sums(torch.tensor([[1], [-1]]))
    torch.testing.assert_close(sums(class_ids, torch.tensor([[1.0], [0.0]])), first, rtol=1e-5, atol=1e-4)
    assert np.isfinite(certain.numpy()).all()
