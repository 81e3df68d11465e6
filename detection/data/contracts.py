"""What a detector's task and its data ask of each other."""

from __future__ import annotations

from typing import Protocol

from detection.data.boxes import BoxSource
from detection.data.classes import BoxClasses
from engine.data.contracts import CanvasTask, SplitName, TaskData


class DetectorTask(CanvasTask, Protocol):
    """What a data module with boxes asks of its task."""

    @property
    def classes(self) -> BoxClasses:
        """The class list; the boxes' class ids are its rows."""
        ...


class ScoredBoxes(TaskData, Protocol):
    """What scoring boxes asks of a data module."""

    def box_source(self, split: SplitName) -> BoxSource:
        """The images and boxes of a split, with which detections are compared."""
        ...


class DetectionData(ScoredBoxes, Protocol):
    """What a detector's task asks of its data module."""

    def train_classes(self) -> BoxClasses:
        """The class list of a model made for these data."""
        ...

    @property
    def image_size(self) -> int | tuple[int, int] | None:
        """Side of the canvas, or its height and width, in pixels; None means the task's own canvas."""
        ...
