"""What `python -m joint predict` and `python -m joint ray` leave in their folder: masks, pictures, and both tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from detection.data.classes import BoxClasses
from detection.network.postprocess import Postprocess
from detection.prediction.document import JSON_NAME, BoxEntry, box_values, write_detections
from engine.data.pixels import Source
from engine.outputs import atomic_path
from engine.prediction.journal import Journal, name_of_weights
from engine.prediction.results import Results, Values
from engine.prediction.sources import SourceFile
from joint.prediction.found import JointFound
from segmentation.data.classes import MaskClasses
from segmentation.inference.pictures import class_pixels
from segmentation.prediction.areas import AREAS_NAME, AreaEntry, area_values, write_areas


@dataclass(frozen=True)
class JointResults(Results[JointFound]):
    """A mask and a picture per image, the objects in COCO's format, and the areas of the classes.

    Attributes:
        boxes: the detector's class list.
        masks: the segmenter's.
        detect: whether objects are asked for.
        segment: whether classes of pixels are.
        pictures: whether pictures for people are written.
    """

    boxes: BoxClasses
    masks: MaskClasses
    detect: bool = True
    segment: bool = True
    pictures: bool = True

    @property
    def tables(self) -> list[str]:
        """The objects and the areas, where they are asked for."""
        return [name for name, asked in ((JSON_NAME, self.detect), (AREAS_NAME, self.segment)) if asked]

    def outputs(self, file: SourceFile, name: Path, *, every: bool = False) -> list[Path]:
        """The mask and the picture."""
        endings = ((".png", self.segment), ("_overlay.jpg", self.pictures))
        return [name.with_name(name.name + ending) for ending, asked in endings if asked or every]

    def write(self, image: Source, paths: Sequence[Path], answer: JointFound) -> Values:
        """Write an image's mask and picture."""
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
            write_detections(journal.folder / JSON_NAME, partial(journal.entries, BoxEntry), self.boxes)
        if self.segment:
            write_areas(journal.folder / AREAS_NAME, journal.entries(AreaEntry), self.masks)


def settings_of(
    weights: str | Path | None, canvas: str, postprocess: Postprocess, results: JointResults
) -> dict[str, object]:
    """What decides how results look; a folder holds those of one kind.

    Args:
        weights: the checkpoint, by whose content it is known.
        canvas: on which images are computed, in words.
        postprocess: the detector's settings.
        results: what is asked for.
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
