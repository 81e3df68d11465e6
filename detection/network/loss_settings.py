"""What the training of a detector minimises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from engine.checked import Checked
from engine.errors import InputError
from engine.numbers import NonNegativeFloat, OpenUnitInterval, PositiveFloat, PositiveInt, ZeroToBelowOne

Assigner = Literal["max_iou", "atss", "task_aligned", "dynamic_k"]
ClassLoss = Literal["focal", "quality_focal", "varifocal"]
BoxLoss = Literal["huber", "giou", "diou", "ciou"]
Normaliser = Literal["batch", "running"]


@dataclass(frozen=True)
class DetectionLoss(Checked):
    """What the training minimises. The defaults are those of google/automl `hparams_config.py`.

    Attributes:
        assigner: which anchors learn a box: max_iou, those that overlap it enough; atss, task_aligned or dynamic_k, see
            `detection.network.assignment`.
        classes: focal; or quality_focal or varifocal, which teach an anchor to give as its score how well its box fits
            (thresholds of scores are then lower).
        boxes: huber, of the deltas; or giou, diou or ciou, of the boxes.
        alpha: weight of positives in the focal loss, negatives have 1 - alpha, in the varifocal loss too; null is 0.25.
        gamma: how strongly the weight of easy examples is reduced; null is 1.5 with focal and 2 with the others.
        label_smoothing: share by which the target is moved towards one half; with focal only.
        delta: where Huber turns from square to linear, in anchor sizes; null is 0.1.
        box_weight: weight of the box loss; null is 50 with huber and 2 with the others.
        match_iou: smallest IoU of a positive anchor of max_iou; null is 0.5.
        candidates: with atss the nearest cells of each level, null is 9; else the most anchors of a box, null is 13
            with task_aligned and 10 with dynamic_k.
        normaliser: what a step's losses are divided by: batch, its own positive anchors; or running, their mean over
            the last steps, for batches of 1 to 4 images, whose positives differ much.
        momentum: weight of the steps before in the mean of running; null is 0.9, as in detectron2.
        distribution: weight of the distribution focal loss, 0.25 in its paper, which teaches the box tower how likely
            each value of a delta is; only the training has the layer for it. 0 leaves it out.

    Raises:
        InputError: a value is out of range, or does not apply to the losses and the assigner that are chosen.
    """

    assigner: Assigner = "max_iou"
    classes: ClassLoss = "focal"
    boxes: BoxLoss = "huber"
    alpha: OpenUnitInterval | None = None
    gamma: NonNegativeFloat | None = None
    label_smoothing: ZeroToBelowOne = 0.0
    delta: PositiveFloat | None = None
    box_weight: NonNegativeFloat | None = None
    match_iou: OpenUnitInterval | None = None
    candidates: PositiveInt | None = None
    normaliser: Normaliser = "batch"
    momentum: ZeroToBelowOne | None = None
    distribution: NonNegativeFloat = 0.0
    group: ClassVar[str] = "loss"

    def __post_init__(self) -> None:
        super().__post_init__()
        focal = self.classes == "focal"
        for name, given, applies, needed in (
            ("alpha", self.alpha is not None, self.classes != "quality_focal", "classes focal or varifocal"),
            ("label_smoothing", self.label_smoothing > 0, focal, "classes focal"),
            ("delta", self.delta is not None, self.boxes == "huber", "boxes huber"),
            ("match_iou", self.match_iou is not None, self.assigner == "max_iou", "assigner max_iou"),
            ("candidates", self.candidates is not None, self.assigner != "max_iou", "another assigner than max_iou"),
            ("momentum", self.momentum is not None, self.normaliser == "running", "normaliser running"),
        ):
            if given and not applies:
                msg = f"{self.group}.{name} is for {needed}. Leave it out."
                raise InputError(msg)
        if self.assigner == "task_aligned" and focal:
            msg = (
                f"{self.group}.assigner task_aligned says which score each anchor should give, and focal knows only 0 "
                "and 1. Take classes quality_focal or varifocal."
            )
            raise InputError(msg)

    @property
    def focusing(self) -> float:
        """The gamma that applies."""
        return (1.5 if self.classes == "focal" else 2.0) if self.gamma is None else self.gamma

    @property
    def of_positives(self) -> float:
        """The alpha that applies. The quality focal loss has none: its negatives count in full."""
        if self.classes == "quality_focal":
            return 0.0
        return 0.25 if self.alpha is None else self.alpha

    @property
    def of_boxes(self) -> float:
        """The weight of the box loss that applies.

        A weight of 1 keeps the gradients of 50 times Huber's; 2 is what ATSS, GFL and TOOD train with.
        """
        return (50.0 if self.boxes == "huber" else 2.0) if self.box_weight is None else self.box_weight
