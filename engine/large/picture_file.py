"""Pictures whose pixels are wanted window by window."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from engine.reading.images import UInt8Array, image_size, resize
from engine.reading.options import Reading
from engine.reading.raster_file import Georeference, Pixels
from engine.reading.reader import PixelReader


class PictureFile:
    """A picture that is decoded whole, upright: three bytes for each pixel.

    Args:
        path: the file.
        reading: its value range counts for 16-bit pictures.
        annotated_hw: height and width that annotations state, if they state any; see `read_image`.

    Raises:
        InputError: the file cannot be read, or has more pixels than a picture may have.
    """

    georeference = Georeference()

    def __init__(self, path: Path, reading: Reading, annotated_hw: tuple[int, int] | None = None) -> None:
        self.path = path
        self.size_hw: tuple[int, int] = image_size(path) if annotated_hw is None else annotated_hw
        self._annotated_hw = annotated_hw
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
                self._image = self._read(self.path, self._annotated_hw)
            return self._image


class ArrayPixels:
    """A picture that is in memory.

    Args:
        image: (H, W, 3) uint8 RGB.
    """

    georeference = Georeference()

    def __init__(self, image: UInt8Array) -> None:
        self.path = Path("image")
        self.size_hw: tuple[int, int] = (image.shape[0], image.shape[1])
        self._image = image

    def read(self, rows: slice, columns: slice) -> Pixels:
        """The pixels of a window that lies inside."""
        return Pixels(self._image[rows, columns], None)

    def picture(self, size_hw: tuple[int, int]) -> UInt8Array:
        """The whole scaled down, (h, w, 3) uint8 RGB."""
        return resize(self._image, size_hw)

    def close(self) -> None:
        """Nothing is open."""
