"""Tiles of a raster computed one after another and blended, with only their seams in memory.

The tiles and their weights are those of images in memory (`engine.large.tiling`), and so are the results.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.large.reading import groups, read_ahead
from engine.large.tiling import Tiling
from engine.reading.images import UInt8Array
from engine.reading.raster_file import Pixels, PixelSource
from engine.reading.reader import filled
from segmentation.data.classes import IGNORED
from segmentation.inference.predictor import SegmentationPredictor
from segmentation.inference.seams import Seams, within


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
    with closing(read_ahead(pixels, tiling, workers, count + workers)) as parts:
        for group in groups(parts, count):
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
                    chosen[~part.valid[within(rows, tile.rows), within(columns, tile.columns)]] = IGNORED
                class_ids[:, columns] = chosen
                if kept is not None:
                    stored = (final * 255).round_().to(torch.uint8).cpu().numpy()
                    kept[:, :, columns] = np.where(chosen == IGNORED, np.uint8(0), stored)
                if columns.stop == tiling.size_hw[1]:
                    strip = Strip(class_ids, kept)
                    del class_ids, kept  # the next rows are computed after the caller has used these
                    yield strip
                    del strip


def _computed(predictor: SegmentationPredictor, parts: Sequence[Pixels]) -> list[Tensor | None]:
    """(K, h, w) probabilities of each part; None for parts without data, which are not computed."""
    there = [part.valid is None or bool(part.valid.any()) for part in parts]
    images = [filled(part, predictor.fill_color) for part, any_data in zip(parts, there, strict=True) if any_data]
    if not images:
        return [None] * len(parts)
    batch = torch.stack([torch.from_numpy(image) for image in images]).permute(0, 3, 1, 2)
    found = iter(predictor.probabilities(batch))
    return [next(found) if any_data else None for any_data in there]
