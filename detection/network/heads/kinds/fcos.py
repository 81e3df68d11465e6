"""FCOS's head: torchvision's, on any pyramid. It has no anchors but one point in each cell.

Source: Tian et al., "FCOS: A Simple and Strong Anchor-free Object Detector" (arXiv 2006.09214), with its centre
sampling and GIoU loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead

from detection.network.family import DetectorArchitecture
from detection.network.heads.kinds.dense import DenseHead
from detection.network.heads.kinds.retinanet import renew_logits
from detection.network.heads.parts import NoBackbone


class FcosHead(DenseHead):
    """Convolutions for the classes, and others for the boxes and how near a cell is to their centre.

    Args:
        config: channels, levels, and `head_repeats` convolutions in each branch.
        classes: K.
    """

    names = ("cls_logits", "bbox_regression", "bbox_ctrness")
    losses_of: ClassVar[Mapping[str, str]] = {
        "classification": "class",
        "bbox_regression": "box",
        "bbox_ctrness": "center",
    }

    def __init__(self, config: DetectorArchitecture, classes: int) -> None:
        # torchvision takes the stride of a level from its anchor.
        anchors = AnchorGenerator(tuple((2**level,) for level in config.levels), ((1.0,),) * len(config.levels))
        head = FCOSHead(config.fpn_channels, 1, classes, config.head_repeats)
        backbone = NoBackbone(config.fpn_channels)
        super().__init__(FCOS(backbone, classes, anchor_generator=anchors, head=head), first_class=0)

    def matching(
        self, truth: Sequence[Mapping[str, Tensor]], anchors: Sequence[Tensor], counts: Sequence[int]
    ) -> tuple[object, ...]:
        """The anchors of each level."""
        return (list(counts),)

    def renew_classes(self, count: int) -> None:
        """See `PyramidHead`."""
        renew_logits(self.model.head.classification_head, count)
