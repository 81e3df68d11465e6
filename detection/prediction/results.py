"""What `python -m detection predict` leaves in its folder: a picture per image and one JSON in COCO's format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from detection.data.classes import BoxClasses
from detection.prediction.document import JSON_NAME, BoxEntry, box_values, write_detections
from detection.prediction.found import Found
from detection.prediction.keys import Keys
from engine.outputs import atomic_path
from engine.prediction.journal import Journal
from engine.prediction.results import Results, Values
from engine.prediction.sources import SourceFile
from engine.reading.pixels import Source


@dataclass(frozen=True)
class DetectionResults(Results[Found]):
    """Pictures with boxes, in the images' own tree, and the list of all objects.

    Attributes:
        classes: the detector's class list.
        pictures: whether pictures are drawn.
        keys: an annotation file's ids for the list; without it images are numbered as they are found.
    """

    classes: BoxClasses
    pictures: bool = True
    keys: Keys | None = None

    @property
    def tables(self) -> list[str]:
        """The JSON."""
        return [JSON_NAME]

    def outputs(self, file: SourceFile, name: Path, *, every: bool = False) -> list[Path]:
        """The picture: JPEG where the image is one, or else PNG."""
        suffix = file.path.suffix if file.path.suffix.lower() in (".jpg", ".jpeg") else ".png"
        return [name.with_name(name.name + suffix)] if self.pictures or every else []

    def write(self, image: Source, paths: Sequence[Path], answer: Found) -> Values:
        """Draw the picture."""
        for path in paths:
            with atomic_path(path) as temporary:
                answer.draw(image).save(temporary, quality=92)
        return box_values(answer)

    def write_tables(self, journal: Journal) -> None:
        """Write the JSON of all finished images."""
        write_detections(journal.folder / JSON_NAME, partial(journal.entries, BoxEntry), self.classes, self.keys)
