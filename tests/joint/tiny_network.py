"""A joint network that computes in milliseconds, and its checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch

from detection.data.classes import BoxClasses
from detection.network.model import EfficientDet
from engine.training.checkpoints import save_metadata
from joint.network.model import JointNetwork
from segmentation.data.classes import MaskClasses
from segmentation.network.model import Segmenter

OBJECTS = BoxClasses(("car", "", "person"), (7, 8, 30))
SURFACES = MaskClasses(("road", "car", "tree"), (7, 26, 21), ((128, 64, 128), (0, 0, 142), (107, 142, 35)))
CANVAS_HW = (128, 256)  # multiples of the coarsest stride


def tiny_network(seed: int = 0) -> JointNetwork:
    """A network with random weights in eval mode, whose answers differ from place to place."""
    torch.manual_seed(seed)
    detector = EfficientDet(
        "lite0", classes=OBJECTS, image_size=CANVAS_HW, fpn_channels=16, fpn_cells=1, head_repeats=1
    )
    segmenter = Segmenter("lite0", classes=SURFACES, decoder_channels=16, skip_channels=8)
    network = JointNetwork(detector, segmenter)
    with torch.no_grad():
        for head in (detector.class_head.predict, detector.box_head.predict):
            for parameter in head.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.3)  # much more, and many scores would be 1
    return network.eval()


def write_checkpoint(network: JointNetwork, path: Path) -> Path:
    """A checkpoint as `python -m joint fit` writes it, with a value that belongs to the training only."""
    weights = {f"network.{key}": value for key, value in network.state_dict().items()}
    checkpoint = {"state_dict": weights | {"balance.log_variances": torch.zeros(2)}}
    save_metadata(checkpoint, "joint", network.settings())
    torch.save(checkpoint, path)
    return path
