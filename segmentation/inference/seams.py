"""Blending of tiles with only their seams in memory, for images in memory and rasters on disk alike."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from engine.large.tiling import Axis, Tile, Tiling


class Seams:
    """Sums of weighted tiles that further tiles add to; what no further tile touches is returned.

    Memory: what two rows of tiles share over the whole width, and two tiles; margins, which add nothing, are left out.

    Args:
        tiling: the tiles, which must be added in its order.
        count: number of classes.
        device: where the sums are held.
    """

    def __init__(self, tiling: Tiling, count: int, device: torch.device) -> None:
        self._sides = tuple(_Side(axis, device) for axis in (tiling.vertical, tiling.horizontal))
        spans = self._sides[0].spans
        deepest = max((above.stop - below.start for above, below in pairwise(spans)), default=0)
        self._below = torch.zeros(count, deepest, tiling.size_hw[1], device=device)
        self._right = torch.zeros(count, 0, 0, device=device)

    def add(self, tile: Tile, found: Tensor | None) -> tuple[Tensor, slice, slice]:
        """Add a tile.

        Args:
            tile: the next of the tiling.
            found: (K, h, w) probabilities, which this overwrites; None for a tile without data.

        Returns:
            (K, h', w') finished probabilities, and the rows and columns of the raster where they lie, inside the tile.
        """
        vertical, horizontal = self._sides
        row, column = tile.row, tile.column
        rows, columns = vertical.spans[row], horizontal.spans[column]
        if found is None:
            size_hw = (rows.stop - rows.start, columns.stop - columns.start)
            found = self._below.new_zeros(len(self._below), *size_hw)
        else:
            found = found[:, within(rows, tile.rows), within(columns, tile.columns)]
            found *= vertical.weights[row][:, None] * horizontal.weights[column]
        if column > 0:
            found[:, :, : self._right.shape[2]] += self._right
        columns = slice(columns.start, horizontal.ends[column])
        width = columns.stop - columns.start
        self._right = found[:, :, width:].clone()
        found = found[:, :, :width]
        if row > 0:
            shared = vertical.spans[row - 1].stop - rows.start
            found[:, :shared] += self._below[:, :shared, columns]
        rows = slice(rows.start, vertical.ends[row])
        height = rows.stop - rows.start
        self._below[:, : found.shape[1] - height, columns] = found[:, height:]
        return found[:, :height], rows, columns


class _Side:
    """Tiles along one side without the margins.

    Attributes:
        spans: the pixels of each tile that have weight.
        ends: for each tile, the pixel up to which no later tile adds anything.
        weights: the weights of those pixels.
    """

    def __init__(self, axis: Axis, device: torch.device) -> None:
        self.spans = [
            slice(span.start + axis.margin * (span.start > 0), span.stop - axis.margin * (span.stop < axis.length))
            for span in axis.spans
        ]
        self.ends = [*(span.start for span in self.spans[1:]), axis.length]
        self.weights = [
            torch.from_numpy(weights[within(counted, span)]).to(device)
            for counted, span, weights in zip(self.spans, axis.spans, axis.weights, strict=True)
        ]


def within(part: slice, whole: slice) -> slice:
    """A slice of an image as one of a part of the image, `whole`."""
    return slice(part.start - whole.start, part.stop - whole.start)
