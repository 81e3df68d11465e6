"""What the joint task and its data need of each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from detection.data.classes import BoxClasses
from detection.data.contracts import BoxTask, ScoredBoxes
from engine.data.contracts import SplitName
from joint.data.dataset import JointImages
from segmentation.data.classes import MaskClasses
from segmentation.data.contracts import ScoredMasks


class JointNetworkTask(BoxTask, Protocol):
    """What a data module with boxes and masks needs of its task; `classes` is the class list of the detector."""

    @property
    def segmentation_classes(self) -> MaskClasses:
        """The class list of the segmenter; masks hold its rows."""
        ...


class JointData(ScoredBoxes, ScoredMasks, Protocol):
    """What the joint task needs of its data module."""

    @property
    def classes(self) -> BoxClasses:
        """The class list for a detector that is made for these data."""
        ...

    @property
    def segmentation_classes(self) -> MaskClasses:
        """The class list for a segmenter that is made for these data."""
        ...

    def whole_sets(self, split: SplitName) -> Sequence[JointImages]:
        """The images of a split as they are scored, those with boxes first."""
        ...

    @property
    def canvas_size(self) -> int | tuple[int, int] | None:
        """Side of the canvas, or its height and width, in pixels; None means the task's own canvas."""
        ...
