"""The results of `python -m joint predict` and `python -m joint ray`: masks, pictures and both tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from detection.data.classes import BoxClasses
from detection.network.postprocess import Postprocess
from detection.prediction.document import JSON_NAME, BoxEntry, box_values, write_detections
from detection.prediction.keys import Keys
from engine.outputs import atomic_path
from engine.prediction.journal import Journal, name_of_weights
from engine.prediction.results import Results, Values
from engine.prediction.sources import SourceFile
from engine.reading.pixels import Source
from joint.prediction.found import JointFound
from segmentation.data.classes import MaskClasses
from segmentation.inference.pictures import class_pixels
from segmentation.prediction.areas import AREAS_NAME, AreaEntry, area_values, write_areas


@dataclass(frozen=True)
class JointResults(Results[JointFound]):
    """A mask and a picture for each image, the objects in COCO's format, and the areas of the classes.

    Attributes:
        boxes: the class list of the detector.
        masks: the class list of the segmenter.
        detect: whether to find objects.
        segment: whether to find classes of pixels.
        pictures: whether to write pictures for people.
        keys: an annotation file's ids for the objects; without it images are numbered as they are found.
    """

    boxes: BoxClasses
    masks: MaskClasses
    detect: bool = True
    segment: bool = True
    pictures: bool = True
    keys: Keys | None = None

    @property
    def tables(self) -> list[str]:
        """The tables of objects and areas, as far as they are asked for."""
        return [name for name, asked in ((JSON_NAME, self.detect), (AREAS_NAME, self.segment)) if asked]

    def outputs(self, file: SourceFile, name: Path, *, every: bool = False) -> list[Path]:
        """The paths of the mask and of the picture."""
        endings = ((".png", self.segment), ("_overlay.jpg", self.pictures))
        return [name.with_name(name.name + ending) for ending, asked in endings if asked or every]

    def write(self, image: Source, paths: Sequence[Path], answer: JointFound) -> Values:
        """Write the mask and the picture of an image."""
        for path in paths:
            if path.suffix == ".jpg":
                with atomic_path(path) as temporary:
                    answer.draw(image).save(temporary, quality=92)
            else:
                assert answer.segmented is not None
                answer.segmented.save(path)
        values: Values = {"size_hw": list(answer.size_hw)}
        if answer.segmented is not None:
            values |= area_values(class_pixels(answer.segmented.class_ids, self.masks).tolist())
        return values if answer.found is None else values | box_values(answer.found)

    def write_tables(self, journal: Journal) -> None:
        """Write the tables of all finished images."""
        if self.detect:
            entries = partial(journal.entries, BoxEntry)
            write_detections(journal.folder / JSON_NAME, entries, self.boxes, self.keys)
        if self.segment:
            write_areas(journal.folder / AREAS_NAME, journal.entries(AreaEntry), self.masks)


def settings_of(
    weights: str | Path | None, canvas: str, postprocess: Postprocess, results: JointResults
) -> dict[str, object]:
    """The settings that decide what the results are; a folder holds results of one kind of settings.

    Args:
        weights: the checkpoint, which is identified by its content.
        canvas: the canvas of the images, in words.
        postprocess: the settings of the detector.
        results: the results that are asked for.
    """
    return {
        "weights": name_of_weights(weights),
        "canvas": canvas,
        "postprocess": asdict(postprocess),
        "detect": results.detect,
        "segment": results.segment,
        "categories": results.boxes.to_dict(),
        "classes": results.masks.to_dict(),
    }
