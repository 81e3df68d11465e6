"""The tiles in which a large picture is computed, as options."""

from __future__ import annotations

from dataclasses import dataclass

from engine.checked import Checked
from engine.errors import InputError
from engine.large.tiling import Tiling
from engine.numbers import PositiveInt


@dataclass(frozen=True)
class InTiles(Checked):
    """The tiles in which a picture with boxes is computed.

    Args:
        window: Side in pixels of the tiles in which a picture is computed, each on the canvas; null lays the whole
            picture on it.
        overlap: Pixels that neighbouring tiles share, which should be more than the largest objects have; null is a
            quarter of the window.
        margin: Boxes closer than this to an inner end of their tile give way to what a neighbour sees there in its
            interior; null is a quarter of the overlap.

    Raises:
        InputError: a value is out of range.
    """

    window: PositiveInt | None = None
    overlap: int | None = None
    margin: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window is not None:
            self.tiling((1, 1))  # checks the values
        elif self.overlap is not None or self.margin is not None:
            msg = "overlap and margin are those of tiles. Give window as well, or leave them out."
            raise InputError(msg)

    def asked(self, window: int | None, overlap: int | None, margin: int | None) -> InTiles:
        """These tiles with other values where some are given; another window has an overlap and a margin of its own.

        Raises:
            InputError: they do not fit one another.
        """
        own = self if window is None else InTiles(window)
        overlap = own.overlap if overlap is None else overlap
        return InTiles(own.window, overlap, own.margin if margin is None else margin)

    def tiling(self, size_hw: tuple[int, int], side: int | None = None, cell: int = 1) -> Tiling | None:
        """The tiles of a picture; None where it is computed whole.

        Args:
            size_hw: height and width of the picture in pixels.
            side: of the canvas, on which a tile is laid; None is that of the tile.
            cell: pixels of the canvas from one cell of the finest map to the next. Where that is a whole number of
                the picture's pixels, tiles begin at multiples of it, so that cells and anchors lie where they do in the
                whole picture.

        Raises:
            InputError: window, overlap or margin do not fit one another.
        """
        if self.window is None:
            return None
        overlap = self.window // 4 if self.overlap is None else self.overlap
        margin = overlap // 4 if self.margin is None else self.margin
        step, rest = divmod(cell * self.window, self.window if side is None else side)
        fits = rest == 0 and overlap <= self.window - step and 2 * step <= self.window
        return Tiling(size_hw, self.window, overlap, margin, step if fits else 1)
