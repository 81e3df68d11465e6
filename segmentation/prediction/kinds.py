"""What `--source` may name for segmentation: images, videos, rasters and slides, and how they are told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from engine.large.slides import SLIDE_SUFFIXES
from engine.prediction.sources import SourceKinds
from engine.reading.gdal import has_rasterio
from engine.reading.images import IMAGE_SUFFIXES, open_picture
from engine.reading.kinds import is_raster
from engine.video.files import VIDEO_SUFFIXES, is_video

RASTER_SUFFIXES = frozenset((".img", ".vrt"))  # a VRT is refused when it is opened, with what to do
SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES | RASTER_SUFFIXES | SLIDE_SUFFIXES
LARGEST_IMAGE = 64_000_000  # pixels; larger pictures are computed in windows

Kind = Literal["image", "video", "raster"]  # images are read whole, videos by frames, rasters and slides by windows


def kind_of(path: Path) -> Kind:
    """How a file is read: slides by suffix, videos by content or suffix, others by their content.

    A raster is what `engine.reading.kinds.is_raster` says, or a picture of more than 64 million pixels.
    """
    suffix = path.suffix.lower()
    if is_video(path):
        return "video"
    if suffix in SLIDE_SUFFIXES:
        return "raster"
    if not path.is_file():
        return "image"
    return "raster" if is_raster(path) or _is_large(path) else "image"


def _is_large(path: Path) -> bool:
    """Whether a picture has too many pixels to be computed whole; what is found is then written as a raster."""
    if not has_rasterio():
        return False
    try:
        with open_picture(path) as image:
            return image.width * image.height > LARGEST_IMAGE
    except Exception:
        return False  # the code that reads the picture says what is wrong with it


KINDS = SourceKinds(
    suffixes=SUFFIXES,
    kind_of=kind_of,
    what="image to segment",
    listed=f"{', '.join(sorted(IMAGE_SUFFIXES))}, or videos, rasters or slides",
    options=(
        "something to segment. Give --source IMAGE, FOLDER, 'GLOB', VIDEO, RASTER, SLIDE, the number of a camera or an "
        "address."
    ),
    streams=True,
)
