"""The records of each image for the measures of both tasks, collected over the batches and processes of a scoring."""

from __future__ import annotations

import numpy as np
import torch

from detection.data.batch import Detections
from detection.data.classes import BoxClasses
from detection.scores.records import DetectionRecords
from engine.reading.images import Letterbox
from joint.data.batch import JointEvaluationBatch
from joint.network.model import JointAnswers
from joint.network.original import original_classes
from segmentation.data.classes import MaskClasses
from segmentation.scores.records import SegmentationRecords


class JointRecords:
    """Collects detections in the images with boxes, and pixel counts of the images with masks.

    Args:
        classes: the class list of the detector.
        segmentation_classes: the class list of the segmenter.
        cityscapes: whether to measure Cityscapes' category and instance scores.

    Raises:
        InputError: the Cityscapes scores are asked for, but the classes are not those of Cityscapes.
    """

    def __init__(self, classes: BoxClasses, segmentation_classes: MaskClasses, cityscapes: bool = False) -> None:
        self.classes = classes
        self.boxes = DetectionRecords()
        self.masks = SegmentationRecords(segmentation_classes, cityscapes)

    def add(self, answers: JointAnswers, batch: JointEvaluationBatch) -> None:
        """Add a batch: for each image the answers that it has labels for.

        Args:
            answers: those of `JointNetwork.answer` for the images of the batch.
            batch: the images with their labels.
        """
        if answers.detections is not None:
            self._add_boxes(answers.detections, batch)
        if answers.outputs.segmentation is None and answers.rows is None:
            return
        canvas_hw = (batch.images.shape[-2], batch.images.shape[-1])
        indices, sizes_hw, scales = batch.image_ids.tolist(), batch.sizes_hw.tolist(), batch.scales.tolist()
        for row in np.flatnonzero(batch.masked.cpu().numpy()).tolist():
            height, width = sizes_hw[row]
            own = scales[row] == 1  # with pictures of other sizes on a canvas of none of them, or on its own
            letterbox = Letterbox.own((height, width)) if own else Letterbox.fit((height, width), canvas_hw)
            rows = original_classes(answers, row, letterbox).cpu().numpy()
            self.masks.add(indices[row], rows, batch.truth[row], batch.instance_ids[row])

    def gather(self) -> JointRecords:
        """The records of all processes, on each of them."""
        merged = JointRecords(self.classes, self.masks.counter.classes, self.masks.counter.cityscapes)
        merged.boxes, merged.masks = self.boxes.gather(), self.masks.gather()
        return merged

    def _add_boxes(self, found: Detections, batch: JointEvaluationBatch) -> None:
        boxed = batch.boxed.cpu()
        class_ids = found.class_ids.cpu()[boxed]
        rows = class_ids.clamp(min=0)
        # Rows without a name (ten of COCO's ninety) stand for ids that no annotation file lists.
        named = torch.tensor([bool(name) for name in self.classes.names])
        self.boxes.add(
            batch.image_ids.cpu()[boxed].numpy(),
            found.boxes_xyxy.float().cpu()[boxed].numpy(),
            found.scores.float().cpu()[boxed].numpy(),
            torch.tensor(self.classes.category_ids)[rows].numpy(),
            valid=((class_ids >= 0) & named[rows]).numpy(),
        )
