"""The losses of both tasks over all images of an evaluation, from the outputs that are scored."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from backbones.grid import size_hw
from detection.network.loss_settings import DetectionLoss
from detection.network.losses import Losses as DetectionSums
from detection.network.losses import image_losses as box_losses
from engine.scores.image_sums import ImageSums
from joint.data.batch import JointEvaluationBatch
from joint.network.model import JointNetwork, JointOutputs
from joint.training.balance import Balance
from segmentation.network.losses import Losses as SegmentationSums
from segmentation.network.losses import SegmentationLoss
from segmentation.network.losses import image_losses as mask_losses


class EvaluationLoss:
    """Collects the losses of the images on their canvases, each for the kinds of labels that it has.

    Args:
        detection: settings of the detection loss; None leaves it out.
        segmentation: settings of the segmentation loss; None leaves it out.
        balance: the weights of both. What `uncertainty` learns is left out, so that epochs can be compared.
    """

    def __init__(
        self, detection: DetectionLoss | None, segmentation: SegmentationLoss | None, balance: Balance
    ) -> None:
        self.detection = detection
        self.segmentation = segmentation
        self.balance = balance
        self._boxes = ImageSums()
        self._masks = ImageSums()

    def add(
        self,
        network: JointNetwork,
        outputs: JointOutputs,
        batch: JointEvaluationBatch,
        boxed: Sequence[int],
        masked: Sequence[int],
    ) -> None:
        """Take a batch.

        Args:
            network: the network.
            outputs: the outputs of the network for all images of the batch.
            batch: the images with their labels.
            boxed: the rows of the images with boxes.
            masked: the rows of the images with masks.
        """
        if self.detection is not None and outputs.predictions is not None and boxed:
            class_logits, box_deltas, anchors = outputs.predictions
            logits, deltas = _pick(class_logits, boxed), _pick(box_deltas, boxed)
            boxes, class_ids = _pick(batch.boxes_xyxy, boxed), _pick(batch.class_ids, boxed)
            lattice = network.detector.lattice(size_hw(batch.images))
            sums = box_losses(logits, deltas, anchors, boxes, class_ids, self.detection, lattice)
            self._boxes.add(_pick(batch.image_ids, boxed), sums)
        if self.segmentation is not None and outputs.segmentation is not None and masked:
            logits, masks = _pick(outputs.segmentation.logits, masked), _pick(batch.masks, masked)
            self._masks.add(_pick(batch.image_ids, masked), mask_losses(logits, masks, self.segmentation))

    def total(self) -> float:
        """The sum of both losses with their weights; a kind of labels that no image has adds 0, as in training.

        All processes must call this at once.
        """
        boxes, masks, total = self._boxes.total(), self._masks.total(), 0.0
        if boxes is not None and self.detection is not None:
            sums = DetectionSums(*boxes.unbind())
            total += self.balance.detection * float(sums.total(sums.positives + 1, self.detection.of_boxes))
        if masks is not None and self.segmentation is not None:
            total += self.balance.segmentation * float(SegmentationSums.of_packed(masks).total(self.segmentation))
        return total


def _pick(values: Tensor, rows: Sequence[int]) -> Tensor:
    return values if len(rows) == len(values) else values[list(rows)]
