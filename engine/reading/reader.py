"""The one reader of training and prediction: a file's pixels as a network sees them, whatever kind it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.errors import InputError
from engine.reading.gdal import driver_of
from engine.reading.images import UInt8Array, opened, read_image, wrong_size
from engine.reading.jpeg import read_jpeg
from engine.reading.kinds import is_deep, is_raster, unused_options
from engine.reading.options import Reading
from engine.reading.raster_file import Pixels, RasterFile

IMAGENET_MEAN_COLOR = (124, 116, 104)  # round(255 * (0.485, 0.456, 0.406))


@dataclass(frozen=True)
class PixelReader:
    """Reads pictures with Pillow and rasters with GDAL. It is sent to the processes of a loader.

    Attributes:
        reading: the bands and values of rasters.
        fill_color: the colour of pixels without data.
        strict: whether an option that does not apply to a file is an error, as where a user gave it for these files.
        training: whether plain JPEG files are decoded in a quicker way, with the same pixels: see `read_jpeg`.
    """

    reading: Reading = Reading()
    fill_color: tuple[int, int, int] = IMAGENET_MEAN_COLOR
    strict: bool = False
    training: bool = False

    def __call__(self, path: str | Path, annotated_hw: tuple[int, int] | None = None) -> UInt8Array:
        """As `pixels`, with the pixels that have no data in `fill_color`."""
        return filled(self.pixels(path, annotated_hw), self.fill_color)

    def pixels(
        self,
        path: str | Path,
        annotated_hw: tuple[int, int] | None = None,
        needed_hw: tuple[int, int] | None = None,
    ) -> Pixels:
        """The whole file.

        Args:
            path: the file.
            annotated_hw: height and width that the annotations state, if they state any; see `read_image`.
            needed_hw: height and width that the picture is to be scaled to, for which training may get a smaller copy:
                see `read_jpeg`.

        Raises:
            InputError: the file cannot be read as asked, or has another size.
        """
        path = Path(path)
        if not path.is_file():
            return Pixels(read_image(path, annotated_hw), None)  # which says what is wrong
        if self.strict:
            refuse_unused(path, self.reading)
        if self.training and (plain := read_jpeg(path, annotated_hw, needed_hw)) is not None:
            return Pixels(plain, None)
        if not self._by_gdal(path):
            return Pixels(read_image(path, annotated_hw, self.reading.value_range), None)
        raster = RasterFile(path, self.reading)
        try:
            if annotated_hw is not None and annotated_hw != raster.size_hw:
                raise wrong_size(path, raster.size_hw, annotated_hw)
            return raster.whole()
        finally:
            raster.close()

    def _by_gdal(self, path: Path) -> bool:
        if is_raster(path):
            return True
        # Pillow reads 16-bit grey with all its bits, but of a 16-bit colour only the upper eight.
        if self.reading.value_range is None or driver_of(path) != "PNG" or not is_deep(path):
            return False
        with opened(path) as image:
            return not image.mode.startswith("I")


def filled(pixels: Pixels, fill_color: tuple[int, int, int]) -> UInt8Array:
    """(h, w, 3) uint8 RGB, with the pixels that have no data in one colour."""
    if pixels.valid is None:
        return pixels.image
    image: UInt8Array = np.where(pixels.valid[..., None], pixels.image, np.array(fill_color, dtype=np.uint8))
    return image


def refuse_unused(path: Path, reading: Reading) -> None:
    """Do nothing if all options apply to a file.

    Raises:
        InputError: one does not.
    """
    names = unused_options(path, reading)
    if names:
        msg = f"{names[0]} is for rasters, but '{path}' is read as a picture. Leave it or the picture out."
        raise InputError(msg)
