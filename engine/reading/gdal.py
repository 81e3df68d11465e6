"""The parts of rasterio that are used, as types, which it lacks: the module, and files as far as they are read."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from engine.errors import InputError, UnreadableError

Values = npt.NDArray[np.float64]  # in fact of any number type; the code works for all of them


class Crs(Protocol):
    """A coordinate reference system."""

    is_projected: bool
    linear_units_factor: tuple[str, float]

    def to_epsg(self) -> int | None:
        """Its number in the EPSG list."""


class Transform(Protocol):
    """Pixel to ground: x = a * column + b * row + c, y = d * column + e * row + f, from the edges of pixels."""

    is_identity: bool
    determinant: float
    a: float
    b: float
    c: float
    d: float
    e: float
    f: float


Gcps = tuple[Sequence[object], object]  # ground control points, and their reference system


class Interleaving(Protocol):
    """How bands lie in a file."""

    value: str


class Dataset(Protocol):
    """A file that GDAL has opened."""

    height: int
    width: int
    count: int
    crs: Crs | None
    transform: Transform
    gcps: Gcps
    rpcs: object
    dtypes: Sequence[str]
    block_shapes: Sequence[tuple[int, int]]
    colorinterp: Sequence[object]
    mask_flag_enums: Sequence[Sequence[object]]
    interleaving: Interleaving | None
    scales: Sequence[float]
    files: Sequence[str]

    def read(self, indexes: object, *, out_shape: object = ..., **options: object) -> Values:
        """The values of some bands, or of one."""

    def read_masks(self, indexes: object, *, out_shape: object = ..., **options: object) -> npt.NDArray[np.uint8]:
        """Where bands have data."""

    def colormap(self, band: int) -> Mapping[int, Sequence[int]]:
        """RGBA by value."""

    def overviews(self, band: int) -> Sequence[int]:
        """The factors by which the smaller copies are reduced."""

    def build_overviews(self, factors: Sequence[int], resampling: object) -> None:
        """Add smaller copies."""

    def get_tag_item(self, name: str, namespace: str, *, bidx: int, **options: int) -> str | None:
        """A tag of a band."""

    def write(self, values: npt.NDArray[np.uint8], *, window: object) -> None:
        """Write a window of all bands."""

    def write_colormap(self, band: int, colors: Mapping[int, Sequence[int]]) -> None:
        """RGBA by value."""

    def update_tags(self, **tags: str) -> None:
        """Add tags."""

    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


# The first bytes of the files that are opened, and GDAL's driver for each. Others read what a file names: VRT, WMS and
# netCDF lead to other files and to addresses.
_DRIVERS = (
    (b"II*\0", "GTiff"), (b"MM\0*", "GTiff"), (b"II+\0", "GTiff"), (b"MM\0+", "GTiff"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JP2OpenJPEG"), (b"\xff\x4f\xff\x51", "JP2OpenJPEG"),
    (b"EHFA_HEADER_TAG", "HFA"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"\xff\xd8\xff", "JPEG"),
)  # fmt: skip
# No .aux.xml beside a raster is read, and no address is asked.
ALONE = {
    "GDAL_PAM_ENABLED": "NO",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
}


def driver_of(path: Path) -> str | None:
    """GDAL's driver for a raster by its first bytes, whatever its suffix; None if no driver is allowed for it.

    Raises:
        UnreadableError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        msg = f"cannot read raster '{path}': {error.strerror}. Check the path and its rights."
        raise UnreadableError(msg) from error
    return next((driver for magic, driver in _DRIVERS if start.startswith(magic)), None)


def has_rasterio() -> bool:
    """Whether rasterio is installed."""
    return importlib.util.find_spec("rasterio") is not None


def import_rasterio() -> ModuleType:
    """The module rasterio.

    Raises:
        InputError: it is not installed.
    """
    try:
        import rasterio
        import rasterio.enums
        import rasterio.warp
        import rasterio.windows
    except ImportError as error:
        msg = "rasters and slides need rasterio. Run: pip install 'effdense[geo]'"
        raise InputError(msg) from error
    module: ModuleType = rasterio
    return module


WORLD_FILES = frozenset((".tfw", ".tifw", ".tiffw", ".wld", ".jgw", ".jpgw", ".pgw", ".pngw", ".j2w", ".jp2w", ".prj"))


# A raster then has no files beside it, not even a world file.
EMPTY_FOLDER = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}


def companions(path: Path) -> list[str]:
    """The files beside a raster that GDAL would open with any driver: its smaller copies and its mask."""
    names = (f"{path.name}{end}" for end in (".ovr", ".msk", ".OVR", ".MSK"))
    others = (f"{path.stem}{end}" for end in (".aux", ".rrd", ".AUX", ".RRD"))
    return [name for name in (*names, *others) if (path.parent / name).exists()]
