"""The tiles that are cut from large images for training, as options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.large.options import InTiles
from engine.numbers import ClosedUnitInterval, NonNegativeFloat


@dataclass(frozen=True)
class TrainingTiles(InTiles):
    """The tiles that training images are cut into.

    Attributes:
        window: side in pixels of the tiles, each of which is laid on the canvas; None trains on whole images.
            Validation and prediction take it too, where they are not told otherwise.
        overlap: pixels that neighbouring tiles share at least, and all do in validation; None is a quarter of the
            window.
        margin: in validation, boxes closer than this to an inner end of their tile give way to a neighbour's; None is a
            quarter of the overlap.
        min_visible: an object of which a tile shows a smaller share of its area is left out of it, as sahi 0.12.8 does
            (`min_area_ratio` of `slice_coco`, 0.1); DOTA's kit takes 0.7. What is left of others is their box.
        empty: tiles without an object for each with one, at most; all of them come in turn.
    """

    min_visible: ClosedUnitInterval = 0.1
    empty: NonNegativeFloat = 1.0
    group: ClassVar[str] = "tiles"
