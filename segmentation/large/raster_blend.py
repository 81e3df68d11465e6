"""Tiles of a raster computed one after another and blended, with only their seams in memory.

The tiles and their weights are those of images in memory (`segmentation.inference.tiles`), and so are the results.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.reading.images import UInt8Array
from engine.reading.raster_file import Pixels, PixelSource
from engine.reading.reader import filled
from segmentation.data.classes import IGNORED
from segmentation.inference.predictor import SegmentationPredictor
from segmentation.inference.tiles import Axis, Tile, Tiling


class Strip(NamedTuple):
    """Finished rows of a raster.

    Attributes:
        class_ids: (h, W) uint8 rows of the class list; 255 where there is no data.
        probabilities: (K, h, W) uint8, 255 means 1; None if they are not kept.
    """

    class_ids: UInt8Array
    probabilities: UInt8Array | None


def blended_rows(
    predictor: SegmentationPredictor,
    pixels: PixelSource,
    tiling: Tiling,
    *,
    keep: bool = False,
    workers: int = 2,
    on_tiles: Callable[[int], object] = lambda count: None,
) -> Generator[Strip, None, None]:
    """Finished rows from top to bottom, at each time as many as one step of the tiles.

    Args:
        predictor: how a tile is computed, apart from its window; the network is in eval mode.
        pixels: what is segmented.
        tiling: its tiles.
        keep: whether to keep probabilities.
        workers: threads that read ahead of the network.
        on_tiles: called with the number of tiles computed since its last call.
    """
    device, config = predictor.device, predictor.inference
    count = 1 if device.type == "cpu" else config.batch
    whole = predictor.with_inference(replace(config, window=None, overlap=None, margin=None))
    seams = Seams(tiling, len(predictor.classes), device)
    class_ids: UInt8Array = np.empty((0, 0), dtype=np.uint8)
    kept: UInt8Array | None = None
    with closing(_read_ahead(pixels, tiling, workers, count + workers)) as parts:
        for group in _groups(parts, count):
            found = _computed(whole, [part for _, part in group])
            on_tiles(len(group))
            for (tile, part), one in zip(group, found, strict=True):
                final, rows, columns = seams.add(tile, one)
                if tile.column == 0:
                    size_hw = (rows.stop - rows.start, tiling.size_hw[1])
                    class_ids = np.empty(size_hw, dtype=np.uint8)
                    kept = np.empty((len(final), *size_hw), dtype=np.uint8) if keep else None
                chosen = final.argmax(0).to(torch.uint8).cpu().numpy()
                if part.valid is not None:
                    chosen[~part.valid[_within(rows, tile.rows), _within(columns, tile.columns)]] = IGNORED
                class_ids[:, columns] = chosen
                if kept is not None:
                    stored = (final * 255).round_().to(torch.uint8).cpu().numpy()
                    kept[:, :, columns] = np.where(chosen == IGNORED, np.uint8(0), stored)
                if columns.stop == tiling.size_hw[1]:
                    strip = Strip(class_ids, kept)
                    del class_ids, kept  # the next rows are computed after the caller has used these
                    yield strip
                    del strip


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
            found = found[:, _within(rows, tile.rows), _within(columns, tile.columns)]
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
            torch.from_numpy(weights[_within(counted, span)]).to(device)
            for counted, span, weights in zip(self.spans, axis.spans, axis.weights, strict=True)
        ]


def _within(part: slice, whole: slice) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)


def _read_ahead(
    pixels: PixelSource, tiling: Tiling, workers: int, depth: int
) -> Generator[tuple[Tile, Pixels], None, None]:
    waiting: deque[tuple[Tile, Future[Pixels]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for tile in tiling:
                waiting.append((tile, pool.submit(pixels.read, tile.rows, tile.columns)))
                if len(waiting) > depth:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def _groups(parts: Iterator[tuple[Tile, Pixels]], count: int) -> Iterator[list[tuple[Tile, Pixels]]]:
    """Groups of neighbours of one size, at most `count` in each."""
    group: list[tuple[Tile, Pixels]] = []
    for tile, part in parts:
        if group and (len(group) == count or group[0][0].size_hw != tile.size_hw):
            yield group
            group = []
        group.append((tile, part))
    if group:
        yield group


def _computed(predictor: SegmentationPredictor, parts: Sequence[Pixels]) -> list[Tensor | None]:
    """(K, h, w) probabilities of each part; None for parts without data, which are not computed."""
    there = [part.valid is None or bool(part.valid.any()) for part in parts]
    images = [filled(part, predictor.fill_color) for part, any_data in zip(parts, there, strict=True) if any_data]
    if not images:
        return [None] * len(parts)
    batch = torch.stack([torch.from_numpy(image) for image in images]).permute(0, 3, 1, 2)
    found = iter(predictor.probabilities(batch))
    return [next(found) if any_data else None for any_data in there]
