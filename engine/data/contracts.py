"""What every task needs of its data, and every data module of its task; the contracts of each task extend these.

They are in a file of their own, so that neither side imports the other.
"""

from __future__ import annotations

from typing import Literal, Protocol

from engine.reading.options import Reading

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
OF_TRAINING: tuple[SplitName, ...] = ("train", "val")


class TaskData(Protocol):
    """What a task needs of any data module."""

    @property
    def reading(self) -> Reading:
        """How rasters were asked to be read with the data."""
        ...

    @property
    def batch_size(self) -> int:
        """Images per device and training step."""
        ...


class PictureTask(Protocol):
    """What a data module needs of any task that works on pictures."""

    @property
    def fill_color(self) -> tuple[int, int, int]:
        """The RGB colour of the canvas beside the picture, 0 to 255: the network's mean colour."""
        ...

    @property
    def reading(self) -> Reading:
        """How rasters become the RGB that the network sees."""
        ...


class LaysOut(Protocol):
    """A network that may lay pictures on its canvas itself."""

    @property
    def takes_pictures(self) -> bool:
        """Whether it does, and answers in the pictures' pixels, as some exported files do."""
        ...


class CanvasTask(PictureTask, Protocol):
    """The same for a task that lays every picture on one canvas."""

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """Height and width of the task's own canvas, in pixels."""
        ...

    @property
    def network(self) -> LaysOut:
        """What computes the pictures."""
        ...
