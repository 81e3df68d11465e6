"""A backbone that is not an EfficientNet, given as an object: it trains, folds, and checkpoints say what they lack."""

import pytest
import torch
from torch import nn

from backbones.contract import GIVEN
from detection.data.batch import DetectionBatch
from detection.network.loss_settings import DetectionLoss
from detection.network.model import EfficientDet
from engine.errors import InputError
from tests.shaken import shaken
from tests.toy_backbone import ToyFeatures

SMALL = {"image_size": 128, "fpn_channels": 16, "fpn_cells": 1, "head_repeats": 1}


def toy(**settings):
    torch.manual_seed(0)
    return EfficientDet("d0", 3, backbone=ToyFeatures(), **SMALL, **settings)


def test_one_step_changes_every_part():
    detector = toy().train()
    images = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    boxes = torch.tensor([[[8.0, 8.0, 60.0, 50.0]], [[30.0, 40.0, 100.0, 120.0]]])
    ids = torch.tensor([[0], [2]])
    sizes = torch.tensor([[128, 128]] * 2)
    batch = DetectionBatch(images, boxes, ids, torch.arange(2), torch.ones(2), sizes)
    before = {name: p.detach().clone() for name, p in detector.named_parameters()}
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.1)
    losses = detector.losses(batch, DetectionLoss())
    total = losses.total(losses.positives + 1, 50.0)
    assert total.isfinite()
    total.backward()
    optimizer.step()
    moved = {name.split(".")[0] for name, p in detector.named_parameters() if not p.equal(before[name])}
    assert moved == {"backbone", "fpn", "class_head", "box_head"}


def test_images_are_normalised_as_the_backbone_says():
    assert toy().config.mean == ToyFeatures.image_norm.mean
    assert toy(mean=(0.1, 0.2, 0.3)).config.mean == (0.1, 0.2, 0.3)


def test_folding_keeps_the_outputs():
    detector = shaken(toy()).eval()
    images = torch.randint(0, 256, (1, 3, 128, 128), dtype=torch.uint8)
    with torch.no_grad():
        wanted = detector(images)
        folded = detector.fold()(images)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in detector.backbone.modules())
    for ours, theirs in zip(folded, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_settings_name_the_class_and_ask_for_it():
    detector = toy()
    settings = detector.settings()
    assert settings["architecture"]["backbone"] == f"{GIVEN}tests.toy_backbone.ToyFeatures"
    with pytest.raises(InputError, match=r"tests\.toy_backbone\.ToyFeatures, was given as an object") as caught:
        EfficientDet.from_settings(settings)
    assert len(str(caught.value)) < 250
    again = EfficientDet.from_settings(settings, backbone=ToyFeatures())
    again.load_state_dict(detector.state_dict())
    assert again.settings() == settings
    images = torch.randint(0, 256, (1, 3, 128, 128), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(again.eval()(images)[0][0], detector.eval()(images)[0][0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": ToyFeatures((2, 3, 4, 5))}, r"has levels \(2, 3, 4, 5\)"),
        ({"backbone": ToyFeatures(coarsest=16)}, r"with strides \(8, 16, 16\); this network reads \(3, 4, 5\)"),
        ({"backbone": nn.Conv2d(3, 8, 3)}, "Conv2d has no 'levels'"),
        ({"backbone": 3}, "the backbone is a int"),
        ({"backbone": ToyFeatures(), "frozen_stages": 1}, "frozen_stages is for backbones that are built by name"),
        ({"backbone": ToyFeatures(), "backbone_weights": "imagenet"}, "backbone_weights is for backbones"),
        ({"backbone": "efficientnet_b99"}, "no EfficientNet named"),
    ],
)
def test_what_is_no_backbone_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        EfficientDet("d0", 3, **SMALL, **settings)
