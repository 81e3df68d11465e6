"""Segmentation of videos: frame by frame, to a video with the classes' colours and a table of areas."""

from __future__ import annotations

import csv
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from engine.outputs import make_folder
from engine.prediction.predictor import answered
from engine.reading.images import UInt8Array
from engine.video.frames import Frames, VideoFrames
from engine.video.written import drawn_video
from segmentation.data.classes import MaskClasses
from segmentation.inference.pictures import class_pixels, legend_image, tint, with_legend
from segmentation.inference.predictor import SegmentationPredictor
from segmentation.inference.segmented import Segmented

AREA_COLUMNS = ("frame", "seconds", "class", "label_id", "pixels", "share")


@dataclass(frozen=True)
class VideoResult:
    """What was found in a video.

    Attributes:
        frames: how many were read.
        areas: pixels of each class by name, summed over the frames.
        damage: what of it could not be read, in words; empty if all could.
    """

    frames: int
    areas: dict[str, int]
    damage: str = ""


class Tinted:
    """Draws frames above a legend that names all classes, so that it does not jump.

    Args:
        classes: names and colours.
    """

    def __init__(self, classes: MaskClasses) -> None:
        self.classes = classes
        self._legend: Image.Image | None = None

    def draw(self, picture: UInt8Array, class_ids: UInt8Array) -> Image.Image:
        """A frame tinted with the classes' colours.

        Args:
            picture: (H, W, 3) RGB.
            class_ids: (H, W) rows of the class list.
        """
        if self._legend is None:
            self._legend = legend_image(self.classes, range(len(self.classes)), picture.shape[1])
        return with_legend(tint(picture, class_ids, self.classes), self._legend)


class AreaTable:
    """A table with a row for each class of each frame; what is written is on the disk after `flush`.

    Args:
        path: the CSV file.
        classes: the class list by whose rows pixels are counted.
    """

    def __init__(self, path: str | Path, classes: MaskClasses) -> None:
        place = Path(path)
        make_folder(place.parent)
        self.classes = classes
        self.totals = np.zeros(len(classes), dtype=np.int64)
        self._file = place.open("w", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file)
        self._rows.writerow(AREA_COLUMNS)

    def __enter__(self) -> AreaTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, number: int, seconds: float, found: Segmented) -> None:
        """Add a frame."""
        pixels = class_pixels(found.class_ids, self.classes)
        self.totals += pixels
        self._rows.writerows(_area_rows(found, pixels.tolist(), number, seconds))

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._file.flush()


def segment_video(
    predictor: SegmentationPredictor,
    source: str | Path | Frames,
    areas: str | Path,
    overlay: str | Path | None = None,
    *,
    progress: bool = True,
) -> VideoResult:
    """Segment a video or a stream. However it ends, what was found until then is written.

    Args:
        predictor: how a frame is computed; `batch` frames of its inference settings are computed together. The
            network is in eval mode.
        source: the video, or the frames of a stream.
        areas: the table to write: a CSV with a row for each class of each frame, with the frame's time in seconds.
        overlay: the video to write, WebM: the frames tinted with the classes' colours, above a legend. Its rate is
            constant; frames of a variable rate are repeated or left out, so that it stays in step with its source.
        progress: whether to show a progress bar.

    Raises:
        InputError: the video cannot be read, or an output cannot be written.
    """
    frames = VideoFrames(source) if isinstance(source, str | Path) else source
    number, tinted = 0, Tinted(predictor.classes)
    with ExitStack() as stack:
        batches = answered(predictor, frames, predictor.inference.batch, progress=progress)
        first = next(batches)  # what has no frame leaves no files
        table = stack.enter_context(AreaTable(areas, predictor.classes))
        drawn = stack.enter_context(drawn_video(Path(overlay), frames)) if overlay else None
        for batch in chain([first], batches):
            for one in batch:
                table.add(one.frame.number, one.frame.seconds, one.answer)
                if drawn is not None:
                    drawn.add(one.frame.seconds, tinted.draw(one.frame.picture, one.answer.class_ids))
                number += 1
            table.flush()
    totals = dict(zip(predictor.classes.names, table.totals.tolist(), strict=True))
    return VideoResult(number, totals, str(frames.damage))


def _area_rows(found: Segmented, pixels: list[int], number: int, time: float) -> list[tuple[object, ...]]:
    named = zip(found.classes.names, found.classes.label_ids, pixels, strict=True)
    seconds, size = f"{time:.3f}", found.class_ids.size
    return [(number, seconds, name, label_id, count, f"{count / size:.6f}") for name, label_id, count in named]
