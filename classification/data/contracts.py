"""What a classifier's task and its data ask of each other."""

from __future__ import annotations

from typing import Protocol

from classification.data.classes import LabelClasses
from classification.data.framing import Framing
from classification.data.sources import LabelSource, Rows
from classification.training.progressive import Progressive
from engine.data.contracts import PictureTask, SplitName, TaskData


class ClassifierTask(PictureTask, Protocol):
    """What a data module with labels asks of its task."""

    @property
    def classes(self) -> LabelClasses:
        """The class list; labels are its rows."""
        ...

    @property
    def framing(self) -> Framing:
        """How a picture becomes the square that the network sees."""
        ...

    @property
    def progressive(self) -> Progressive:
        """How the training grows."""
        ...


class ClassificationData(TaskData, Protocol):
    """What a classifier's task asks of its data module."""

    @property
    def classes(self) -> LabelClasses:
        """The class list of a model made for these data."""
        ...

    def files(self, split: SplitName) -> LabelSource:
        """The images and labels of a split."""
        ...

    def class_counts(self) -> tuple[int, Rows]:
        """How many training images there are, and (K,) how many have each class of the task."""
        ...
