"""The tiles of a picture with their pixels, read by threads ahead of the network that computes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from engine.large.tiling import Tile, Tiling
from engine.reading.gdal import has_rasterio, import_rasterio
from engine.reading.raster_file import Pixels, PixelSource, RasterFile

_CACHE = 64 << 20  # for what is written, where another library reads


@contextmanager
def bounded_cache(pixels: PixelSource, rows: int, readers: int) -> Iterator[None]:
    """Bound the memory that GDAL keeps decoded blocks in; its own limit is a share of the machine's memory.

    Args:
        pixels: what is read.
        rows: height of a tile.
        readers: threads that read at once.
    """
    if not has_rasterio():  # a picture, which Pillow decodes
        yield
        return
    cache = pixels.cache_bytes(rows, readers) if isinstance(pixels, RasterFile) else _CACHE
    with import_rasterio().Env(GDAL_CACHEMAX=cache):
        yield


def read_ahead(
    pixels: PixelSource, tiling: Tiling, workers: int, depth: int
) -> Generator[tuple[Tile, Pixels], None, None]:
    """The tiles in their order, each with its pixels.

    Args:
        pixels: what is read.
        tiling: its tiles.
        workers: threads that read.
        depth: tiles that are read before they are asked for.

    Raises:
        InputError: the file is damaged.
    """
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


def groups(parts: Iterator[tuple[Tile, Pixels]], count: int) -> Iterator[list[tuple[Tile, Pixels]]]:
    """Groups of neighbours of one size, at most `count` in each."""
    group: list[tuple[Tile, Pixels]] = []
    for tile, part in parts:
        if group and (len(group) == count or group[0][0].size_hw != tile.size_hw):
            yield group
            group = []
        group.append((tile, part))
    if group:
        yield group
