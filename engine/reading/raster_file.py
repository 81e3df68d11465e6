"""Rasters on disk, read a window at a time as 8-bit RGB: GeoTIFF, JPEG 2000, ERDAS Imagine, PNG and JPEG.

rasterio is an extra, imported where it is used.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from engine.errors import InputError, UnreadableError
from engine.reading.gdal import (
    ALONE,
    EMPTY_FOLDER,
    WORLD_FILES,
    Crs,
    Dataset,
    Gcps,
    Transform,
    Values,
    companions,
    driver_of,
    import_rasterio,
)
from engine.reading.images import UInt8Array, check_pixels, to_8_bits
from engine.reading.options import Reading

_log = logging.getLogger(__name__)
_WEB_MERCATOR = 3857
_SAMPLE = 256  # pixels per side of the sample whose range an error names


class Pixels(NamedTuple):
    """A part of a raster.

    Attributes:
        image: (h, w, 3) uint8 RGB.
        valid: (h, w) whether a pixel holds data; None if all do.
    """

    image: UInt8Array
    valid: npt.NDArray[np.bool_] | None


@dataclass(frozen=True)
class Georeference:
    """Where a raster lies on the ground, or how large its pixels are; written as it was read.

    Attributes:
        crs: rasterio's coordinate reference system.
        transform: pixel to ground.
        gcps: ground control points and their reference system, for rasters without a transform.
        rpcs: rational polynomial coefficients, likewise.
        mpp: micrometres per pixel of a slide, (vertical, horizontal).
    """

    crs: Crs | None = None
    transform: Transform | None = None
    gcps: Gcps = ((), None)
    rpcs: object = None
    mpp: tuple[float, float] | None = None

    @property
    def pixel_area_m2(self) -> float | None:
        """Square metres of a pixel; None if they are unknown or differ from place to place.

        Projected systems and slides have them. Web Mercator is left out: its metres are true only at the equator.
        """
        if self.mpp is not None:
            return self.mpp[0] * self.mpp[1] * 1e-12
        if self.crs is None or self.transform is None or not self.crs.is_projected:
            return None
        if self.crs.to_epsg() == _WEB_MERCATOR:
            return None
        return float(abs(self.transform.determinant) * self.crs.linear_units_factor[1] ** 2)


class PixelSource(Protocol):
    """A source that is read one window at a time, by several threads at once.

    Attributes:
        path: the file.
        size_hw: height and width in pixels.
        georeference: see `Georeference`.
    """

    path: Path
    size_hw: tuple[int, int]
    georeference: Georeference

    def read(self, rows: slice, columns: slice) -> Pixels:
        """The pixels of a window that lies inside."""

    def picture(self, size_hw: tuple[int, int]) -> UInt8Array:
        """The whole scaled down, (h, w, 3) uint8 RGB."""

    def close(self) -> None:
        """Close the file."""


def preview_size(size_hw: tuple[int, int], longest: int) -> tuple[int, int]:
    """Height and width of the largest picture of the same shape, not enlarged, with no side above `longest`."""
    scale = min(1.0, longest / max(size_hw))
    return max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale))


def existing_file(path: str | Path) -> Path:
    """The path.

    Raises:
        InputError: there is no such file.
    """
    if not Path(path).is_file():
        msg = f"raster '{path}' does not exist. Check the path."
        raise UnreadableError(msg)
    return Path(path)


class RasterFile:
    """A raster that GDAL reads, as 8-bit RGB; of the files beside it only a world file is looked at.

    The colours of a palette are looked up. As in GDAL, a pixel has data if one of its bands has; NaN and infinity are
    never data.

    Args:
        path: the file.
        reading: the bands and values that are read.

    Raises:
        InputError: the file is missing or damaged, a band does not exist, the range is missing or does not fit, or
            values are complex.
    """

    def __init__(self, path: str | Path, reading: Reading = Reading()) -> None:
        self.path = existing_file(path)
        self._rasterio = import_rasterio()
        self._handles = ExitStack()
        self._lock = threading.Lock()
        self._local = threading.local()
        self._value_range = reading.value_range
        self._nodata = reading.nodata
        self._palette: UInt8Array | None = None
        dataset = self._dataset()
        self.size_hw: tuple[int, int] = (dataset.height, dataset.width)
        identity = dataset.transform.is_identity
        self.georeference = Georeference(
            dataset.crs, None if identity else dataset.transform, dataset.gcps, dataset.rpcs
        )
        try:
            self._bands = self._choose_bands(dataset, reading.bands)
            self._check_values(dataset)
        except BaseException:
            self.close()
            raise
        self._stored = sorted(set(self._bands))
        flags = (dataset.mask_flag_enums[band - 1] for band in self._stored)
        all_valid = self._rasterio.enums.MaskFlags.all_valid
        self._masked = self._nodata is None and any(all_valid not in flag for flag in flags)

    def read(self, rows: slice, columns: slice) -> Pixels:
        """The pixels of a window that lies inside.

        Raises:
            InputError: the file is damaged there.
        """
        window = self._rasterio.windows.Window.from_slices(rows, columns)
        return self._read(window=window)

    def whole(self) -> Pixels:
        """All pixels; a raster has at most as many as a picture may have.

        Raises:
            InputError: the file is damaged, or larger.
        """
        check_pixels(self.path, self.size_hw)
        return self._read()

    def picture(self, size_hw: tuple[int, int]) -> UInt8Array:
        """The whole scaled down, (h, w, 3) uint8 RGB; pixels without data are white."""
        kind = self._rasterio.enums.Resampling
        resampling = kind.nearest if self._palette is not None else kind.average
        image, valid = self._read(size_hw, resampling=resampling)
        return image if valid is None else np.where(valid[..., None], image, np.uint8(255))

    def cache_bytes(self, rows: int, readers: int) -> int:
        """Memory that keeps GDAL from decoding a block again for the next tile of a row of tiles.

        Args:
            rows: height of a tile.
            readers: threads that read at once; each has blocks of its own.
        """
        dataset = self._dataset()
        height, _ = dataset.block_shapes[0]
        bytes_each = np.dtype(dataset.dtypes[0]).itemsize * (dataset.count if _by_pixel(dataset) else len(self._stored))
        return int(min(max((rows + height) * self.size_hw[1] * bytes_each * readers, 32 << 20), 512 << 20))

    def close(self) -> None:
        """Close the file in every thread that read it."""
        self._handles.close()

    def _dataset(self) -> Dataset:
        # A GDAL handle must not be used by two threads.
        if not hasattr(self._local, "dataset"):
            with self._lock, raster_errors(self.path):
                self._local.dataset = open_alone(self.path)
                # Not entered as a context, which rasterio wants left in the thread that entered it.
                self._handles.callback(self._local.dataset.close)
        dataset: Dataset = self._local.dataset
        return dataset

    def _choose_bands(self, dataset: Dataset, given: tuple[int, ...] | None) -> tuple[int, ...]:
        if given is not None:
            wrong = [band for band in given if band > dataset.count]
            if wrong:
                msg = f"'{self.path}' has no band {wrong[0]}; give bands from 1 to {dataset.count}."
                raise InputError(msg)
            return given
        if dataset.count == 1 and dataset.dtypes[0] == "uint8":
            self._palette = _palette(dataset)
        interpretation = self._rasterio.enums.ColorInterp
        kinds = list(dataset.colorinterp)
        colors = (interpretation.red, interpretation.green, interpretation.blue)
        if all(color in kinds for color in colors):
            return tuple(kinds.index(color) + 1 for color in colors)
        return (1, 2, 3) if dataset.count >= 3 else (1,)

    def _check_values(self, dataset: Dataset) -> None:
        kinds = {dataset.dtypes[band - 1] for band in self._bands}
        if any("complex" in kind for kind in kinds):
            msg = f"raster '{self.path}' has complex values, which are not a picture. Convert it to magnitudes first."
            raise InputError(msg)
        if self._value_range is None and kinds != {"uint8"}:
            side = (min(_SAMPLE, dataset.height), min(_SAMPLE, dataset.width))
            with raster_errors(self.path):
                sample = dataset.read(self._bands, out_shape=(len(self._bands), *side), masked=True)
            sample = np.ma.masked_invalid(sample)
            seen = f" (a sample of it goes from {sample.min():g} to {sample.max():g})" if sample.count() else ""
            msg = (
                f"raster '{self.path}' has {'/'.join(sorted(kinds))} values{seen}; a network sees 8 bits. "
                "Give --value_range (--data.value_range in training), the values that become 0 and 255, such as "
                "[0,10000]."
            )
            raise InputError(msg)
        if self._value_range is not None and kinds == {"uint8"} and self._value_range[1] > 255:
            msg = (
                f"value_range is {list(self._value_range)}, but raster '{self.path}' has 8 bits, whose values end at "
                "255. Give the range of this raster, such as [0,255]."
            )
            raise InputError(msg)

    def _read(self, out_hw: tuple[int, int] | None = None, **options: object) -> Pixels:
        dataset = self._dataset()
        shape = None if out_hw is None else (len(self._stored), *out_hw)
        with raster_errors(self.path):
            values = dataset.read(self._stored, out_shape=shape, **options)
            masks = [dataset.read_masks(self._stored, out_shape=shape, **options)] if self._masked else []
        valid = [mask.any(0) for mask in masks]
        if self._nodata is not None:
            valid.append((values != self._nodata).any(0))
        if values.dtype.kind == "f":
            valid.append(np.isfinite(values).all(0))
            values = np.nan_to_num(values, copy=False, posinf=0, neginf=0)
        image = self._to_rgb(values)
        return Pixels(image, np.logical_and.reduce(valid) if valid else None)

    def _to_rgb(self, values: Values) -> UInt8Array:
        if self._palette is not None:
            rgb: UInt8Array = self._palette[values[0]]
            return rgb
        scaled = values if self._value_range is None else to_8_bits(values, self._value_range)
        places = [self._stored.index(band) for band in (self._bands * 3 if len(self._bands) == 1 else self._bands)]
        return np.ascontiguousarray(scaled[places].transpose(1, 2, 0), dtype=np.uint8)


def _by_pixel(dataset: Dataset) -> bool:
    return dataset.interleaving is not None and dataset.interleaving.value == "PIXEL"


def _palette(dataset: Dataset) -> UInt8Array | None:
    try:
        colors = dataset.colormap(1)
    except ValueError:
        return None  # what rasterio gives if there is none
    table = np.zeros((256, 3), dtype=np.uint8)
    for value, rgba in colors.items():
        table[value] = rgba[:3]
    return table


@contextmanager
def raster_errors(path: Path) -> Iterator[None]:
    """Turn failures to read into one short message, and keep GDAL to the one file.

    Raises:
        InputError: the raster is damaged, or the file is not a raster.
    """
    rasterio = import_rasterio()
    try:
        # GDAL opens some files only when pixels are read, so its settings must hold then too.
        with rasterio.Env(**ALONE):
            yield
    except rasterio.errors.RasterioError as error:
        msg = f"cannot read raster '{path}': {error_reason(error)}. Repair the file or leave it out."
        raise UnreadableError(msg) from error


def error_reason(error: BaseException) -> str:
    """GDAL's own words; rasterio's say "see previous exception"."""
    return str(error.__cause__ or error).rstrip(".")


def open_alone(path: Path) -> Dataset:
    """A raster of an allowed kind, told by its content; to be called inside `raster_errors`.

    Raises:
        UnreadableError: it is of another kind, or its pixels lie in other files.
    """
    driver = driver_of(path)
    if driver is None:
        msg = (
            f"cannot read raster '{path}': it is no GeoTIFF, JPEG 2000, ERDAS Imagine, PNG or JPEG file by "
            "its content; other kinds, such as VRT, may name files and addresses to read."
            " Convert it: gdal_translate INPUT OUTPUT.tif"
        )
        raise UnreadableError(msg)
    ignored = companions(path)
    if ignored:
        _log.warning("'%s' is read alone: not %s, nor a world file beside it", path, ", ".join(ignored))
    with import_rasterio().Env(**(ALONE | EMPTY_FOLDER if ignored else ALONE)):
        dataset = open_quietly(path, driver=driver)
    found = [name for name in dataset.files[1:] if Path(name).suffix.lower() not in WORLD_FILES]
    if found:
        others = ", ".join(Path(name).name for name in found[:2])
        dataset.close()
        msg = f"raster '{path}' takes pixels from other files ({others}). Convert it: gdal_translate INPUT OUTPUT.tif"
        raise UnreadableError(msg)
    return dataset


def open_quietly(path: Path, mode: str = "r", **options: object) -> Dataset:
    """Open without the warning that a raster has no georeference, which is not an error."""
    rasterio = import_rasterio()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        dataset: Dataset = rasterio.open(path, mode, **options)
        return dataset
