"""Rasters of 8 bits written from top to bottom: label maps and probabilities as tiled GeoTIFF."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from types import TracebackType

import numpy as np

from engine.errors import OutputError
from engine.outputs import atomic_path
from engine.reading.gdal import Dataset, import_rasterio
from engine.reading.images import UInt8Array
from engine.reading.raster_file import Georeference, error_reason, open_quietly, raster_errors

BLOCK = 256  # side of a block in written files; at least one row of blocks is written at once


@dataclass
class RasterWriter:
    """A tiled, compressed 8-bit GeoTIFF written from top to bottom; it becomes BigTIFF if it must.

    Use it as a context manager; the file appears at its end, complete, or not at all.

    Attributes:
        path: the file, ending in .tif.
        size_hw: height and width in pixels.
        georeference: that of the source.
        bands: number of bands.
        nodata: value of pixels without data; None has none.
        colors: RGB by value, for a raster of one band.
        tags: what the file says about itself.
        scale: factor that turns a stored value into its meaning.
        pyramid: whether smaller copies for viewers are added, by nearest neighbour.

    Raises:
        OutputError: the file cannot be written, or the disk is full.
    """

    path: Path
    size_hw: tuple[int, int]
    georeference: Georeference
    bands: int = 1
    nodata: int | None = None
    colors: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    scale: float = 1.0
    pyramid: bool = True

    def __enter__(self) -> RasterWriter:
        self._rasterio = import_rasterio()
        self._buffer = np.empty((self.bands, BLOCK, self.size_hw[1]), dtype=np.uint8)
        self._buffered = self._written = 0
        with ExitStack() as stack:
            self._temporary = stack.enter_context(atomic_path(self.path))
            stack.enter_context(self._write_errors())
            self._dataset = self._create()
            stack.callback(self._dataset.close)
            self._stack = stack.pop_all()
        return self

    def append(self, rows: UInt8Array) -> None:
        """Add rows below those already added, (h, W) or (bands, h, W)."""
        rows = rows.reshape(self.bands, -1, self.size_hw[1])
        start, count = 0, rows.shape[1]
        while start < count:
            taken = min(count - start, BLOCK - self._buffered)
            self._buffer[:, self._buffered : self._buffered + taken] = rows[:, start : start + taken]
            self._buffered += taken
            start += taken
            # Only whole blocks are written: a compressed block that is written twice leaves a hole in the file.
            if self._buffered == BLOCK:
                self._flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            if error is None:
                with self._stack.pop_all() as self._stack:
                    self._finish()
        finally:
            handled = self._stack.__exit__(kind, error, trace)
        return handled

    def _finish(self) -> None:
        self._flush()
        assert self._written == self.size_hw[0], "rows are missing"
        with self._write_errors():
            self._dataset.close()
        levels = [2**n for n in range(1, 16) if max(self.size_hw) / 2**n >= BLOCK / 2]
        if self.pyramid and levels:
            nearest = self._rasterio.enums.Resampling.nearest
            with self._write_errors(), open_quietly(self._temporary, "r+") as dataset:
                dataset.build_overviews(levels, nearest)
        self._check_blocks(len(levels) if self.pyramid else 0)

    def _check_blocks(self, levels: int) -> None:
        """Check that every block is in the file: GDAL does not report what it fails to write while it closes a file."""
        length = self._temporary.stat().st_size
        with self._write_errors(), open_quietly(self._temporary) as dataset:
            whole = len(dataset.overviews(1)) == levels
            for level in range(-1, levels if whole else -1):
                height, width = (-(-side // 2 ** (level + 1)) for side in self.size_hw)
                places = [(x, y) for y in range(-(-height // BLOCK)) for x in range(-(-width // BLOCK))]
                options = {} if level < 0 else {"ovr": level}
                for band, (x, y) in product(range(1, self.bands + 1), places):
                    offset, size = (
                        dataset.get_tag_item(f"BLOCK_{what}_{x}_{y}", "TIFF", bidx=band, **options)
                        for what in ("OFFSET", "SIZE")
                    )
                    whole = whole and offset is not None and size is not None and int(offset) + int(size) <= length
        if not whole:
            msg = f"cannot write '{self.path}': it came out incomplete. Free some space or give another folder."
            raise OutputError(msg)

    def _flush(self) -> None:
        if self._buffered:
            window = self._rasterio.windows.Window(0, self._written, self.size_hw[1], self._buffered)
            with self._write_errors():
                self._dataset.write(self._buffer[:, : self._buffered], window=window)
        self._written += self._buffered
        self._buffered = 0

    def _create(self) -> Dataset:
        place = self.georeference
        options: dict[str, object] = {"crs": place.crs, "transform": place.transform, "nodata": self.nodata}
        if self.bands > 1:
            options["interleave"] = "band"
        dataset = open_quietly(
            self._temporary, "w", driver="GTiff", dtype="uint8", count=self.bands, height=self.size_hw[0],
            width=self.size_hw[1], tiled=True, blockxsize=BLOCK, blockysize=BLOCK, compress="deflate",
            bigtiff="IF_SAFER", **{key: value for key, value in options.items() if value is not None},
        )  # fmt: skip
        try:
            if place.transform is None and place.gcps[0]:
                dataset.gcps = place.gcps
            if place.rpcs is not None:
                dataset.rpcs = place.rpcs
            if place.mpp is not None:
                resolution = {f"TIFFTAG_{axis}RESOLUTION": f"{1e4 / place.mpp[axis == 'X']:.6f}" for axis in "XY"}
                dataset.update_tags(**resolution, TIFFTAG_RESOLUTIONUNIT="3")  # 3: per centimetre
            if self.colors:
                dataset.write_colormap(1, {value: (*color, 255) for value, color in self.colors.items()})
            if self.scale != 1:
                dataset.scales = (self.scale,) * self.bands
            dataset.update_tags(**self.tags)
        except BaseException:
            dataset.close()
            raise
        return dataset

    @contextmanager
    def _write_errors(self) -> Iterator[None]:
        try:
            yield
        except self._rasterio.errors.RasterioError as error:
            msg = f"cannot write '{self.path}': {error_reason(error)}. Free some space or give another folder."
            raise OutputError(msg) from error


def read_small(path: Path, size_hw: tuple[int, int]) -> UInt8Array:
    """A written label map scaled down by nearest neighbour, (h, w)."""
    with raster_errors(path), open_quietly(path) as dataset:
        return dataset.read(1, out_shape=size_hw).astype(np.uint8, copy=False)
