"""Overlapping tiles of an image too large to be computed at once, and the weights by which they are blended.

Pure geometry, shared by images in memory and rasters on disk, so that both give the same results. Weights are
separable: a pixel's weight in a tile is that of its row times that of its column.

    tiling = Tiling((height, width), window=1024, overlap=256, margin=64, align=32)
    for tile in tiling:
        total[:, tile.rows, tile.columns] += tiling.weights(tile) * tile_result
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.errors import InputError

# Share of the window that is one standard deviation: MONAI's and nnU-Net's `sigma_scale`.
SIGMA = 0.125


class Tile(NamedTuple):
    """One tile.

    Attributes:
        row: its index in the grid of tiles, from the top.
        column: the same from the left.
        rows: pixels from top to bottom.
        columns: pixels from left to right.
    """

    row: int
    column: int
    rows: slice
    columns: slice

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


@dataclass(frozen=True)
class Axis:
    """Tiles along one side of an image.

    Every tile begins at a multiple of `align`, where a network of that stride has its own grid, and is `window` long;
    only the last, which ends with the image, may be up to `align - 1` pixels shorter. No tile is padded: what lies
    beyond the image's edge would not be what the network sees there when it is given the whole. An image that is no
    longer than the window is one tile.

    Attributes:
        length: pixels of the side.
        window: pixels of a tile.
        overlap: pixels that neighbours share at least; rounding to `align` may add to it.
        margin: pixels at a tile's inner ends that get no weight.
        align: origins are multiples of it.

    Raises:
        InputError: a value is out of range.

    >>> Axis(length=2500, window=1024, overlap=256, margin=64, align=32).origins
    (0, 736, 1504)
    """

    length: int
    window: int
    overlap: int
    margin: int
    align: int = 1

    def __post_init__(self) -> None:
        if self.length < 1 or self.align < 1:
            msg = f"an image side of {self.length} px in steps of {self.align} px; both must be at least 1."
            raise InputError(msg)
        if self.window < 2 * self.align:
            msg = f"window is {self.window} px; it must be at least {2 * self.align}, twice the network's stride."
            raise InputError(msg)
        if not 0 <= self.overlap <= self.window - self.align:
            msg = (
                f"overlap is {self.overlap} px of a window of {self.window} px; allowed are 0 to "
                f"{self.window - self.align}, as tiles begin {self.align} px apart or more."
            )
            raise InputError(msg)
        if not 0 <= self.margin <= self.overlap // 2:
            msg = (
                f"margin is {self.margin} px with an overlap of {self.overlap} px; allowed are 0 to "
                f"{self.overlap // 2}, half of the overlap, as every pixel must count in some tile."
            )
            raise InputError(msg)

    def __len__(self) -> int:
        return len(self.origins)

    @cached_property
    def origins(self) -> tuple[int, ...]:
        """Where the tiles begin: as few as the overlap allows, spread evenly."""
        if self.length <= self.window:
            return (0,)
        step = (self.window - self.overlap) // self.align
        last = -(-(self.length - self.window) // self.align)
        count = -(-last // step)
        # Equal steps of at most `step`, rounded down, are never further apart than `step`.
        return tuple(number * last // count * self.align for number in range(count + 1))

    @cached_property
    def spans(self) -> tuple[slice, ...]:
        """The pixels of each tile."""
        return tuple(slice(origin, min(origin + self.window, self.length)) for origin in self.origins)

    @cached_property
    def weights(self) -> tuple[npt.NDArray[np.float32], ...]:
        """A weight in [0, 1] for each pixel of each tile; at any pixel those of its tiles sum to 1.

        They fall off as a Gaussian around the tile's middle and are 0 within the margin of its ends, except where
        the image itself ends.
        """
        raw = [self._gaussian(span) for span in self.spans]
        total = np.zeros(self.length)
        for span, weight in zip(self.spans, raw, strict=True):
            total[span] += weight
        return tuple((weight / total[span]).astype(np.float32) for span, weight in zip(self.spans, raw, strict=True))

    def _gaussian(self, span: slice) -> npt.NDArray[np.float64]:
        middle = span.start + (self.window - 1) / 2
        distance = (np.arange(span.start, span.stop) - middle) / (SIGMA * self.window)
        weight: npt.NDArray[np.float64] = np.exp(-0.5 * distance**2)
        if span.start > 0:
            weight[: self.margin] = 0
        if span.stop < self.length and self.margin:
            weight[-self.margin :] = 0
        return weight


@dataclass(frozen=True)
class Tiling:
    """Tiles of an image; iterating gives them row by row.

    Attributes:
        size_hw: height and width of the image in pixels.
        window: height and width of a tile in pixels.
        overlap: see `Axis`.
        margin: see `Axis`.
        align: see `Axis`.

    Raises:
        InputError: a value is out of range.
    """

    size_hw: tuple[int, int]
    window: int
    overlap: int
    margin: int
    align: int = 1

    def __post_init__(self) -> None:
        # Building the axes checks the values.
        _ = self.vertical, self.horizontal

    @cached_property
    def vertical(self) -> Axis:
        """From top to bottom."""
        return Axis(self.size_hw[0], self.window, self.overlap, self.margin, self.align)

    @cached_property
    def horizontal(self) -> Axis:
        """From left to right."""
        return Axis(self.size_hw[1], self.window, self.overlap, self.margin, self.align)

    def __len__(self) -> int:
        return len(self.vertical) * len(self.horizontal)

    def __iter__(self) -> Iterator[Tile]:
        for row, rows in enumerate(self.vertical.spans):
            for column, columns in enumerate(self.horizontal.spans):
                yield Tile(row, column, rows, columns)

    def weights(self, tile: Tile) -> npt.NDArray[np.float32]:
        """(h, w) weights of a tile's pixels."""
        return np.outer(self.vertical.weights[tile.row], self.horizontal.weights[tile.column])
