"""Detectors with torchvision's heads, and classifiers, whose answers differ from place to place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from classification.data.classes import LabelClasses
from classification.network.model import Classifier
from deployment.networks import Loaded
from detection.network.build import build_detector
from detection.network.heads.detector import HeadedDetector
from detection.network.heads.kinds.dense import DenseHead
from detection.network.postprocess import Postprocess
from detection.prediction.predictor import DetectionPredictor, batch_on_canvas
from engine.reading.images import Letterbox
from engine.training.checkpoints import save_metadata
from tests.deployment.networks import OBJECTS, lively, picture

CANVAS = (160, 224)
SUPPRESSION = Postprocess(score_threshold=0.01, iou_threshold=0.4)


@torch.no_grad()
def headed(head: str) -> HeadedDetector:
    """A detector of three rows with one of torchvision's heads."""
    torch.manual_seed(0)
    network = build_detector("lite0", head=head, classes=OBJECTS, image_size=CANVAS)
    assert isinstance(network, HeadedDetector)
    lively(network)
    network.eval()
    for layer, wish in _last(network).items():
        with _seen(layer) as values:
            network.detect(_batch(), SUPPRESSION)
        assert isinstance(layer.weight, Tensor)
        layer.weight.mul_(wish / torch.cat([each.flatten() for each in values]).std())
    return network


def _last(network: HeadedDetector) -> Mapping[nn.Module, float]:
    """The layers that give scores and boxes, and how far their values are to be spread."""
    head = network.head
    if isinstance(head, DenseHead):
        model = head.model.head
        classes, boxes = model.classification_head, model.regression_head
        if hasattr(classes, "module_list"):
            return dict.fromkeys(classes.module_list, 2.0) | dict.fromkeys(boxes.module_list, 1.0)
        return {classes.cls_logits: 2.0, boxes.bbox_reg: 1.0}
    own = head.roi_heads
    found = {
        head.rpn.head.cls_logits: 2.0, head.rpn.head.bbox_pred: 0.3,
        own.box_predictor.cls_score: 2.0, own.box_predictor.bbox_pred: 1.0,
    }  # fmt: skip
    return found | ({own.mask_predictor.mask_fcn_logits: 3.0} if own.has_mask() else {})


@contextmanager
def _seen(layer: nn.Module) -> Iterator[list[Tensor]]:
    values: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _, given, found: values.append(found))
    yield values
    handle.remove()


def _batch():
    return batch_on_canvas(torch.from_numpy(picture(*CANVAS)).permute(2, 0, 1)[None], [Letterbox.fit(CANVAS, CANVAS)])


def loaded(network: HeadedDetector) -> Loaded:
    """The detector as a command loads it."""
    model = {**network.settings(), "postprocess": asdict(SUPPRESSION)}
    return Loaded(network, "detection", model, network.config.head, "", "")


def predictor(network: HeadedDetector) -> DetectionPredictor:
    """Its own answers."""
    return DetectionPredictor(network, SUPPRESSION)


def classifier(*, several: bool = False) -> Loaded:
    """A classifier of four classes as a command loads it."""
    torch.manual_seed(0)
    network = Classifier("lite0", classes=LabelClasses(("a", "b", "c", "d"), several), image_size=64)
    lively(network, network.head.classifier)
    network.eval()
    return Loaded(network, "classification", {**network.settings(), "threshold": 0.4}, "letters", "", "")


def saved(source: Loaded, path: Path) -> Path:
    """A checkpoint as `python -m detection fit` or `python -m classification fit` writes it."""
    part = {"detection": "detector", "classification": "classifier"}[source.task]
    state = {f"{part}.{key}": value for key, value in source.network.state_dict().items()}
    content: dict[str, object] = {"state_dict": state}
    save_metadata(content, source.task, dict(source.model))
    torch.save({**content, "pytorch-lightning_version": "2.6.6", "epoch": 0, "global_step": 1}, path)
    return path
