"""The table of the areas of all sources: how many pixels of each class."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import msgspec

from engine.outputs import atomic_path
from engine.prediction.journal import shown_path
from segmentation.data.classes import MaskClasses

AREAS_NAME = "areas.csv"
AREA_COLUMNS = ("image", "class", "label_id", "pixels", "share", "area_m2", "area_mm2")


class AreaEntry(msgspec.Struct, frozen=True):
    """What a journal records about a source that was segmented.

    Attributes:
        source: absolute path.
        pixels: number of pixels of each class, in the order of the class list.
        pixel_area_m2: square metres of a pixel, if a raster states it.
    """

    source: str
    pixels: list[int]
    pixel_area_m2: float | None = None


def area_values(pixels: list[int], pixel_area_m2: float | None = None) -> dict[str, object]:
    """What a journal records about a source: the fields of `AreaEntry` except the source."""
    return {"pixels": pixels, "pixel_area_m2": pixel_area_m2}


def write_areas(path: Path, entries: Iterable[AreaEntry], classes: MaskClasses) -> None:
    """Write a row for each class of each source.

    Args:
        path: of the CSV file.
        entries: one for each source, in the order of the table.
        classes: the class list by whose rows the pixels are counted.

    Raises:
        InputError: the file cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(AREA_COLUMNS)
        for entry in entries:
            total, area, name = max(1, sum(entry.pixels)), entry.pixel_area_m2, shown_path(entry.source)
            for label, label_id, count in zip(classes.names, classes.label_ids, entry.pixels, strict=True):
                areas = ("", "") if area is None else (_shown(count * area), _shown(count * area * 1e6))
                rows.writerow((name, label, label_id, count, f"{count / total:.6f}", *areas))


def _shown(area: float) -> str:
    """Two decimals of what is large, six digits of what is small: a slide has some hundred millionths of a metre²."""
    return f"{area:.2f}" if area >= 1 or area == 0 else f"{area:.6g}"
