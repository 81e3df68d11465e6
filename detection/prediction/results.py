"""What `python -m detection predict` leaves in its folder: pictures, maps, videos, and one JSON in COCO's format."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from detection.data.classes import BoxClasses
from detection.formats.pre_labels import PreLabelFormat, known_by, write_pre_labels
from detection.prediction.document import JSON_NAME, BoxEntry, box_values, listed_entries, write_detections
from detection.prediction.found import Found
from detection.prediction.geojson import write_geojson
from detection.prediction.keys import Keys
from detection.prediction.predictor import DetectionPredictor
from detection.prediction.video import VideoFiles, find_in_video, video_outputs
from detection.prediction.yolo import CLASSES_NAME, LABELS_SUFFIX, write_classes, write_labels
from engine.large.opening import open_raster
from engine.outputs import atomic_path
from engine.prediction.journal import Journal
from engine.prediction.results import Results, Values
from engine.prediction.sources import VIDEO, SourceFile
from engine.reading.options import Reading
from engine.reading.pixels import Source
from engine.reading.raster_file import preview_size
from engine.tracking.byte_track import Tracking
from engine.video.sources import frames_of, refuse_damage

LONGEST_OVERVIEW = 2048


@dataclass(frozen=True)
class DetectionResults(Results[Found]):
    """Pictures and videos with boxes, in the sources' own tree, and the list of all objects.

    Attributes:
        classes: the detector's class list.
        pictures: whether pictures and videos are drawn.
        keys: an annotation file's ids for the list; without it images are numbered as they are found.
        reading: the bands and values of rasters that were asked for.
        pre_labels: the format of a set for annotation tools, if one is written.
        yolo: whether YOLO labels are written for each image and frame.
        tracking: whether and how objects are followed through videos.
        batch_size: frames or tiles that are computed together.
    """

    classes: BoxClasses
    pictures: bool = True
    keys: Keys | None = None
    reading: Reading = Reading()
    pre_labels: PreLabelFormat | None = None
    yolo: bool = False
    tracking: Tracking | None = None
    batch_size: int = 4

    @property
    def tables(self) -> list[str]:
        """The JSON, the names of the classes that YOLO labels have as numbers, and what a set for tools is known by."""
        labels = [] if self.pre_labels is None else [known_by(self.pre_labels)]
        return [JSON_NAME, *([CLASSES_NAME] if self.yolo else []), *labels]

    def outputs(self, file: SourceFile, name: Path, *, every: bool = False) -> list[Path]:
        """The files of a source.

        Of an image the picture, JPEG where the image is one, or else PNG; of a raster a smaller one, and its map; of a
        video first its table.
        """
        if file.kind == VIDEO:
            return video_outputs(name, pictures=self.pictures or every, yolo=self.yolo or every)
        suffix = file.path.suffix if file.path.suffix.lower() in (".jpg", ".jpeg") else ".png"
        ending = "_overview.jpg" if file.kind in ("raster", "map") else suffix
        endings = {
            suffix: every or (self.pictures and ending == suffix),
            "_overview.jpg": every or (self.pictures and ending != suffix),
            ".geojson": every or file.kind == "map",
            LABELS_SUFFIX: every or self.yolo,
        }
        return [name.with_name(name.name + ending) for ending, asked in endings.items() if asked]

    def write(self, image: Source, paths: Sequence[Path], answer: Found) -> Values:
        """Draw the picture and write the labels."""
        for path in paths:
            if path.suffix == LABELS_SUFFIX:
                write_labels(path, answer, self.classes)
                continue
            with atomic_path(path) as temporary:
                answer.draw(image).save(temporary, quality=92)
        return box_values(answer)

    def stream(self, predictor: object, file: SourceFile, paths: Sequence[Path], *, progress: bool) -> Values:
        """Find the objects of a raster in tiles, or find and follow those of a video or a stream."""
        assert isinstance(predictor, DetectionPredictor)
        if file.kind == VIDEO:
            return self._stream_video(predictor, file, paths, progress=progress)
        with closing(open_raster(file.path, self.reading, usual=predictor.reading)) as pixels:
            count = len(predictor.tiling(pixels.size_hw))
            with tqdm(total=count, desc=file.path.name, unit="tile", disable=not progress) as bar:
                found = predictor.find(pixels, batch=self.batch_size, on_tiles=bar.update)
            for path in paths:
                if path.suffix == ".geojson":
                    write_geojson(path, found, pixels.georeference)
                    continue
                if path.suffix == LABELS_SUFFIX:
                    write_labels(path, found, self.classes)
                    continue
                longest = max(pixels.size_hw) if file.kind == "tiles" else LONGEST_OVERVIEW
                shown = pixels.picture(preview_size(pixels.size_hw, longest))
                with atomic_path(path) as temporary:
                    found.scaled((shown.shape[0], shown.shape[1])).draw(shown).save(temporary, quality=92)
        return box_values(found)

    def _stream_video(
        self, predictor: DetectionPredictor, file: SourceFile, paths: Sequence[Path], *, progress: bool
    ) -> Values:
        frames = frames_of(file.path, file.address)
        values = find_in_video(
            predictor, frames, VideoFiles.of(paths), tracking=self.tracking, batch_size=self.batch_size,
            progress=progress,
        ).values()  # fmt: skip
        refuse_damage(frames, values)
        return values

    def write_tables(self, journal: Journal) -> None:
        """Write the JSON of all finished images and videos."""
        write_detections(journal.folder / JSON_NAME, partial(listed_entries, journal), self.classes, self.keys)
        if self.yolo:
            write_classes(journal.folder / CLASSES_NAME, self.classes)
        if self.pre_labels is not None:
            write_pre_labels(journal.folder, journal.entries(BoxEntry), self.classes, self.pre_labels)
