"""Segmentation of videos: frame by frame, to a video with the classes' colours and a table of areas.

OpenCV, which comes with albumentations, is imported where it is used.
"""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from tqdm import tqdm

from engine.errors import InputError
from engine.outputs import atomic_path
from engine.reading.images import UInt8Array
from segmentation.data.classes import MaskClasses
from segmentation.inference.pictures import class_pixels, legend_image, tint, with_legend
from segmentation.inference.predictor import SegmentationPredictor
from segmentation.inference.segmented import Segmented

if TYPE_CHECKING:
    import cv2

AREA_COLUMNS = ("frame", "seconds", "class", "label_id", "pixels", "share")
_USUAL_RATE = 25.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoResult:
    """What was found in a video.

    Attributes:
        frames: how many were read.
        areas: pixels of each class by name, summed over the frames.
    """

    frames: int
    areas: dict[str, int]


class VideoFrames:
    """The frames of a video as upright RGB, to be read once.

    Attributes:
        rate: frames per second.
        count: number of frames as the file states it; 0 if it does not.

    Raises:
        InputError: the file is missing or not a video.
    """

    def __init__(self, path: str | Path) -> None:
        import cv2

        self.path = Path(path)
        if not self.path.is_file():
            msg = f"video '{path}' does not exist. Check the path."
            raise InputError(msg)
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            msg = f"cannot read video '{path}': it is damaged or of an unknown kind. Convert it to MP4."
            raise InputError(msg)
        self.count = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        if not (math.isfinite(self.rate) and self.rate > 0):
            _log.warning("%s states no frame rate; %.0f per second are assumed", path, _USUAL_RATE)
            self.rate = _USUAL_RATE

    def __iter__(self) -> Iterator[UInt8Array]:
        """The frames, each (H, W, 3) uint8 RGB.

        Raises:
            InputError: no frame can be read.
        """
        import cv2

        number = 0
        try:
            while True:
                found, frame = self._capture.read()
                if not found:
                    break
                number += 1
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        finally:
            self._capture.release()
        if not number:
            msg = f"cannot read video '{self.path}': it has no frame that can be decoded. Convert it to MP4."
            raise InputError(msg)
        if number < self.count:
            _log.warning("%s ends after %d of the %d frames that it states", self.path, number, self.count)


def writable_rate(rate: float) -> float:
    """The nearest rate that MPEG-4 can state: its time base has 16 bits (ISO/IEC 14496-2).

    >>> writable_rate(29.97), writable_rate(211.222)
    (29.97, 211.22)
    """
    for digits in (3, 2, 1):
        if round(rate, digits) * 10**digits <= 65535:
            return round(rate, digits)
    return float(min(65535, round(rate)))


@dataclass
class _Overlays:
    """A video that is written frame by frame; its legend names all classes, so that it does not jump."""

    path: Path
    rate: float
    classes: MaskClasses
    _writer: cv2.VideoWriter | None = field(default=None, init=False)
    _legend: Image.Image | None = field(default=None, init=False)

    def add(self, frame: UInt8Array, class_ids: UInt8Array) -> None:
        import cv2

        if self._legend is None:
            self._legend = legend_image(self.classes, range(len(self.classes)), frame.shape[1])
        picture = with_legend(tint(frame, class_ids, self.classes), self._legend)
        # The codec halves the colours' resolution and cuts odd sides.
        even = Image.new("RGB", (picture.width + picture.width % 2, picture.height + picture.height % 2), "white")
        even.paste(picture)
        if self._writer is None:
            rate = writable_rate(self.rate)
            self._writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*"mp4v"), rate, even.size)
            if not self._writer.isOpened():
                msg = (
                    f"cannot write a video of {even.width}x{even.height} px and {rate:g} frames per second to "
                    f"'{self.path.parent}': the codec or the folder refuses it. Give another --output, or --pictures "
                    "false for the areas alone."
                )
                raise InputError(msg)
        self._writer.write(cv2.cvtColor(np.asarray(even), cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()


@contextmanager
def _overlays(path: Path, rate: float, classes: MaskClasses) -> Iterator[_Overlays]:
    with atomic_path(path) as temporary:
        overlays = _Overlays(temporary, rate, classes)
        try:
            yield overlays
        finally:
            overlays.close()


def segment_video(
    predictor: SegmentationPredictor,
    source: str | Path,
    areas: str | Path,
    overlay: str | Path | None = None,
    *,
    progress: bool = True,
) -> VideoResult:
    """Segment a video.

    Args:
        predictor: how a frame is computed; `batch` frames of its inference settings are computed together. The
            network is in eval mode.
        source: the video.
        areas: the table to write: a CSV with a row for each class of each frame.
        overlay: the video to write, MP4: the frames tinted with the classes' colours, above a legend.
        progress: whether to show a progress bar.

    Raises:
        InputError: the video cannot be read, or an output cannot be written.
    """
    frames = VideoFrames(source)
    classes = predictor.classes
    totals = np.zeros(len(classes), dtype=np.int64)
    number = 0
    with ExitStack() as stack:
        table = stack.enter_context(stack.enter_context(atomic_path(areas)).open("w", newline="", encoding="utf-8"))
        rows = csv.writer(table)
        rows.writerow(AREA_COLUMNS)
        drawn = stack.enter_context(_overlays(Path(overlay), frames.rate, classes)) if overlay else None
        shown = iter(tqdm(frames, Path(source).name, frames.count or None, unit="frame", disable=not progress))
        while some := list(islice(shown, predictor.inference.batch)):
            answers = predictor.run([predictor.prepare(frame) for frame in some])
            for frame, found in zip(some, answers, strict=True):
                pixels = class_pixels(found.class_ids, classes)
                totals += pixels
                rows.writerows(_area_rows(found, pixels.tolist(), number, frames.rate))
                if drawn is not None:
                    drawn.add(frame, found.class_ids)
                number += 1
    return VideoResult(number, dict(zip(classes.names, totals.tolist(), strict=True)))


def _area_rows(found: Segmented, pixels: list[int], number: int, rate: float) -> list[tuple[object, ...]]:
    named = zip(found.classes.names, found.classes.label_ids, pixels, strict=True)
    seconds, size = f"{number / rate:.3f}", found.class_ids.size
    return [(number, seconds, name, label_id, count, f"{count / size:.6f}") for name, label_id, count in named]
