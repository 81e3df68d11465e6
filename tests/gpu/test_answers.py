"""A GPU gives the answers of a processor: maps, targets, losses, suppression, and what `predict` gives."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from detection.data.batch import DetectionBatch
from detection.network.loss_settings import DetectionLoss
from detection.network.matching import match_anchors
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess, postprocess
from detection.prediction.predictor import load as load_detector
from joint.prediction.predictor import load as load_joint
from segmentation.inference.predictor import load as load_segmenter
from segmentation.network.losses import SegmentationLoss, segmentation_losses
from tests.deployment.networks import TASKS, checkpoint, detector, picture, segmenter

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda")


def batch_of(count: int, size_hw: tuple[int, int], classes: int, boxes: int = 12) -> DetectionBatch:
    """Pictures with random boxes, the last rows of which are padding."""
    generator = torch.Generator().manual_seed(0)
    height, width = size_hw
    images = torch.stack([torch.from_numpy(picture(height, width, seed)).permute(2, 0, 1) for seed in range(count)])
    extent = torch.tensor([width, height, width, height])
    low = torch.rand(count, boxes, 2, generator=generator) * 0.7
    boxes_xyxy = torch.cat([low, low + 0.03 + 0.25 * torch.rand(count, boxes, 2, generator=generator)], -1) * extent
    class_ids = torch.randint(0, classes, (count, boxes), generator=generator)
    class_ids[:, boxes - 2 :] = -1
    sizes = torch.tensor([size_hw] * count)
    return DetectionBatch(images, boxes_xyxy, class_ids, torch.arange(count), torch.ones(count), sizes)


def on_gpu(batch: DetectionBatch) -> DetectionBatch:
    return DetectionBatch(*(part.to(CUDA) if isinstance(part, torch.Tensor) else part for part in batch))


@torch.no_grad()
def test_detector() -> None:
    """Class logits, box deltas and anchors."""
    network = detector()
    batch = batch_of(3, (160, 224), 3)
    here, there = network.predictions(batch.images), copy.deepcopy(network).to(CUDA).predictions(batch.images.to(CUDA))
    for own, other in zip(here, there, strict=True):
        torch.testing.assert_close(other.cpu(), own, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("nms", ["hard", "soft"])
@pytest.mark.parametrize("count", [1, 7])
def test_suppression(nms: str, count: int) -> None:
    """The same logits and deltas, many candidates of many classes: the same boxes in the same order."""
    torch.manual_seed(0)
    network = EfficientDet("d0", 20, image_size=256)
    anchors = network.anchors((256, 256), torch.device("cpu"))
    logits, deltas = torch.randn(count, len(anchors), 20) * 2 - 2, torch.randn(count, len(anchors), 4) * 0.2
    config = Postprocess(nms=nms)  # type: ignore[arg-type]
    own = postprocess(logits, deltas, anchors, config)
    other = postprocess(logits.to(CUDA), deltas.to(CUDA), anchors.to(CUDA), config)
    assert (own.class_ids >= 0).sum() > 90 * count
    assert torch.equal(other.class_ids.cpu(), own.class_ids)
    torch.testing.assert_close(other.scores.cpu(), own.scores, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(other.boxes_xyxy.cpu(), own.boxes_xyxy, atol=1e-3, rtol=1e-5)


def test_targets() -> None:
    """Anchors of boxes, crowded and empty images alike."""
    anchors = EfficientDet("d0", 3, image_size=256).anchors((256, 256), torch.device("cpu"))
    for boxes in (0, 1, 12, 200):
        batch = batch_of(4, (256, 256), 3, boxes) if boxes else batch_of(4, (256, 256), 3, 3)
        given = (batch.boxes_xyxy[:, :boxes], batch.class_ids[:, :boxes])
        own, other = match_anchors(*given, anchors), match_anchors(*(x.to(CUDA) for x in given), anchors.to(CUDA))
        for here, there in zip(own, other, strict=True):
            assert torch.equal(here, there.cpu())


def test_detection_loss_and_gradients() -> None:
    network, batch = detector().train(), batch_of(4, (160, 224), 3)
    twin = copy.deepcopy(network).to(CUDA)
    config = DetectionLoss()
    sums = []
    for each, given in ((network, batch), (twin, on_gpu(batch))):
        torch.manual_seed(0)
        losses = each.losses(given, config)
        total = losses.total(losses.positives + 1, config.of_boxes)
        total.backward()
        sums.append(float(total.detach()))
    assert sums[1] == pytest.approx(sums[0], rel=1e-3)
    own, other = network.box_head.predict.pointwise.weight.grad, twin.box_head.predict.pointwise.weight.grad
    assert own is not None
    assert other is not None
    torch.testing.assert_close(other.cpu(), own, atol=1e-2 * float(own.abs().max()), rtol=0)


def test_segmenter() -> None:
    """Logits, and the loss."""
    network = segmenter()
    images = torch.from_numpy(picture(192, 256)).permute(2, 0, 1)[None]
    twin = copy.deepcopy(network).to(CUDA)
    with torch.no_grad():
        own, other = network(images), twin(images.to(CUDA)).cpu()
    torch.testing.assert_close(other, own, atol=1e-3, rtol=1e-3)
    class_ids = (images[:, 0] // 86).byte()
    config = SegmentationLoss()
    here = segmentation_losses(own, class_ids, config, None).total(config)
    there = segmentation_losses(own.to(CUDA), class_ids.to(CUDA), config, None).total(config)
    assert float(there) == pytest.approx(float(here), rel=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_predictors(task: str, tmp_path: Path) -> None:
    """What `load` gives on either device."""
    path, rgb = checkpoint(task, tmp_path / "net.ckpt"), picture(150, 211)
    load = {"detection": load_detector, "segmentation": load_segmenter, "joint": load_joint}[task]
    own, other = (load(path, device).predict(rgb) for device in ("cpu", "cuda"))
    if task == "joint":
        pairs, masks = [(own.found, other.found)], [(own.segmented, other.segmented)]
    else:
        pairs, masks = ([(own, other)], []) if task == "detection" else ([], [(own, other)])
    for here, there in pairs:
        assert len(here.scores) == len(there.scores) > 0
        assert abs(here.boxes_xyxy - there.boxes_xyxy).max() < 0.05
    for here, there in masks:
        assert (here.class_ids == there.class_ids).mean() > 0.999
