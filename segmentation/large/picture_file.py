"""Pictures whose pixels are wanted window by window."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from engine.reading.gdal import driver_of
from engine.reading.images import UInt8Array, image_size, is_turned, resize
from engine.reading.kinds import is_deep, is_raster
from engine.reading.options import Reading
from engine.reading.raster_file import Georeference, Pixels, PixelSource, RasterFile
from engine.reading.reader import PixelReader

# Of JPEG, GDAL gives other pixels than Pillow, by which networks are trained: it scales the colours up in another way.
_AS_PILLOW = frozenset(("GTiff", "JP2OpenJPEG", "PNG"))


class PictureFile:
    """A picture that is decoded whole, upright: three bytes for each pixel.

    Args:
        path: the file.
        reading: its value range counts for 16-bit pictures.

    Raises:
        InputError: the file cannot be read, or has more pixels than a picture may have.
    """

    georeference = Georeference()

    def __init__(self, path: Path, reading: Reading) -> None:
        self.path = path
        self.size_hw: tuple[int, int] = image_size(path)
        self._read = PixelReader(reading)
        self._image: UInt8Array | None = None
        self._decoding = Lock()

    def read(self, rows: slice, columns: slice) -> Pixels:
        """The pixels of a window that lies inside."""
        return Pixels(self._whole()[rows, columns], None)

    def picture(self, size_hw: tuple[int, int]) -> UInt8Array:
        """The whole scaled down, (h, w, 3) uint8 RGB."""
        return resize(self._whole(), size_hw)

    def close(self) -> None:
        """Free the pixels."""
        self._image = None

    def _whole(self) -> UInt8Array:
        with self._decoding:
            if self._image is None:
                self._image = self._read(self.path)
            return self._image


def open_windows(path: str | Path, reading: Reading) -> PixelSource:
    """A raster, or a picture that is decoded piece by piece if GDAL gives the pixels that Pillow gives.

    Raises:
        InputError: see `RasterFile` and `PictureFile`.
    """
    path = Path(path)
    if not path.is_file() or is_raster(path):
        return RasterFile(path, reading)
    if driver_of(path) in _AS_PILLOW and not is_turned(path) and not is_deep(path):
        return RasterFile(path)
    return PictureFile(path, reading)
