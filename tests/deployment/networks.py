"""Small networks of every task with answers that differ from place to place, and their checkpoints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from detection.data.classes import BoxClasses
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess
from engine.training.checkpoints import save_metadata
from joint.network.model import JointNetwork
from segmentation.data.classes import MaskClasses
from segmentation.network.model import Segmenter
from tests.joint.tiny_network import tiny_network

OBJECTS = BoxClasses(("car", "", "person"), (7, 8, 30))
SURFACES = MaskClasses(("road", "car", "tree"), (7, 26, 21), ((128, 64, 128), (0, 0, 142), (107, 142, 35)))
SMALL = {"fpn_channels": 16, "fpn_cells": 1, "head_repeats": 1}
Kind = TypeVar("Kind", bound=nn.Module)
TASKS = ("detection", "segmentation", "joint")


def lively(network: nn.Module, *last: nn.Module) -> None:
    """Give last layers weights so large that scores differ, and norms statistics that folding has to take up."""
    with torch.no_grad():
        for layer in last:
            for parameter in layer.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.3)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.7, 1.3)


def vivid(network: Kind) -> Kind:
    """Give norms scales and shifts that differ, so that each channel is known by its own, and matters."""
    lively(network)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                count = module.num_features
                module.weight.copy_(torch.linspace(0.5, 1.5, count)[torch.randperm(count)])
                module.bias.normal_(0, 0.3)
    return network.eval()


@torch.no_grad()
def spread_out(network: EfficientDet) -> None:
    """Scale the last layers so that scores reach from 0 to 1, and boxes are some anchors long."""
    pixels = torch.from_numpy(picture(160, 224)).permute(2, 0, 1)[None]
    logits, deltas, _ = network.predictions(pixels)
    network.class_head.predict.pointwise.weight.mul_(2 / logits.std())
    network.box_head.predict.pointwise.weight.mul_(0.3 / deltas.std())


@torch.no_grad()
def share_out(network: Segmenter) -> None:
    """Scale the last layer so that every class is the most likely one somewhere."""
    last = [layer for layer in network.head.classifier.modules() if isinstance(layer, nn.Conv2d)][-1]
    last.bias.zero_()
    logits = network(torch.from_numpy(picture(160, 224)).permute(2, 0, 1)[None])
    means, deviations = logits.mean((0, 2, 3)), logits.std((0, 2, 3))
    last.weight.div_(deviations[:, None, None, None])
    last.bias.copy_(-means / deviations)


def detector(member: str = "lite0", **overrides: object) -> EfficientDet:
    """A detector of three rows; its own canvas is no multiple of the coarsest stride."""
    torch.manual_seed(0)
    network = EfficientDet(member, **{"classes": OBJECTS, "image_size": (160, 224), **SMALL, **overrides})
    lively(network)
    network.eval()
    spread_out(network)
    return network


def segmenter(member: str = "lite0", **overrides: object) -> Segmenter:
    """A segmenter of three classes."""
    torch.manual_seed(0)
    small = {} if "decoder" in overrides else {"decoder_channels": 16, "skip_channels": 8}
    network = Segmenter(member, classes=SURFACES, **{**small, **overrides})
    lively(network)
    network.eval()
    share_out(network)
    return network


def joint() -> JointNetwork:
    """A joint network."""
    network = tiny_network()
    lively(network)
    network.eval()
    share_out(network.segmenter)
    return network


def network_of(task: str) -> EfficientDet | Segmenter | JointNetwork:
    """The network of a task."""
    return {"detection": detector, "segmentation": segmenter, "joint": joint}[task]()


PARTS = {"detection": "detector", "segmentation": "segmenter", "joint": "network"}


def checkpoint(task: str, path: Path) -> Path:
    """A checkpoint as `python -m TASK fit` writes it."""
    network = network_of(task)
    content: dict[str, object] = {
        "state_dict": {f"{PARTS[task]}.{key}": value for key, value in network.state_dict().items()}
    }
    postprocess = asdict(Postprocess(score_threshold=0.01, iou_threshold=0.4))
    own = {} if task == "segmentation" else {"postprocess": postprocess}
    save_metadata(content, task, {**network.settings(), **own})
    torch.save({**content, "pytorch-lightning_version": "2.6.6", "epoch": 0, "global_step": 1}, path)
    return path


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture of soft patches."""
    random = torch.Generator().manual_seed(seed)
    small = torch.rand((1, 3, -(-height // 24), -(-width // 24)), generator=random)
    large = nn.functional.interpolate(255 * small, (height, width), mode="bilinear")
    return large[0].permute(1, 2, 0).to(torch.uint8).numpy()
