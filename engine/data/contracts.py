"""What every task asks of its data, and every data module of its task; each task's own contracts build on these.

They stand apart from both sides, so that neither imports the other.
"""

from __future__ import annotations

from typing import Literal, Protocol

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


class TaskData(Protocol):
    """What a task asks of any data module."""

    @property
    def batch_size(self) -> int:
        """Images per device and training step."""
        ...


class PictureTask(Protocol):
    """What a data module asks of any task that sees pictures."""

    @property
    def fill_color(self) -> tuple[int, int, int]:
        """RGB from 0 to 255 beside the picture: the network's mean colour."""
        ...


class CanvasTask(PictureTask, Protocol):
    """The same, where every picture lies on one canvas."""

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """Height and width of the canvas in pixels, of the task's own."""
        ...
