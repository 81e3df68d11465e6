"""Whole-slide images by OpenSlide, one window at a time, at the resolution that a network was trained for.

openslide is an extra, imported where it is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from engine.errors import InputError, UnreadableError
from engine.reading.images import UInt8Array
from engine.reading.raster_file import Georeference, Pixels, existing_file

SLIDE_SUFFIXES = frozenset((".bif", ".dcm", ".mrxs", ".ndpi", ".scn", ".svs", ".svslide", ".vms", ".vmu"))
# A resolution up to this much finer than the slide's is reached by enlarging; a finer one is refused.
_LARGEST_GAIN = 1.1
_SUPPORT = 2  # level pixels on either side that the bilinear filter sees, per unit of reduction


class SlideFile:
    """A slide as 8-bit RGB; areas that were not scanned hold no data.

    Args:
        path: the file.
        mpp: micrometres per pixel at which it is read; by default those of the scan, level 0. The image is
            reduced from the next finer level.

    Raises:
        InputError: the file is missing, damaged or not a slide, or the slide does not state its resolution or is
            coarser than `mpp`.
    """

    def __init__(self, path: str | Path, mpp: float | None = None) -> None:
        self.path = existing_file(path)
        self._openslide = _import_openslide()
        with self._errors():
            self._slide = self._openslide.OpenSlide(self.path)
        scan_mpp = self._scan_mpp()
        reduction = 1.0 if mpp is None else self._reduction(mpp, scan_mpp)
        width, height = self._slide.dimensions
        self.size_hw: tuple[int, int] = (max(1, round(height / reduction)), max(1, round(width / reduction)))
        # The levels are sorted from fine to coarse; with a small tolerance, as their ratios are not whole numbers.
        downsamples = self._slide.level_downsamples
        self._level = max(n for n, downsample in enumerate(downsamples) if n == 0 or downsample <= reduction * 1.01)
        level_w, level_h = self._slide.level_dimensions[self._level]
        self._level_hw = (level_h, level_w)
        # Level pixels per pixel that is read, (vertical, horizontal); 1 if the level has the resolution asked for.
        self._ratio = (level_h / self.size_hw[0], level_w / self.size_hw[1])
        own = None if scan_mpp is None else (scan_mpp[0] * reduction, scan_mpp[1] * reduction)
        self.georeference = Georeference(mpp=own)

    def read(self, rows: slice, columns: slice) -> Pixels:
        """The pixels of a window that lies inside.

        Raises:
            InputError: the slide is damaged there.
        """
        size_wh = (columns.stop - columns.start, rows.stop - rows.start)
        if self._ratio == (1.0, 1.0):
            return _pixels(self._region((columns.start, rows.start), size_wh))
        # The part of the level that the window covers, with fractions, and the whole pixels that the filter sees.
        spans = [
            (window.start * ratio, min(window.stop * ratio, length), math.ceil(_SUPPORT * max(ratio, 1)), length)
            for window, ratio, length in zip((columns, rows), self._ratio[::-1], self._level_hw[::-1], strict=True)
        ]
        lows = [max(0, math.floor(start) - support) for start, _, support, _ in spans]
        highs = [min(length, math.ceil(stop) + support) for _, stop, support, length in spans]
        region = self._region((lows[0], lows[1]), (highs[0] - lows[0], highs[1] - lows[1]))
        box = (spans[0][0] - lows[0], spans[1][0] - lows[1], spans[0][1] - lows[0], spans[1][1] - lows[1])
        return _pixels(region.resize(size_wh, Image.Resampling.BILINEAR, box=box))

    def picture(self, size_hw: tuple[int, int]) -> UInt8Array:
        """The whole scaled down, (h, w, 3) uint8 RGB; areas not scanned have the slide's background colour."""
        size_wh = (size_hw[1], size_hw[0])
        with self._errors():
            thumbnail = self._slide.get_thumbnail(size_wh)
        return np.array(thumbnail.convert("RGB").resize(size_wh, Image.Resampling.BILINEAR))

    def close(self) -> None:
        """Close the file."""
        self._slide.close()

    def _region(self, corner_xy: tuple[int, int], size_wh: tuple[int, int]) -> Image.Image:
        """Pixels of the level; OpenSlide needs the corner in pixels of level 0."""
        downsample = self._slide.level_downsamples[self._level]
        corner = (round(corner_xy[0] * downsample), round(corner_xy[1] * downsample))
        with self._errors():
            region: Image.Image = self._slide.read_region(corner, self._level, size_wh)
        return region

    def _scan_mpp(self) -> tuple[float, float] | None:
        names = (self._openslide.PROPERTY_NAME_MPP_Y, self._openslide.PROPERTY_NAME_MPP_X)
        try:
            vertical, horizontal = (float(self._slide.properties[name]) for name in names)
        except (KeyError, ValueError):
            return None
        return (vertical, horizontal) if vertical > 0 and horizontal > 0 else None

    def _reduction(self, mpp: float, scan_mpp: tuple[float, float] | None) -> float:
        if not mpp > 0:
            msg = f"mpp is {mpp:g}; it must be above 0."
        elif scan_mpp is None:
            msg = f"slide '{self.path}' does not state its resolution, so it cannot be read at {mpp:g} micrometres per "
            msg += "pixel. Leave mpp out to read it as it was scanned."
        elif mpp * _LARGEST_GAIN < scan_mpp[1]:
            msg = f"slide '{self.path}' has {scan_mpp[1]:g} micrometres per pixel, coarser than the mpp {mpp:g}. "
            msg += "Give a larger mpp or leave it out."
        else:
            return mpp / scan_mpp[1]
        self.close()
        raise InputError(msg)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._openslide.OpenSlideError as error:
            reason = str(error).rstrip(".")
            msg = f"cannot read slide '{self.path}': {reason}. Repair the file or leave it out."
            raise UnreadableError(msg) from error


def _pixels(region: Image.Image) -> Pixels:
    rgba = np.array(region)
    # Resizing has mixed the edge of the scan with empty pixels; half a pixel of data counts as data.
    valid = rgba[..., 3] >= 128
    return Pixels(np.ascontiguousarray(rgba[..., :3]), None if valid.all() else valid)


def _import_openslide() -> ModuleType:
    try:
        import openslide
    except ImportError as error:
        msg = "whole-slide images need OpenSlide. Run: pip install 'effdense[slides]'"
        raise InputError(msg) from error
    module: ModuleType = openslide
    return module
