"""How a detector is applied to a picture: whole or in tiles, at several scales, mirrored."""

from __future__ import annotations

from dataclasses import dataclass

from engine.checked import Checked
from engine.errors import InputError
from engine.large.tiling import Tiling
from engine.numbers import PositiveInt, TenthToTen


@dataclass(frozen=True)
class Inference(Checked):
    """How a picture is computed.

    Args:
        window: Side in pixels of the tiles in which a picture is computed, each on the canvas; null lays the whole
            picture on it.
        overlap: Pixels that neighbouring tiles share, which should be more than the largest objects have; null is a
            quarter of the window.
        margin: A box that comes closer than this to an inner end of its tile gives way to that of a neighbour in
            which it lies whole; null is a quarter of the overlap.
        scales: Sizes, relative to the canvas, at which a picture or tile is computed; boxes are fused.
        flip: Fuse with the boxes of the mirrored picture.
        batch: Number of tiles that are computed together.

    Raises:
        InputError: a value is out of range.
    """

    window: PositiveInt | None = None
    overlap: int | None = None
    margin: int | None = None
    scales: tuple[TenthToTen, ...] = (1.0,)
    flip: bool = False
    batch: PositiveInt = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scales:
            msg = "scales is []; give at least one, each from 0.1 to 10."
            raise InputError(msg)
        if self.window is not None:
            self.tiling((1, 1))  # checks the values
        elif self.overlap is not None or self.margin is not None:
            msg = "overlap and margin are those of tiles. Give window as well, or leave them out."
            raise InputError(msg)

    @property
    def passes(self) -> int:
        """How often a picture is computed."""
        return len(self.scales) * (2 if self.flip else 1)

    @property
    def is_plain(self) -> bool:
        """Whether a picture is computed once, at the size of the canvas."""
        return self.scales == (1.0,) and not self.flip

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
