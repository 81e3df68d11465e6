"""A detector with one of torchvision's heads as a graph for export: images in, boxes out."""

from __future__ import annotations

import torch
from torch import Tensor

from deployment.export.kinds.contract import Form, Graph, normalised, prepared
from deployment.export.kinds.dense import DenseBoxes
from deployment.export.kinds.grids import cells_of
from deployment.export.kinds.proposals import ProposedBoxes
from deployment.export.kinds.rows import best_rows, table
from detection.network.heads.detector import HeadedDetector
from detection.network.heads.kinds.dense import DenseHead
from detection.network.heads.kinds.faster_rcnn import FasterRcnnHead
from engine.errors import InputError


class HeadedGraph(Graph):
    """A detector with any head but EfficientDet's; what comes out is named as in `BoxOutputs`.

    `max_detections` rows for each image: `boxes_xyxy` (B, N, 4) in pixels of the canvas, clipped to the image; `scores`
    (B, N); `class_ids` (B, N), -1 in rows that are not used; of Mask R-CNN `masks` (B, N, 28, 28) too, probabilities
    within each box.

    Args:
        network: the detector; it is copied and folded.
        form: what the graph holds besides.

    Raises:
        InputError: the suppression is to be left out.
    """

    network: HeadedDetector

    def __init__(self, network: HeadedDetector, form: Form) -> None:
        super().__init__()
        config = form.postprocess
        if config is None:
            msg = (
                f"head {network.config.head} has torchvision's own suppression, which predictions know of no file. "
                "Leave --nms out, which puts it inside."
            )
            raise InputError(msg)
        self.network = prepared(network)
        self.fixed = form.image_hw is not None
        self.step = network.padded_to
        if not self.fixed:
            self.multiple = self.step
        head, classes, levels = self.network.head, len(network.classes), network.config.levels
        self.boxes: DenseBoxes | ProposedBoxes
        if isinstance(head, DenseHead):
            self.boxes = DenseBoxes(head, config, classes)
        else:
            assert isinstance(head, FasterRcnnHead)
            self.boxes = ProposedBoxes(head, config, classes)
        self.flat = form.layout == "frigate"
        masks = isinstance(self.boxes, ProposedBoxes) and self.boxes.masks and not self.flat
        own = ("boxes_xyxy", "scores", "class_ids", *(("masks",) if masks else ()))
        self.inputs = ("images",) if self.flat else ("images", "sizes_hw")
        self.outputs = ("detections",) if self.flat else own
        smallest = form.image_hw or (self.least, self.least)
        height, width = (-(-side // self.step) * self.step for side in smallest)
        self.candidates = self.boxes.least([cells_of((height, width), [level]) for level in levels])
        self.count = config.max_detections

    def forward(self, images: Tensor, sizes_hw: Tensor | None = None) -> tuple[Tensor, ...]:
        """Answers for (B, 3, H, W) uint8 RGB images.

        Args:
            images: on their canvases.
            sizes_hw: (B, 2) float32 height and width of each image on its canvas.
        """
        network = self.network
        normal = network.normalise(images) if self.fixed else normalised(network.mean, network.std, images)
        maps = network.pyramid(network.backbone(normal))
        canvas_hw = (normal.shape[2], normal.shape[3])
        if sizes_hw is None:
            sizes_hw = torch.tensor([images.shape[2:]], dtype=torch.float32).expand(len(images), 2)
        boxes, kept, class_ids = self.boxes(maps, canvas_hw, sizes_hw)
        found, best, found_ids = best_rows(boxes, kept, class_ids, self.count, self.candidates)
        if self.flat:
            return (table(found, best, found_ids),)
        if "masks" not in self.outputs:
            return found, best, found_ids
        assert isinstance(self.boxes, ProposedBoxes)
        return found, best, found_ids, self.boxes.masks_of(maps, found, found_ids)
