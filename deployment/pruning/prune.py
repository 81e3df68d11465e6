"""A pruned network, and its checkpoint, which every command takes as it takes any other."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from backbones.contract import GIVEN
from backbones.slimming import Widths, inside, widths_between
from backbones.study.cost import Cost
from classification.network.model import Classifier, StoredClassifier
from deployment.cost import cost_of_network
from deployment.networks import AnyNetwork, Loaded
from deployment.pruning.groups import remove_channels
from detection.network.build import restore_detector
from detection.network.detector import Detector
from detection.network.heads.detector import HeadedDetector
from detection.network.model import EfficientDet
from engine.errors import InputError
from engine.outputs import durable_path
from engine.tasks import find_task
from engine.training.checkpoints import save_metadata
from joint.network.model import JointNetwork
from joint.network.norms import network_from
from segmentation.network.model import Segmenter

SEGMENTER_CANVAS = (512, 512)  # height and width that a segmenter's multiply-adds are counted at, as it has none


@dataclass(frozen=True)
class Pruned:
    """What pruning did.

    Attributes:
        network: the pruned one.
        before: parameters and multiply-adds of the network that was given.
        after: those of the pruned one.
        canvas_hw: height and width that the multiply-adds are counted at.
    """

    network: AnyNetwork
    before: Cost
    after: Cost
    canvas_hw: tuple[int, int]


def pruned(network: AnyNetwork, share: float) -> Pruned:
    """A pruned network; the one that is given is used up.

    Args:
        network: in evaluation mode, not folded; may be pruned already.
        share: the share of the channels to remove, above 0 and below 1.

    Raises:
        InputError: the network has a backbone that was given as an object, or another decoder than DeepLabv3+.
    """
    for part in network.modules():
        if isinstance(part, Segmenter) and part.config.decoder != "deeplabv3plus":
            msg = f"the segmenter's decoder is {part.config.decoder}; only deeplabv3plus is allowed here."
            raise InputError(msg)
        if isinstance(part, Detector | Segmenter | Classifier) and part.config.backbone.startswith(GIVEN):
            msg = "the backbone was given as an object. Give a network whose EfficientNet is known by name."
            raise InputError(msg)
    canvas_hw = _canvas_of(network)
    before = cost_of_network(network, canvas_hw)
    whole = _whole(network)
    remove_channels(network, share)
    slim = _rebuilt(network, widths_between(whole, network))
    return Pruned(slim, before, cost_of_network(slim, canvas_hw), canvas_hw)


def _canvas_of(network: AnyNetwork) -> tuple[int, int]:
    """Height and width that multiply-adds are counted at."""
    if isinstance(network, Segmenter):
        return SEGMENTER_CANVAS
    if isinstance(network, Classifier):
        return network.config.image_size, network.config.image_size
    return (network.detector if isinstance(network, JointNetwork) else network).config.image_size


def checkpoint_of(loaded: Loaded, network: AnyNetwork) -> dict[str, object]:
    """The content of the checkpoint of a pruned network.

    Args:
        loaded: what it was pruned from; settings that are not the network's, such as thresholds, are kept.
        network: the pruned one.
    """
    part: str = pkgutil.resolve_name(find_task(loaded.task).module).part
    state = {f"{part}.{key}": value for key, value in network.state_dict().items()}
    content: dict[str, object] = {"state_dict": state}
    # Not the recipe of the former training: it belongs to a state that the pruned network has not.
    kept = {name: value for name, value in loaded.model.items() if name not in find_task(loaded.task).resume_args}
    save_metadata(content, loaded.task, {**kept, **network.settings()})
    return {**content, "pytorch-lightning_version": "2.0.0", "epoch": 0, "global_step": 0}


def write_pruned(content: Mapping[str, object], path: Path) -> None:
    """Write the content of a checkpoint; the file appears only when it is complete.

    Raises:
        OutputError: the file cannot be written, as on a full disk; a former file is left.
    """
    with durable_path(path) as beside, beside.open("wb") as file:
        torch.save(dict(content), file)


def _whole(network: AnyNetwork) -> AnyNetwork:
    """A network of the same kind as it is built without widths."""
    settings: dict[str, object] = {**network.settings()}
    for part in [settings, *(settings.get(name) for name in ("detector", "segmenter"))]:
        if isinstance(part, dict) and "architecture" in part:
            part["architecture"] = {**part["architecture"], "widths": []}
    return _made(network, settings)


def _rebuilt(network: AnyNetwork, widths: Widths) -> AnyNetwork:
    """The network that the stored widths make, with the weights of the one that was pruned."""
    settings: dict[str, object] = {**network.settings()}
    if isinstance(network, JointNetwork):
        # Norms of each task stand for one norm in either part.
        shared = tuple(
            (f"backbone.{name.removesuffix('.detection')}", inputs, outputs)
            for name, inputs, outputs in inside(widths, "backbone")
            if not name.endswith(".segmentation")
        )
        for name in ("detector", "segmenter"):
            _store(settings[name], (*shared, *inside(widths, name)))
    else:
        _store(settings, widths)
    slim = _made(network, settings)
    slim.load_state_dict(network.state_dict())
    return slim.eval()


def _store(settings: object, widths: Widths) -> None:
    assert isinstance(settings, dict)
    settings["architecture"] = {**settings["architecture"], "widths": widths}


def _made(network: AnyNetwork, settings: Mapping[str, object]) -> AnyNetwork:
    if isinstance(network, JointNetwork):
        return network_from(settings)
    if isinstance(network, Classifier):
        return Classifier.from_settings(cast("StoredClassifier", settings))
    if isinstance(network, Segmenter):
        return Segmenter.from_settings(settings)
    detector = restore_detector(settings)
    assert isinstance(detector, EfficientDet | HeadedDetector)
    return detector
