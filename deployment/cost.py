"""What a network of any kind costs: parameters and multiply-accumulates, of R-CNN with all that follows proposals."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from backbones.study.cost import Cost, count
from deployment.export.kinds.proposals import ProposedBoxes
from detection.network.heads.detector import HeadedDetector
from detection.network.heads.kinds.faster_rcnn import FasterRcnnHead
from detection.network.postprocess import Postprocess


def cost_of_network(network: nn.Module, image_hw: tuple[int, int]) -> Cost:
    """Parameters and multiply-accumulates of one image; nothing is computed, and the network is left as it was.

    Args:
        network: of any kind, not folded.
        image_hw: height and width in pixels.
    """
    own = copy.deepcopy(network).eval().to("meta")
    return count(_AllLayers(own) if isinstance(own, HeadedDetector) else own, image_hw)


class _AllLayers(nn.Module):
    """All layers of a detector with one of torchvision's heads, as often as its files compute them.

    Faster and Mask R-CNN look at all proposals, and give all masks; in PyTorch there may be fewer, as those that
    overlap are dropped before.
    """

    def __init__(self, network: HeadedDetector) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> list[Tensor]:
        """What the last layers give, for (1, 3, H, W)."""
        network = self.network
        maps = network.pyramid(network.backbone(network.normalise(images)))
        head = network.head
        if not isinstance(head, FasterRcnnHead):
            return list(head.outputs(maps))
        rpn, heads, usual = head.rpn, head.roi_heads, Postprocess()
        proposals = ProposedBoxes(head, usual, classes=1).least([one.shape[-2] * one.shape[-1] for one in maps])
        finest = maps[0]
        boxes = finest.new_zeros((proposals, finest.shape[1], *heads.box_roi_pool.output_size))
        found = [*rpn.head(maps)[0], *heads.box_predictor(heads.box_head(boxes))]
        if heads.has_mask():
            cut = finest.new_zeros((usual.max_detections, finest.shape[1], *heads.mask_roi_pool.output_size))
            found.append(heads.mask_predictor(heads.mask_head(cut)))
        return found
