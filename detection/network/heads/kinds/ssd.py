"""SSD's head: torchvision's, on any pyramid rather than on the backbone's own maps.

Source: Liu et al., "SSD: Single Shot MultiBox Detector" (arXiv 1512.02325, section 2.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD, SSDHead
from torchvision.ops import box_iou

from detection.network.family import DetectorArchitecture
from detection.network.heads.contract import Placed
from detection.network.heads.kinds.dense import DenseHead
from detection.network.heads.parts import NoBackbone
from detection.network.postprocess import Postprocess

# Sides of the default boxes, of the canvas: 0.07 on the finest map, as the paper's SSD300 for COCO and torchvision's
# `ssd300_vgg16`; then from 0.15 to 0.9 by equal steps (the paper's equation 4), and 1.05 beyond the last.
_FINEST, _LOW, _HIGH, _BEYOND = 0.07, 0.15, 0.9, 1.05


def default_boxes(levels: int) -> DefaultBoxGenerator:
    """The default boxes of so many maps: six of a cell, and four on the first and on the last two, as the paper has."""
    steps = torch.linspace(_LOW, _HIGH, levels - 1, dtype=torch.float64).tolist()
    slim = [[2] if level == 0 or level >= levels - 2 else [2, 3] for level in range(levels)]
    return DefaultBoxGenerator(slim, scales=[_FINEST, *steps, _BEYOND])


class SsdHead(DenseHead):
    """One convolution of each map for the classes, background included, and one for the boxes.

    Args:
        config: channels and levels.
        classes: K.
    """

    names = ("cls_logits", "bbox_regression")
    losses_of: ClassVar[Mapping[str, str]] = {"classification": "class", "bbox_regression": "box"}

    def __init__(self, config: DetectorArchitecture, classes: int) -> None:
        boxes = default_boxes(len(config.levels))
        channels = [config.fpn_channels] * len(config.levels)
        head = SSDHead(channels, boxes.num_anchors_per_location(), classes + 1)
        backbone = NoBackbone(config.fpn_channels)
        super().__init__(SSD(backbone, boxes, config.image_size, classes + 1, head=head), first_class=1)

    def matching(
        self, truth: Sequence[Mapping[str, Tensor]], anchors: Sequence[Tensor], counts: Sequence[int]
    ) -> tuple[object, ...]:
        """Which box each default box is matched with, as `SSD.forward` does it."""
        matches = [
            self.model.proposal_matcher(box_iou(one["boxes"], own))
            if len(one["boxes"])
            else torch.full((len(own),), -1, dtype=torch.int64, device=own.device)
            for one, own in zip(truth, anchors, strict=True)
        ]
        return (matches,)

    def candidates(self, config: Postprocess, levels: int) -> dict[str, float]:
        """Torchvision's 400 of each class."""
        return {}

    def suppressed(
        self,
        model: SSD,
        outputs: Mapping[str, Tensor],
        anchors: Sequence[Tensor],
        placed: Placed,
        counts: Sequence[int],
    ) -> list[dict[str, Tensor]]:
        """Torchvision's detections, of all levels together."""
        found: list[dict[str, Tensor]] = model.postprocess_detections(outputs, anchors, placed.sizes_hw)
        return found

    def renew_classes(self, count: int) -> None:
        """See `PyramidHead`."""
        per_cell = self.model.anchor_generator.num_anchors_per_location()
        channels = [
            layer.in_channels for layer in self.model.head.classification_head.module_list
        ]  # as pruning left them
        fresh = SSDHead(channels, per_cell, count + 1).classification_head
        self.model.head.classification_head = fresh.to(next(self.model.parameters()))
