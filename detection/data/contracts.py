"""What a detector's task and its data ask of each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from detection.data.boxes import BoxSource
from detection.data.classes import BoxClasses
from detection.data.dataset import Lay
from detection.data.tiles.cutting import TiledImages
from engine.data.contracts import CanvasTask, SplitName, TaskData
from engine.large.options import InTiles


class BoxTask(CanvasTask, Protocol):
    """What data with boxes ask of any task that finds boxes."""

    @property
    def classes(self) -> BoxClasses:
        """The class list; the boxes' class ids are its rows."""
        ...


class DetectorTask(BoxTask, Protocol):
    """What a data module with boxes alone asks of its task."""

    @property
    def inference(self) -> InTiles:
        """The tiles in which images are scored; without a window they are scored whole."""
        ...

    @property
    def views(self) -> Sequence[Lay]:
        """What lays an image, or a tile, on the canvas of each further pass of an evaluation."""
        ...

    @property
    def wants_masks(self) -> bool:
        """Whether training samples have the masks of their objects."""
        ...

    @property
    def cell(self) -> int:
        """Pixels of the canvas from one cell of the finest map to the next."""
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
    def tiles(self) -> InTiles:
        """The tiles that training images are cut into; without a window they are taken whole."""
        ...

    def tiles_of(self, split: SplitName) -> TiledImages | None:
        """The tiles that the samples of a split are; None where they are whole images."""
        ...

    def mask_file(self, split: SplitName) -> Path:
        """The COCO file with the masks of a split."""
        ...

    @property
    def image_size(self) -> int | tuple[int, int] | None:
        """Side of the canvas, or its height and width, in pixels; None means the task's own canvas."""
        ...
