"""What a segmenter's task and its data ask of each other."""

from __future__ import annotations

from typing import Protocol

from engine.data.contracts import PictureTask, SplitName, TaskData
from segmentation.data.classes import MaskClasses
from segmentation.data.pairs import MaskSource


class SegmenterTask(PictureTask, Protocol):
    """What a data module with masks asks of its task."""

    @property
    def classes(self) -> MaskClasses:
        """The class list; the masks' values are its rows."""
        ...


class ScoredMasks(TaskData, Protocol):
    """What scoring masks asks of a data module."""

    @property
    def cityscapes_scores(self) -> bool:
        """Whether the official Cityscapes scores, including categories and instances, can be computed."""
        ...


class SegmentationData(ScoredMasks, Protocol):
    """What a segmenter's task asks of its data module."""

    @property
    def classes(self) -> MaskClasses:
        """The class list of a model made for these data."""
        ...

    def files(self, split: SplitName) -> MaskSource:
        """The pictures and masks of a split."""
        ...

    @property
    def crop_hw(self) -> tuple[int, int]:
        """Height and width of the training crops in pixels."""
        ...
