"""Faster R-CNN's heads: torchvision's proposals and their classification, on any pyramid.

Source: Ren et al., "Faster R-CNN" (arXiv 1506.01497), on a pyramid as in arXiv 1612.03144, section 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import initLevelMapper

from detection.network.family import DetectorArchitecture
from detection.network.heads.contract import Objects, Placed, Truth
from detection.network.heads.parts import NoBackbone, anchor_generator, image_list, objects, targets, with_thresholds
from detection.network.postprocess import Postprocess

POOLED = (3, 4, 5)  # the levels that proposals are cut from; coarser ones only propose
_WIDTHS = 16  # hidden units of the box head for each channel of the pyramid: 256 give the 1024 of the paper's


class FasterRcnnHead(nn.Module):
    """Proposals, and a classifier with box regression of what lies in each.

    Args:
        config: channels, levels and anchors.
        classes: K.
    """

    losses_of: ClassVar[Mapping[str, str]] = {
        "loss_objectness": "objectness",
        "loss_rpn_box_reg": "proposal",
        "loss_classifier": "class",
        "loss_box_reg": "box",
    }
    repeatable = False  # proposals and anchors are drawn by chance

    def __init__(self, config: DetectorArchitecture, classes: int) -> None:
        super().__init__()
        model = self.make(config, classes)
        self.rpn, self.roi_heads = model.rpn, model.roi_heads

    def make(self, config: DetectorArchitecture, classes: int) -> FasterRCNN:
        """Torchvision's detector, of which the heads are taken."""
        return FasterRCNN(NoBackbone(config.fpn_channels), **box_parts(config, classes))

    @property
    def loss_names(self) -> tuple[str, ...]:
        """See `PyramidHead`."""
        return tuple(self.losses_of.values())

    def outputs(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Nothing: what follows depends on the proposals."""
        return ()

    def losses(
        self, maps: Sequence[Tensor], outputs: Sequence[Tensor], placed: Placed, truth: Sequence[Truth]
    ) -> Mapping[str, Tensor]:
        """See `PyramidHead`; the head must be in training mode."""
        named, wanted = _named(maps), targets(truth, first_class=1)
        proposals, found = self.rpn(image_list(placed), named, wanted)
        _, others = self.roi_heads(named, proposals, placed.sizes_hw, wanted)
        found = {**found, **others}
        return {ours: found[theirs] for theirs, ours in self.losses_of.items()}

    def detections(
        self, maps: Sequence[Tensor], outputs: Sequence[Tensor], placed: Placed, config: Postprocess
    ) -> list[Objects]:
        """See `PyramidHead`; the head must be in evaluation mode."""
        named = _named(maps)
        proposals, _ = self.rpn(image_list(placed), named)
        heads = with_thresholds(
            self.roi_heads,
            score_thresh=config.score_threshold,
            nms_thresh=config.iou_threshold,
            detections_per_img=config.max_detections,
        )
        found, _ = heads(named, proposals, placed.sizes_hw)
        return objects(found, first_class=1)

    def renew_classes(self, count: int) -> None:
        """See `PyramidHead`."""
        last = self.roi_heads.box_predictor
        fresh = FastRCNNPredictor(last.cls_score.in_features, count + 1)
        self.roi_heads.box_predictor = fresh.to(last.cls_score.weight)


def box_parts(config: DetectorArchitecture, classes: int) -> dict[str, object]:
    """Torchvision's arguments for proposals and boxes of an architecture with K classes."""
    hidden = _WIDTHS * config.fpn_channels
    return {
        "rpn_anchor_generator": anchor_generator(config),
        "box_roi_pool": roi_pool(7),
        "box_head": TwoMLPHead(config.fpn_channels * 7**2, hidden),
        "box_predictor": FastRCNNPredictor(hidden, classes + 1),
    }


def roi_pool(cells: int) -> MultiScaleRoIAlign:
    """What cuts boxes out of the maps, as so many cells in each direction.

    Torchvision guesses the strides of the maps, from the first images that it sees and for good, as if these filled
    their canvas; a wide picture on a square one would make it think that level 3 has a stride of 4. They are known.
    """
    pool = MultiScaleRoIAlign([str(level) for level in POOLED], output_size=cells, sampling_ratio=2)
    pool.scales = [2.0**-level for level in POOLED]
    pool.map_levels = initLevelMapper(POOLED[0], POOLED[-1])
    return pool


def _named(maps: Sequence[Tensor]) -> dict[str, Tensor]:
    return {str(level): one for level, one in enumerate(maps, 3)}
