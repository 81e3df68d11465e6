"""What the joint task and its data ask of each other."""

from __future__ import annotations

from typing import Protocol

from detection.data.classes import BoxClasses
from detection.data.contracts import DetectorTask, ScoredBoxes
from segmentation.data.classes import MaskClasses
from segmentation.data.contracts import ScoredMasks


class JointNetworkTask(DetectorTask, Protocol):
    """What a data module with boxes and masks asks of its task; `classes` are the detector's."""

    @property
    def segmentation_classes(self) -> MaskClasses:
        """The segmenter's class list, in whose rows the masks are given."""
        ...


class JointData(ScoredBoxes, ScoredMasks, Protocol):
    """What the joint task asks of its data module."""

    @property
    def classes(self) -> BoxClasses:
        """The class list of a detector made for these data."""
        ...

    @property
    def segmentation_classes(self) -> MaskClasses:
        """The class list of a segmenter made for these data."""
        ...

    @property
    def canvas_size(self) -> int | tuple[int, int] | None:
        """Side of the canvas, or its height and width, in pixels; None is the task's own canvas."""
        ...
