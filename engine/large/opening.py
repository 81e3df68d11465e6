"""Any file whose pixels are wanted window by window: a raster, a picture or a slide."""

from __future__ import annotations

from pathlib import Path

from engine.errors import InputError
from engine.large.picture_file import PictureFile
from engine.large.slides import SLIDE_SUFFIXES, SlideFile
from engine.reading.gdal import driver_of, has_rasterio
from engine.reading.images import is_turned, wrong_size
from engine.reading.kinds import is_deep, is_raster
from engine.reading.options import Reading
from engine.reading.raster_file import PixelSource, RasterFile

# Of JPEG, GDAL gives other pixels than Pillow, by which networks are trained: it scales the colours up in another way.
_AS_PILLOW = frozenset(("GTiff", "JP2OpenJPEG", "PNG"))


def open_windows(
    path: str | Path, reading: Reading = Reading(), annotated_hw: tuple[int, int] | None = None
) -> PixelSource:
    """A raster, or a picture that is decoded piece by piece if GDAL is there and gives the pixels that Pillow gives.

    Args:
        path: the file.
        reading: how rasters are read.
        annotated_hw: height and width that annotations state, if they state any; see `read_image`.

    Raises:
        InputError: see `RasterFile` and `PictureFile`; or the file has another size.
    """
    path = Path(path)
    if not path.is_file() or is_raster(path):
        source = RasterFile(path, reading)
    elif has_rasterio() and driver_of(path) in _AS_PILLOW and not is_turned(path) and not is_deep(path):
        source = RasterFile(path)
    else:
        return PictureFile(path, reading, annotated_hw)
    if annotated_hw is not None and annotated_hw != source.size_hw:
        source.close()
        raise wrong_size(path, source.size_hw, annotated_hw)
    return source


def open_raster(
    source: str | Path, reading: Reading = Reading(), *, mpp: float | None = None, usual: Reading = Reading()
) -> PixelSource:
    """A raster, a picture or, by its suffix or if `mpp` is given, a slide; the caller closes it.

    Args:
        source: the file.
        reading: the options that were asked for, which are for rasters only.
        mpp: micrometres per pixel at which a slide is read.
        usual: how the network's rasters are read otherwise.

    Raises:
        InputError: see `RasterFile` and `SlideFile`; or an option of rasters is given for a slide.
    """
    if mpp is None and Path(source).suffix.lower() not in SLIDE_SUFFIXES:
        whole = reading.over(usual)
        return RasterFile(source, whole) if reading.given() else open_windows(source, whole)
    for name in reading.given():
        msg = f"{name} is for rasters, but '{source}' is read as a slide, which is 8-bit RGB. Leave it out."
        raise InputError(msg)
    return SlideFile(source, mpp)
