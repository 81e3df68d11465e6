"""What `--source` may name: images, videos, rasters and slides, and where the results of each go."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, UnidentifiedImageError

from engine.data.images import IMAGE_SUFFIXES, find_files
from engine.errors import InputError
from segmentation.large.slides import SLIDE_SUFFIXES

VIDEO_SUFFIXES = frozenset((".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"))
RASTER_SUFFIXES = frozenset((".vrt",))
SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES | RASTER_SUFFIXES | SLIDE_SUFFIXES
JOURNAL_NAME = "finished.jsonl"  # marks a folder as one that `predict` wrote
LARGEST_IMAGE = 64_000_000  # pixels; larger TIFF and JPEG 2000 files are read in windows

Kind = Literal["image", "video", "raster"]
_MAY_BE_RASTERS = frozenset((".jp2", ".tif", ".tiff"))
# GeoTIFF 1.1 (OGC 19-008r4), 7.1: the pixels' size, tie points, transformation, and the key directory.
_GEO_TAGS = frozenset((33550, 33922, 34264, 34735))


@dataclass(frozen=True)
class SourceFile:
    """One file to segment.

    Attributes:
        path: where it lies.
        kind: how it is read: images whole, videos by frames, rasters and slides by windows.
    """

    path: Path
    kind: Kind


def find_sources(source: str | Path | Sequence[str | Path]) -> list[SourceFile]:
    """The files that a path, a folder, a glob pattern or a list of these names, each once.

    Folders are searched to any depth, hidden entries and folders that `predict` wrote apart; folders and patterns
    give their files in sorted order. A file named outright is taken whatever its suffix.

    Raises:
        InputError: a path does not exist, a folder holds no such file, or a pattern matches none.
    """
    listed = f"{', '.join(sorted(IMAGE_SUFFIXES))}, or videos, rasters or slides"
    paths: dict[str, Path] = {}
    for path in find_files(
        source, SUFFIXES, "image to segment", listed, lambda folder: (folder / JOURNAL_NAME).exists()
    ):
        paths.setdefault(os.path.abspath(path), path)
    return [SourceFile(path, kind_of(path)) for path in paths.values()]


def kind_of(path: Path) -> Kind:
    """How a file is read: by its suffix; a TIFF or JPEG 2000 file by its header.

    A raster is one with a georeference, with more than 64 million pixels, or of a kind that Pillow does not read.
    """
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix in SLIDE_SUFFIXES or suffix in RASTER_SUFFIXES:
        return "raster"
    return "raster" if suffix in _MAY_BE_RASTERS and _is_raster(path) else "image"


def _is_raster(path: Path) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's of large images, which is what is looked for
            with Image.open(path) as image:
                georeferenced = not _GEO_TAGS.isdisjoint(getattr(image, "tag_v2", ()))
                return georeferenced or image.width * image.height > LARGEST_IMAGE
    except (Image.DecompressionBombError, UnidentifiedImageError):
        return True
    except Exception:
        return False  # whoever reads the image says what is wrong with it


def outputs_of(kind: Kind, name: Path, *, overlay: bool = True, probabilities: bool = False) -> list[Path]:
    """The files that one source leaves, below the output folder.

    Args:
        kind: of the source.
        name: of the results, without a suffix.
        overlay: whether the picture for people is written.
        probabilities: whether these are kept.
    """
    endings = {
        "image": (".png", "_overlay.jpg", "_probabilities.npz"),
        "video": ("_areas.csv", "_overlay.mp4", None),
        "raster": (".tif", "_overview.jpg", "_probabilities.tif"),
    }[kind]
    wanted = zip(endings, (True, overlay, probabilities), strict=True)
    return [name.with_name(name.name + ending) for ending, asked in wanted if asked and ending]


def output_names(sources: Sequence[SourceFile]) -> list[Path]:
    """Where the results of each source go: the sources' own tree, without suffixes; none clashes with another."""
    # Not Path.absolute, which keeps the ".." of "../photos" and with it would lead out of the output folder.
    places = [Path(os.path.abspath(source.path)) for source in sources]
    common = Path(os.path.commonpath([place.parent for place in places])) if places else Path()
    names: list[Path] = []
    taken: set[Path] = set()
    for place, source in zip(places, sources, strict=True):
        first = place.relative_to(common)
        name, number = first.with_name(first.stem), 0
        while taken & (files := set(outputs_of(source.kind, name, probabilities=True))):  # a.bmp beside a.png
            name = first.with_name(f"{first.stem}_{first.suffix[1:]}{number or ''}")
            number += 1
        taken |= files
        names.append(name)
    return names


def refuse_overwriting(folder: Path, outputs: Sequence[Sequence[Path]], sources: Sequence[SourceFile]) -> None:
    """Do nothing if no result would take the place of a source.

    Raises:
        InputError: one would.
    """
    originals = {source.path.resolve() for source in sources}
    for path in (folder / path for paths in outputs for path in paths):
        if path.resolve() in originals:
            msg = f"--output '{folder}' would write over the source '{path}'. Give another folder."
            raise InputError(msg)
