"""Boxes of RetinaNet, FCOS and SSD in a graph: what torchvision's `postprocess_detections` does, without its loops.

Sources: torchvision 0.29, `models/detection/retinanet.py`, `fcos.py` and `ssd.py`. There boxes are sorted out one
image at a time, and as many remain as are found; a graph keeps a fixed number of candidates, and those that are
dropped have the score 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.models.detection.ssd import SSD

from deployment.export.kinds.grids import anchors_of_levels, default_boxes_of
from deployment.export.operators import suppress
from detection.network.heads.kinds.dense import DenseHead
from detection.network.postprocess import Postprocess, clip_boxes


class DenseBoxes(nn.Module):
    """The candidates of a head that looks at every cell.

    Args:
        head: the head, whose layers are used.
        postprocess: the suppression.
        classes: K.
    """

    def __init__(self, head: DenseHead, postprocess: Postprocess, classes: int) -> None:
        super().__init__()
        self.head = head
        self.postprocess, self.classes = postprocess, classes
        levels = len(head.model.anchor_generator.num_anchors_per_location())
        own = head.candidates(postprocess, levels).get("topk_candidates", head.model.topk_candidates)
        self.most = int(own)  # of each level, or in SSD of each class

    def least(self, cells: Sequence[int]) -> int:
        """How many candidates there are of maps with so many cells."""
        per_cell: list[int] = self.head.model.anchor_generator.num_anchors_per_location()
        anchors = [count * each for count, each in zip(cells, per_cell, strict=True)]
        if isinstance(self.head.model, SSD):
            return self.classes * min(self.most, sum(anchors))
        return sum(min(self.most, count * self.classes) for count in anchors)

    def forward(
        self, maps: Sequence[Tensor], canvas_hw: tuple[int, int], sizes_hw: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (B, M, 4), the scores of those that are kept (B, M), and their classes (B, M).

        Args:
            maps: of the pyramid, finest first.
            canvas_hw: height and width of the canvas.
            sizes_hw: (B, 2) height and width of each image on it.
        """
        model = self.head.model
        if isinstance(model, SSD):
            boxes, scores, class_ids = self._of_classes(model, maps, canvas_hw)
        else:
            boxes, scores, class_ids = self._of_levels(model, maps, canvas_hw)
        boxes = clip_boxes(boxes, sizes_hw)
        config = self.postprocess
        kept: Tensor = suppress(
            boxes, scores, class_ids, self.classes, config.iou_threshold, config.score_threshold, config.max_detections
        )
        return boxes, kept, class_ids

    def _of_levels(
        self, model: RetinaNet | FCOS, maps: Sequence[Tensor], canvas_hw: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The best pairs of cell and class of each level."""
        boxes, scores, class_ids = [], [], []
        for one, anchors in zip(maps, anchors_of_levels(model.anchor_generator, maps, canvas_hw), strict=True):
            logits, codes, *centres = self.head.outputs([one])
            pairs = logits.sigmoid()
            if centres:
                pairs = (pairs * centres[0].sigmoid()).sqrt()
            flat = pairs.flatten(1)
            best, places = flat.topk(torch.sym_min(self.most, flat.shape[1]), dim=1)
            cells = places // self.classes
            boxes.append(_decoded(model, codes.gather(1, cells[..., None].expand(-1, -1, 4)), anchors[cells]))
            scores.append(best)
            class_ids.append(places % self.classes)
        return torch.cat(boxes, 1), torch.cat(scores, 1), torch.cat(class_ids, 1)

    def _of_classes(
        self, model: SSD, maps: Sequence[Tensor], canvas_hw: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The best boxes of each class."""
        logits, codes = self.head.outputs(maps)
        by_class = logits.softmax(-1)[..., 1:].transpose(1, 2)  # (B, K, R)
        scores, places = by_class.topk(torch.sym_min(self.most, by_class.shape[2]), dim=2)
        class_ids = torch.arange(self.classes)[None, :, None].expand_as(places).flatten(1)
        cells = places.flatten(1)
        anchors = default_boxes_of(model.anchor_generator, maps, canvas_hw)[cells]
        boxes = _decoded(model, codes.gather(1, cells[..., None].expand(-1, -1, 4)), anchors)
        return boxes, scores.flatten(1), class_ids


def _decoded(model: RetinaNet | FCOS | SSD, codes: Tensor, anchors: Tensor) -> Tensor:
    """(B, M, 4) boxes of codes and anchors of the same shape."""
    if isinstance(model, FCOS):
        centred: Tensor = model.box_coder.decode(codes, anchors)
        return centred
    flat: Tensor = model.box_coder.decode_single(codes.flatten(0, 1), anchors.flatten(0, 1))
    return flat.reshape(codes.shape)
