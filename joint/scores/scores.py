"""The scores of both tasks in one evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from detection.scores.metric import BoxScores
from segmentation.scores.metric import SegmentationScores


@dataclass(frozen=True)
class JointScores:
    """COCO's numbers and the scores of the segmentation benchmark; each is None if the set has no such labels.

    Attributes:
        boxes: the scores of the images with boxes.
        masks: the scores of the images with masks.
        ap_share: weight of AP in the joint measure; the rest is the weight of mIoU.
    """

    boxes: BoxScores | None
    masks: SegmentationScores | None
    ap_share: float = 0.5

    @property
    def joint(self) -> float:
        """The weighted mean of AP and mIoU, or the only one that exists; NaN if there is neither."""
        ap = self.boxes.ap if self.boxes is not None and self.boxes.ap >= 0 else math.nan
        miou = self.masks.miou if self.masks is not None else math.nan
        if math.isnan(ap) or math.isnan(miou):
            return miou if math.isnan(ap) else ap
        return self.ap_share * ap + (1 - self.ap_share) * miou

    def as_dict(self, prefix: str = "val_") -> dict[str, float]:
        """The numbers of both tasks to log, and `joint`."""
        numbers = {f"{prefix}joint": self.joint}
        for scores in (self.boxes, self.masks):
            numbers |= {} if scores is None else scores.as_dict(prefix)
        return numbers

    def to_dict(self) -> dict[str, object]:
        """All numbers as plain values for JSON; a score that does not exist is null."""
        boxes = None if self.boxes is None else self.boxes.to_dict()
        joint = None if math.isnan(self.joint) else self.joint
        return {"joint": joint, "boxes": boxes, "masks": None if self.masks is None else self.masks.to_dict()}

    def never_found(self) -> dict[str, list[str]]:
        """The classes of both kinds of which nothing is found."""
        found: dict[str, list[str]] = {}
        for scores in (self.boxes, self.masks):
            found |= {} if scores is None else scores.never_found()
        return found

    def table(self) -> str:
        """The tables of both tasks as text."""
        return "\n\n".join(scores.table() for scores in (self.boxes, self.masks) if scores is not None)
