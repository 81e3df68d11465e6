"""What `python -m classification predict` leaves in its folder: a table of classes, and pictures with their names."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from classification.data.classes import LabelClasses
from classification.prediction.classified import Classified
from engine.outputs import atomic_path
from engine.prediction.journal import Journal, shown_path
from engine.prediction.results import Results, Values
from engine.prediction.sources import SourceFile
from engine.reading.pixels import Source

TABLE = "classes.csv"
COLUMNS = ("image", "rank", "class", "probability", "found")


class ClassEntry(msgspec.Struct, frozen=True):
    """What a journal records about a source that was classified.

    Attributes:
        source: absolute path.
        class_ids: rows of the most likely classes, the likeliest first.
        probabilities: of these.
        found: whether the class is one of the image's labels.
    """

    source: str
    class_ids: list[int]
    probabilities: list[float]
    found: list[bool]


def write_classes(path: Path, entries: Iterable[ClassEntry], classes: LabelClasses) -> None:
    """Write a row for each of the likely classes of each source.

    Args:
        path: of the CSV file.
        entries: one for each source, in the order of the table.
        classes: the class list.

    Raises:
        InputError: the file cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for entry in entries:
            name = shown_path(entry.source)
            ranked = zip(entry.class_ids, entry.probabilities, entry.found, strict=True)
            for rank, (row, probability, found) in enumerate(ranked, start=1):
                rows.writerow((name, rank, classes.names[row], f"{probability:.6f}", int(found)))


@dataclass(frozen=True)
class ClassificationResults(Results[Classified]):
    """The table of classes, and pictures in the sources' own tree.

    Attributes:
        classes: the class list.
        top: classes of each image that stand in the table.
        pictures: whether pictures for people are written.
    """

    classes: LabelClasses
    top: int = 5
    pictures: bool = True

    @property
    def tables(self) -> list[str]:
        """The classes."""
        return [TABLE]

    def outputs(self, file: SourceFile, name: Path, *, every: bool = False) -> list[Path]:
        """The picture."""
        return [name.with_name(f"{name.name}.jpg")] if self.pictures or every else []

    def write(self, image: Source, paths: Sequence[Path], answer: Classified) -> Values:
        """Write an image's picture."""
        for path in paths:
            with atomic_path(path) as temporary:
                answer.draw(image, min(3, self.top)).save(temporary, quality=92)
        ranked = answer.top(self.top)
        labels = set(answer.labels)
        return {
            "class_ids": [each.class_id for each in ranked],
            "probabilities": [each.probability for each in ranked],
            "found": [each.label in labels for each in ranked],
        }

    def write_tables(self, journal: Journal) -> None:
        """Write the classes of all finished sources."""
        write_classes(journal.folder / TABLE, journal.entries(ClassEntry), self.classes)
