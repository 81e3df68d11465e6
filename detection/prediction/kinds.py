"""Which files `python -m detection predict` computes in tiles, and what it writes for each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Literal

from detection.prediction.geojson import has_place
from engine.errors import InputError, UnreadableError
from engine.large.opening import open_raster
from engine.large.slides import SLIDE_SUFFIXES
from engine.prediction.sources import VIDEO, SourceFile, SourceKinds, image_or_video
from engine.reading.images import IMAGE_SUFFIXES
from engine.reading.kinds import is_raster
from engine.reading.options import Reading

LARGEST_DRAWN = 64_000_000  # pixels; of a larger picture a smaller copy is drawn
# In tiles: pictures that are drawn as they are, larger ones and rasters, and rasters that have a place on the ground.
Kind = Literal["tiles", "raster", "map"]

SLIDES = SourceKinds(
    suffixes=IMAGE_SUFFIXES | SLIDE_SUFFIXES,
    kind_of=image_or_video,
    listed=f"{', '.join(sorted(IMAGE_SUFFIXES))}, or slides",
)


def in_tiles(sources: Sequence[SourceFile], reading: Reading, usual: Reading) -> list[SourceFile]:
    """The sources as they are computed with a window: each in tiles.

    All are opened, so that errors show before the hours that prediction may take. Damaged ones among others are no
    error: they are listed at the end.

    Args:
        sources: the files.
        reading: the options of rasters that were asked for.
        usual: how the network's rasters are read otherwise.

    Raises:
        InputError: a raster cannot be read as asked, or no source can be read at all.
    """
    found: list[SourceFile] = []
    unreadable: list[UnreadableError] = []
    for source in sources:
        if source.kind == VIDEO:
            msg = f"window is for pictures and rasters, but '{source.path}' is a video. Leave it or the video out."
            raise InputError(msg)
        try:
            found.append(replace(source, kind=kind_of(source.path, reading, usual)))
        except UnreadableError as error:
            unreadable.append(error)
            found.append(source)  # a worker says what is wrong with it
    if unreadable and len(unreadable) == len(found):
        raise unreadable[0]
    return found


def kind_of(path: Path, reading: Reading, usual: Reading) -> Kind:
    """How a file is computed in tiles.

    Raises:
        InputError: it cannot be read as asked.
    """
    with closing(open_raster(path, reading, usual=usual)) as pixels:
        if has_place(pixels.georeference):
            return "map"
        height, width = pixels.size_hw
        large = height * width > LARGEST_DRAWN
        return "raster" if large or path.suffix.lower() in SLIDE_SUFFIXES or is_raster(path) else "tiles"
