"""What `python -m segmentation predict` leaves in its folder: masks, overlays, probabilities, and a table of areas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.outputs import atomic_path
from engine.prediction.journal import Journal
from engine.prediction.results import Results, Values
from engine.prediction.sources import SourceFile
from engine.reading.options import Reading
from engine.reading.pixels import Source
from engine.video.sources import frames_of, refuse_damage
from segmentation.data.classes import MaskClasses
from segmentation.inference.pictures import class_pixels
from segmentation.inference.predictor import SegmentationPredictor
from segmentation.inference.segmented import Segmented
from segmentation.large.rasters import segment_raster
from segmentation.large.video import segment_video
from segmentation.prediction.areas import AREAS_NAME, AreaEntry, area_values, write_areas

# Of each kind of source: the mask or table, the picture, and the probabilities.
_ENDINGS: dict[str, tuple[str, str, str | None]] = {
    "image": (".png", "_overlay.jpg", "_probabilities.npz"),
    "video": ("_areas.csv", "_overlay.webm", None),
    "raster": (".tif", "_overview.jpg", "_probabilities.tif"),
}


@dataclass(frozen=True)
class SegmentationResults(Results[Segmented]):
    """Masks in the sources' own tree, and the table of areas.

    Attributes:
        classes: the class list of the masks.
        pictures: whether pictures for people are written.
        probabilities: whether the probabilities of all classes are kept.
        reading: the bands and values of rasters that were asked for.
        mpp: micrometres per pixel at which slides are read.
    """

    classes: MaskClasses
    pictures: bool = True
    probabilities: bool = False
    reading: Reading = Reading()
    mpp: float | None = None

    @property
    def tables(self) -> list[str]:
        """The areas."""
        return [AREAS_NAME]

    def outputs(self, file: SourceFile, name: Path, *, every: bool = False) -> list[Path]:
        """Mask or table first, then the picture and the probabilities."""
        wanted = zip(_ENDINGS[file.kind], (True, self.pictures or every, self.probabilities or every), strict=True)
        return [name.with_name(name.name + ending) for ending, asked in wanted if asked and ending]

    def write(self, image: Source, paths: Sequence[Path], answer: Segmented) -> Values:
        """Write an image's mask, overlay and probabilities."""
        for path in paths:
            if path.suffix == ".npz":
                assert answer.probabilities is not None
                names, label_ids = np.array(answer.classes.names), np.array(answer.classes.label_ids)
                kept = answer.probabilities
                with atomic_path(path) as temporary:
                    np.savez_compressed(temporary, probabilities=kept, names=names, label_ids=label_ids)
            elif path.suffix == ".jpg":
                with atomic_path(path) as temporary:
                    answer.draw(image).save(temporary, quality=92)
            else:
                answer.save(path)
        return area_values(class_pixels(answer.class_ids, answer.classes).tolist())

    def stream(self, predictor: object, file: SourceFile, paths: Sequence[Path], *, progress: bool) -> Values:
        """Segment a video, a raster or a slide."""
        assert isinstance(predictor, SegmentationPredictor)
        first, *others = paths
        if file.kind == "video":
            frames = frames_of(file.path, file.address)
            video = segment_video(predictor, frames, first, others[0] if others else None, progress=progress)
            values = area_values(list(video.areas.values()))
            refuse_damage(frames, values)
            return values
        endings = {path.suffix for path in others}
        raster = segment_raster(
            predictor, file.path, first, mpp=self.mpp, overview=".jpg" in endings,
            probabilities=".tif" in endings, progress=progress, bands=self.reading.bands,
            value_range=self.reading.value_range, nodata=self.reading.nodata,
        )  # fmt: skip
        return area_values(list(raster.areas.values()), raster.pixel_area_m2)

    def write_tables(self, journal: Journal) -> None:
        """Write the areas of all finished sources."""
        write_areas(journal.folder / AREAS_NAME, journal.entries(AreaEntry), self.classes)
