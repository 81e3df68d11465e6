"""ImageNet weights for the head too, and the whole ImageNet classifier."""

from __future__ import annotations

import torch
from timm.layers import BatchNormAct2d

from backbones.contract import Freezing
from backbones.features import EfficientNetFeatures
from backbones.weights.load import read_head
from classification.data.classes import LabelClasses
from classification.data.sets.imagenet import imagenet_names
from classification.network.family import architecture
from classification.network.model import Classifier
from engine.errors import InputError

_ROWS = 1000
_CLASSIFIER = "classifier."


def load_head(network: Classifier, source: str) -> None:
    """Load the head of ImageNet weights into a classifier whose backbone has them: convolution and norm.

    The last layer is taken too where the classes are ImageNet's. A source without a head, such as the checkpoint of a
    detector, changes nothing.

    Args:
        network: the classifier.
        source: see `backbones.weights.load.load_backbone_weights`.
    """
    assert isinstance(network.backbone, EfficientNetFeatures)
    norm = network.head.bn2
    assert isinstance(norm, BatchNormAct2d)
    given = read_head(network.backbone, source, norm.eps)
    own = network.head.state_dict()
    whole = network.classes.names == imagenet_names()
    taken = {
        key: tensor
        for key, tensor in given.items()
        if not key.startswith(_CLASSIFIER) or (whole and tensor.shape == own[key].shape)
    }
    network.head.load_state_dict({**own, **taken})


def load_imagenet(member: str, source: str, *, freezing: Freezing | None = None, **overrides: object) -> Classifier:
    """The classifier of ImageNet's 1000 classes with published weights, in evaluation mode.

    Args:
        member: the family member that the weights are of.
        source: `imagenet`, `package:NAME` or a file.
        freezing: the constructor's `frozen_stages`, `freeze_norm` and `grad_checkpointing`.
        overrides: fields of `ClassifierArchitecture`.

    Raises:
        InputError: the weights cannot be had, do not fit, or have no classes of ImageNet.
    """
    config = architecture(member, **overrides)
    classes = LabelClasses(imagenet_names())
    network = Classifier(config, classes=classes, backbone_weights=source, **(freezing or {}))
    assert isinstance(network.backbone, EfficientNetFeatures)
    given = read_head(network.backbone, source, 0.0)
    rows = given.get(f"{_CLASSIFIER}weight", torch.empty(0))
    if len(rows) != _ROWS:
        msg = (
            f"'{source}' has no layer of ImageNet's 1000 classes. Give it as --model.backbone_weights of a "
            "training, or give weights of a whole classifier."
        )
        raise InputError(msg)
    load_head(network, source)
    return network.eval()
