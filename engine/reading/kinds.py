"""What kind of pixels a file has, told by its first bytes and not by its suffix: a picture's, or a raster's."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from engine.reading.gdal import driver_of
from engine.reading.images import open_picture
from engine.reading.options import Reading

# GeoTIFF 1.1 (OGC 19-008r4), 7.1: the pixels' size, tie points, transformation, and the key directory.
_GEO_TAGS = frozenset((33550, 33922, 34264, 34735))
# TIFF 6.0: BitsPerSample, PhotometricInterpretation and its value for inks, SamplesPerPixel, SampleFormat.
_BITS, _PHOTOMETRIC, _INKS, _SAMPLES, _FORMAT = 258, 262, 5, 277, 339
_UNSIGNED = 1
_GEO_BOX = bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03")  # GeoJP2's uuid box
_GML = b"gml.data"  # GMLJP2's association box (OGC 08-085)
_MOST_BOXES = 1000
_RASTER_SUFFIXES = frozenset((".img", ".jp2", ".tif", ".tiff", ".vrt"))


def is_raster(path: Path) -> bool:
    """Whether GDAL reads a file: it has a place on the ground, values of more than 8 bits, or other bands than colours.

    Other TIFF and JPEG 2000 files, and those of all other formats, are pictures.

    Raises:
        UnreadableError: the file cannot be opened.
    """
    driver = driver_of(path)
    if driver == "GTiff":
        return _is_raster_tiff(path)
    if driver == "JP2OpenJPEG":
        return _is_raster_jp2(path)
    if driver is None and path.suffix.lower() in _RASTER_SUFFIXES:
        return not _is_picture(path)  # then the reader of rasters says what is wrong with the file
    return driver == "HFA"


def is_deep(path: Path) -> bool:
    """Whether a picture has 16 bits."""
    with path.open("rb") as file:
        start = file.read(26)
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return start[24:25] == b"\x10"
    try:
        with open_picture(path) as image:
            return image.mode.startswith("I")
    except Exception:
        return False  # the code that reads the picture says what is wrong with it


def unused_options(path: Path, reading: Reading) -> list[str]:
    """The names of the options that do not apply to a file: pictures have no bands and no pixels without data.

    Args:
        path: the file.
        reading: the options.
    """
    given = list(reading.given())
    if not given or is_raster(path):
        return []
    return [name for name in given if name != "value_range" or not is_deep(path)]


def _is_raster_tiff(path: Path) -> bool:
    try:
        with open_picture(path) as image:
            tags = getattr(image, "tag_v2", {})
    except (Image.DecompressionBombError, UnidentifiedImageError):
        return True  # a form of TIFF that only GDAL knows
    except Exception:
        return False
    bits, formats, samples = (
        _numbers(tags.get(tag, usual)) for tag, usual in ((_BITS, 1), (_FORMAT, 1), (_SAMPLES, 1))
    )
    colours = samples[0] in (1, 3) or (samples[0] == 4 and tags.get(_PHOTOMETRIC) == _INKS)
    plain = max(bits) <= 8 and set(formats) == {_UNSIGNED} and colours
    return not plain or not _GEO_TAGS.isdisjoint(tags)


def _is_picture(path: Path) -> bool:
    try:
        with open_picture(path):
            return True
    except Exception:
        return False


def _numbers(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _is_raster_jp2(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(4) == b"\xff\x4f\xff\x51":  # a bare codestream, which begins with SIZ (ISO 15444-1, A.5.1)
            head = file.read(40)
            return len(head) == 40 and not _plain_jp2(int.from_bytes(head[36:38], "big"), head[38])
        file.seek(0)
        for name, content in _boxes(file):
            if name == b"jp2h":  # its first box is ihdr: height, width, components, bits less one (I.5.3.1)
                count, bits = int.from_bytes(content[16:18], "big"), content[18]
                if not _plain_jp2(count, bits):
                    return True
            if (name == b"uuid" and content.startswith(_GEO_BOX)) or (name == b"asoc" and _GML in content):
                return True
    return False


def _plain_jp2(components: int, bits_less_one: int) -> bool:
    return components in (1, 3) and bits_less_one <= 7  # the highest bit marks signed values


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The boxes before the codestream, each with its first bytes (ISO 15444-1, I.4)."""
    for _ in range(_MOST_BOXES):
        head = file.read(8)
        if len(head) < 8:
            return
        length, name = struct.unpack(">I4s", head)
        if name == b"jp2c" or length < 8:
            return
        content = file.read(min(length - 8, 64))
        file.seek(length - 8 - len(content), 1)
        yield name, content
