"""RetinaNet's head: torchvision's, on any pyramid.

Source: Lin et al., "Focal Loss for Dense Object Detection" (arXiv 1708.02002, figure 3), with the group norms of
torchvision's `retinanet_resnet50_fpn_v2`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import ClassVar

from torch import nn
from torchvision.models.detection.fcos import FCOSClassificationHead
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetClassificationHead, RetinaNetHead

from detection.network.family import DetectorArchitecture
from detection.network.heads.choice import GROUP
from detection.network.heads.efficientdet import PRIOR
from detection.network.heads.kinds.dense import DenseHead
from detection.network.heads.parts import NoBackbone, anchor_generator


class RetinaHead(DenseHead):
    """Four convolutions for the classes and four for the boxes, shared by all levels.

    Args:
        config: channels, levels and anchors.
        classes: K.
    """

    names = ("cls_logits", "bbox_regression")
    losses_of: ClassVar[Mapping[str, str]] = {"classification": "class", "bbox_regression": "box"}

    def __init__(self, config: DetectorArchitecture, classes: int) -> None:
        anchors = anchor_generator(config)
        norm = partial(nn.GroupNorm, GROUP)
        per_cell = anchors.num_anchors_per_location()[0]
        head = RetinaNetHead(config.fpn_channels, per_cell, classes, norm_layer=norm)
        backbone = NoBackbone(config.fpn_channels)
        super().__init__(RetinaNet(backbone, classes, anchor_generator=anchors, head=head), first_class=0)

    def renew_classes(self, count: int) -> None:
        """See `PyramidHead`."""
        renew_logits(self.model.head.classification_head, count)


def renew_logits(head: RetinaNetClassificationHead | FCOSClassificationHead, count: int) -> None:
    """Make the last layer of a class head of RetinaNet or FCOS anew, with the scores of an untrained one."""
    last = head.cls_logits
    fresh = nn.Conv2d(last.in_channels, last.out_channels // head.num_classes * count, 3, padding=1)
    nn.init.normal_(fresh.weight, std=0.01)
    assert fresh.bias is not None
    nn.init.constant_(fresh.bias, -math.log((1 - PRIOR) / PRIOR))
    head.cls_logits, head.num_classes = fresh.to(last.weight), count
