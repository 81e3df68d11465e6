"""The contents of a report as files in a folder: a picture of each chart, matrix and gallery, a CSV of each table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from engine.analysis.figures import draw_chart, draw_matrix
from engine.analysis.sheets import draw_sheet
from engine.logging.loggers import file_stem
from engine.outputs import atomic_path, write_text
from engine.reading.images import UInt8Array
from engine.reports.contents import Chart, Gallery, ImageCard, Matrix, Report, Section, Table

_SHEET_CARDS, _SHEET_COLUMNS = 16, 4
_PHOTO_QUALITY = 88


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture with its name.

    Attributes:
        name: name of its file, without the suffix.
        image: (h, w, 3) RGB.
        photo: whether it is made of photographs, for which JPEG is a tenth of PNG.
    """

    name: str
    image: UInt8Array
    photo: bool


def pictures_of(report: Report) -> Iterator[Picture]:
    """A picture of each chart that has a curve, of each matrix and of each gallery."""
    classes = report.classes
    for section in report.sections:
        for part in section.parts:
            if isinstance(part, Chart) and part.series:
                yield Picture(file_stem(part.title), draw_chart(part, classes), photo=False)
            elif isinstance(part, Matrix):
                yield Picture(file_stem(part.title), draw_matrix(part), photo=False)
            elif isinstance(part, Gallery) and part.cards:
                cards = [_cut(card, report.score_threshold) for card in part.cards[:_SHEET_CARDS]]
                sheet = draw_sheet(cards, classes, _SHEET_COLUMNS // 2, beside=True)
                yield Picture(file_stem(part.title), sheet, photo=True)


def _cut(card: ImageCard, least: float) -> ImageCard:
    """The card without the boxes below a score."""
    return replace(card, boxes=tuple(box for box in card.boxes if box.score is None or box.score >= least))


def batch_picture(report: Report, name: str) -> Picture | None:
    """The images of a training batch with their labels; None without any."""
    galleries = (part for section in report.sections for part in section.parts if isinstance(part, Gallery))
    cards = [card for gallery in galleries for card in gallery.cards][:_SHEET_CARDS]
    if not cards:
        return None
    return Picture(name, draw_sheet(cards, report.classes, _SHEET_COLUMNS, beside=False), photo=True)


def write_picture(picture: Picture, folder: Path) -> Path:
    """Write a picture as PNG, or one of photographs as JPEG.

    Raises:
        OutputError: the folder cannot be written.
    """
    path = folder / f"{picture.name}{'.jpg' if picture.photo else '.png'}"
    with atomic_path(path) as temporary:
        Image.fromarray(picture.image).save(temporary, quality=_PHOTO_QUALITY)
    return path


def write_tables(sections: tuple[Section, ...], folder: Path) -> None:
    """Write each table as CSV.

    Raises:
        OutputError: the folder cannot be written.
    """
    for section in sections:
        for part in section.parts:
            if isinstance(part, Table) and part.rows:
                text = io.StringIO()
                writer = csv.writer(text, lineterminator="\n")
                writer.writerow([column.name for column in part.columns])
                writer.writerows(part.rows)
                write_text(folder / f"{file_stem(part.title)}.csv", text.getvalue())
