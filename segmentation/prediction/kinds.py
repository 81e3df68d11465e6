"""What `--source` may name for segmentation: images, videos, rasters and slides, and how they are told apart."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

from PIL import Image, UnidentifiedImageError

from engine.data.images import IMAGE_SUFFIXES, open_picture
from engine.prediction.sources import SourceKinds
from segmentation.large.gdal import driver_of
from segmentation.large.slides import SLIDE_SUFFIXES
from segmentation.large.video_files import VIDEO_SUFFIXES, is_video

RASTER_SUFFIXES = frozenset((".img", ".vrt"))  # a VRT is refused when it is opened, with what to do
SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES | RASTER_SUFFIXES | SLIDE_SUFFIXES
LARGEST_IMAGE = 64_000_000  # pixels; larger TIFF and JPEG 2000 files are read in windows

Kind = Literal["image", "video", "raster"]  # images are read whole, videos by frames, rasters and slides by windows
_MAY_BE_RASTERS = frozenset(("GTiff", "JP2OpenJPEG", ".jp2", ".tif", ".tiff"))  # content or suffix
# GeoTIFF 1.1 (OGC 19-008r4), 7.1: the pixels' size, tie points, transformation, and the key directory.
_GEO_TAGS = frozenset((33550, 33922, 34264, 34735))


def kind_of(path: Path) -> Kind:
    """How a file is read: slides by suffix, videos by content or suffix, others by their content.

    A raster is one with a georeference, with more than 64 million pixels, or of a kind that Pillow does not read.
    """
    suffix = path.suffix.lower()
    if is_video(path):
        return "video"
    if suffix in SLIDE_SUFFIXES or suffix in RASTER_SUFFIXES:
        return "raster"
    driver = driver_of(path) if path.is_file() else None
    return (
        "raster"
        if driver == "HFA" or (not _MAY_BE_RASTERS.isdisjoint((driver, suffix)) and _is_raster(path))
        else "image"
    )


def _is_raster(path: Path) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warning about large images, which are what is looked for
            with open_picture(path) as image:
                georeferenced = not _GEO_TAGS.isdisjoint(getattr(image, "tag_v2", ()))
                return georeferenced or image.width * image.height > LARGEST_IMAGE
    except (Image.DecompressionBombError, UnidentifiedImageError):
        return True
    except Exception:
        return False  # the code that reads the image says what is wrong with it


KINDS = SourceKinds(
    suffixes=SUFFIXES,
    kind_of=kind_of,
    what="image to segment",
    listed=f"{', '.join(sorted(IMAGE_SUFFIXES))}, or videos, rasters or slides",
    options="something to segment. Give --source IMAGE, FOLDER, 'GLOB', VIDEO, RASTER or SLIDE.",
)
