"""The results of `python -m joint predict` and `python -m joint ray`: masks, pictures and both tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from detection.data.classes import BoxClasses
from detection.network.postprocess import Postprocess
from detection.prediction.document import JSON_NAME, box_values, listed_entries, write_detections
from detection.prediction.keys import Keys
from detection.prediction.yolo import CLASSES_NAME, LABELS_SUFFIX, write_classes, write_labels
from engine.outputs import atomic_path
from engine.prediction.journal import Journal, name_of_weights
from engine.prediction.results import Results, Values
from engine.prediction.sources import VIDEO, SourceFile
from engine.reading.pixels import Source
from engine.tracking.byte_track import Tracking
from engine.video.sources import frames_of, refuse_damage
from joint.prediction.found import JointFound
from joint.prediction.predictor import JointPredictor
from joint.prediction.video import answer_video, joint_outputs
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
        yolo: whether YOLO labels of the objects are written for each image and frame.
        tracking: whether and how objects are followed through videos.
        batch_size: frames that are computed together.
    """

    boxes: BoxClasses
    masks: MaskClasses
    detect: bool = True
    segment: bool = True
    pictures: bool = True
    keys: Keys | None = None
    yolo: bool = False
    tracking: Tracking | None = None
    batch_size: int = 4

    @property
    def tables(self) -> list[str]:
        """The tables of objects and areas, as far as they are asked for."""
        named = ((JSON_NAME, self.detect), (AREAS_NAME, self.segment), (CLASSES_NAME, self.yolo))
        return [name for name, asked in named if asked]

    def outputs(self, file: SourceFile, name: Path, *, every: bool = False) -> list[Path]:
        """The paths of the mask, the picture and the labels; of a video those of its tables first."""
        if file.kind == VIDEO:
            asked_for = (self.detect or every, self.segment or every, self.pictures or every, self.yolo or every)
            detect, segment, pictures, yolo = asked_for
            return joint_outputs(name, detect=detect, segment=segment, pictures=pictures, yolo=yolo)
        endings = ((".png", self.segment), ("_overlay.jpg", self.pictures), (LABELS_SUFFIX, self.yolo))
        return [name.with_name(name.name + ending) for ending, asked in endings if asked or every]

    def write(self, image: Source, paths: Sequence[Path], answer: JointFound) -> Values:
        """Write the mask and the picture of an image."""
        for path in paths:
            if path.suffix == ".jpg":
                with atomic_path(path) as temporary:
                    answer.draw(image).save(temporary, quality=92)
            elif path.suffix == LABELS_SUFFIX:
                assert answer.found is not None
                write_labels(path, answer.found, self.boxes)
            else:
                assert answer.segmented is not None
                answer.segmented.save(path)
        values: Values = {"size_hw": list(answer.size_hw)}
        if answer.segmented is not None:
            values |= area_values(class_pixels(answer.segmented.class_ids, self.masks).tolist())
        return values if answer.found is None else values | box_values(answer.found)

    def stream(self, predictor: object, file: SourceFile, paths: Sequence[Path], *, progress: bool) -> Values:
        """Find objects and classes of pixels in a video or a stream."""
        assert isinstance(predictor, JointPredictor)
        frames = frames_of(file.path, file.address)
        values = answer_video(
            predictor, frames, paths, tracking=self.tracking, batch_size=self.batch_size, progress=progress
        )
        refuse_damage(frames, values)
        return values

    def write_tables(self, journal: Journal) -> None:
        """Write the tables of all finished images and videos."""
        if self.detect:
            entries = partial(listed_entries, journal)
            write_detections(journal.folder / JSON_NAME, entries, self.boxes, self.keys)
        if self.yolo:
            write_classes(journal.folder / CLASSES_NAME, self.boxes)
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
