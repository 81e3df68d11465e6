"""Mask R-CNN's heads: those of Faster R-CNN, and a mask of what lies in each box.

Source: He et al., "Mask R-CNN" (arXiv 1703.06870, figure 4, right).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNHeads, MaskRCNNPredictor

from detection.network.family import DetectorArchitecture
from detection.network.heads.kinds.faster_rcnn import FasterRcnnHead, box_parts, roi_pool
from detection.network.heads.parts import NoBackbone

_LAYERS = 4  # convolutions of the mask head, the paper's


class MaskRcnnHead(FasterRcnnHead):
    """Faster R-CNN's heads with a mask head, which is as wide as the pyramid."""

    losses_of: ClassVar[Mapping[str, str]] = {**FasterRcnnHead.losses_of, "loss_mask": "mask"}

    def make(self, config: DetectorArchitecture, classes: int) -> MaskRCNN:
        """Torchvision's detector, of which the heads are taken."""
        width = config.fpn_channels
        return MaskRCNN(
            NoBackbone(width),
            **box_parts(config, classes),
            mask_roi_pool=roi_pool(14),
            mask_head=MaskRCNNHeads(width, (width,) * _LAYERS, 1),
            mask_predictor=MaskRCNNPredictor(width, width, classes + 1),
        )

    def renew_classes(self, count: int) -> None:
        """See `PyramidHead`."""
        super().renew_classes(count)
        last = self.roi_heads.mask_predictor
        upsampling = last.conv5_mask
        fresh = MaskRCNNPredictor(upsampling.in_channels, upsampling.out_channels, count + 1)
        self.roi_heads.mask_predictor = fresh.to(upsampling.weight)
