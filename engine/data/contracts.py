"""What every task needs of its data, and every data module of its task; the contracts of each task extend these.

They are in a file of their own, so that neither side imports the other.
"""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias, runtime_checkable

from engine.numbers import PositiveInt
from engine.reading.options import Reading

BatchSize: TypeAlias = PositiveInt | Literal["auto"]
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


@runtime_checkable
class FindsBatch(Protocol):
    """A data module that may leave the size of a step to be found."""

    @property
    def finds_batch(self) -> bool:
        """Whether it is to be found."""
        ...

    @property
    def most_images(self) -> int:
        """The largest number of images on a device that leaves an epoch enough steps."""
        ...

    @property
    def batch_before(self) -> int | None:
        """Images per device and step of the training that goes on; None where none does."""
        ...

    def trial_batch(self, images: int) -> object:
        """A training batch that takes as much memory as any of its size."""
        ...

    def take_batch(self, images: int) -> None:
        """Train with this number of images per device and step."""
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
