"""What `python -m detection predict` leaves in its folder: pictures, maps, and one JSON in COCO's format."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from detection.data.classes import BoxClasses
from detection.formats.pre_labels import PreLabelFormat, known_by, write_pre_labels
from detection.prediction.document import JSON_NAME, BoxEntry, box_values, write_detections
from detection.prediction.found import Found
from detection.prediction.geojson import write_geojson
from detection.prediction.keys import Keys
from detection.prediction.predictor import DetectionPredictor
from engine.large.opening import open_raster
from engine.outputs import atomic_path
from engine.prediction.journal import Journal
from engine.prediction.results import Results, Values
from engine.prediction.sources import SourceFile
from engine.reading.options import Reading
from engine.reading.pixels import Source
from engine.reading.raster_file import preview_size

LONGEST_OVERVIEW = 2048


@dataclass(frozen=True)
class DetectionResults(Results[Found]):
    """Pictures with boxes, in the images' own tree, and the list of all objects.

    Attributes:
        classes: the detector's class list.
        pictures: whether pictures are drawn.
        keys: an annotation file's ids for the list; without it images are numbered as they are found.
        reading: the bands and values of rasters that were asked for.
        pre_labels: the format of a set for annotation tools, if one is written.
    """

    classes: BoxClasses
    pictures: bool = True
    keys: Keys | None = None
    reading: Reading = Reading()
    pre_labels: PreLabelFormat | None = None

    @property
    def tables(self) -> list[str]:
        """The JSON, and what tells that the set for annotation tools is there."""
        return [JSON_NAME, *([] if self.pre_labels is None else [known_by(self.pre_labels)])]

    def outputs(self, file: SourceFile, name: Path, *, every: bool = False) -> list[Path]:
        """The picture: JPEG where the image is one, or else PNG; a smaller one of a raster, and its map."""
        suffix = file.path.suffix if file.path.suffix.lower() in (".jpg", ".jpeg") else ".png"
        picture, overview, boxes = (name.with_name(name.name + end) for end in (suffix, "_overview.jpg", ".geojson"))
        if every:
            return [picture, overview, boxes]
        drawn = [overview if file.kind in ("raster", "map") else picture] if self.pictures else []
        return [*drawn, boxes] if file.kind == "map" else drawn

    def write(self, image: Source, paths: Sequence[Path], answer: Found) -> Values:
        """Draw the picture."""
        for path in paths:
            with atomic_path(path) as temporary:
                answer.draw(image).save(temporary, quality=92)
        return box_values(answer)

    def stream(self, predictor: object, file: SourceFile, paths: Sequence[Path], *, progress: bool) -> Values:
        """Find objects in tiles, draw them, and write their places on the ground."""
        assert isinstance(predictor, DetectionPredictor)
        with closing(open_raster(file.path, self.reading, usual=predictor.reading)) as pixels:
            count = len(predictor.tiling(pixels.size_hw))
            with tqdm(total=count, desc=file.path.name, unit="tile", disable=not progress) as bar:
                found = predictor.find(pixels, on_tiles=bar.update)
            for path in paths:
                if path.suffix == ".geojson":
                    write_geojson(path, found, pixels.georeference)
                    continue
                longest = max(pixels.size_hw) if file.kind == "tiles" else LONGEST_OVERVIEW
                shown = pixels.picture(preview_size(pixels.size_hw, longest))
                with atomic_path(path) as temporary:
                    found.scaled((shown.shape[0], shown.shape[1])).draw(shown).save(temporary, quality=92)
        return box_values(found)

    def write_tables(self, journal: Journal) -> None:
        """Write the JSON of all finished images."""
        write_detections(journal.folder / JSON_NAME, partial(journal.entries, BoxEntry), self.classes, self.keys)
        if self.pre_labels is not None:
            write_pre_labels(journal.folder, journal.entries(BoxEntry), self.classes, self.pre_labels)
