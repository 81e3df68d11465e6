"""The boxes of a picture of any size, computed tile by tile from windows that are read ahead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from detection.network.postprocess import Postprocess
from detection.tiles.seams import TileBoxes, merged
from engine.large.reading import bounded_cache, groups, read_ahead
from engine.large.tiling import Tile, Tiling
from engine.reading.images import UInt8Array
from engine.reading.raster_file import PixelSource
from engine.reading.reader import filled


def boxes_in_tiles(
    find: Callable[[Sequence[UInt8Array]], Sequence[TileBoxes]],
    pixels: PixelSource,
    tiling: Tiling,
    postprocess: Postprocess,
    *,
    batch: int,
    fill_color: tuple[int, int, int],
    workers: int = 2,
    on_tiles: Callable[[int], object] = lambda count: None,
) -> TileBoxes:
    """The boxes of a picture, highest score first; of its pixels only a few tiles are in memory at a time.

    Args:
        find: the boxes of (h, w, 3) uint8 RGB tiles, in pixels of each tile.
        pixels: the picture.
        tiling: its tiles.
        postprocess: the detector's suppression, whose threshold of overlap counts across tiles too.
        batch: tiles that are computed together.
        fill_color: the colour of pixels without data. A tile without any data is not computed.
        workers: threads that read ahead of the network.
        on_tiles: called with the number of tiles computed since its last call.

    Raises:
        InputError: the file is damaged.
    """
    found: list[TileBoxes] = []
    with (
        bounded_cache(pixels, tiling.window, workers),
        closing(read_ahead(pixels, tiling, workers, batch + workers)) as parts,
    ):
        for group in groups(parts, batch):
            there = [part.valid is None or bool(part.valid.any()) for _, part in group]
            images = [filled(part, fill_color) for (_, part), any_data in zip(group, there, strict=True) if any_data]
            answers = iter(find(images) if images else ())
            for (tile, _), any_data in zip(group, there, strict=True):
                found.append(in_picture(next(answers), tile) if any_data else TileBoxes.none())
            on_tiles(len(group))
    return merged(found, tiling, postprocess.iou_threshold, class_agnostic=postprocess.class_agnostic)


def in_picture(found: TileBoxes, tile: Tile) -> TileBoxes:
    """Boxes in pixels of a tile as boxes in pixels of the picture."""
    corner = np.array([tile.columns.start, tile.rows.start] * 2, np.float64)
    return TileBoxes(found.boxes_xyxy + corner, found.scores, found.class_ids)
