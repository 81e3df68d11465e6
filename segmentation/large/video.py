"""Segmentation of videos: frame by frame, to a video with the classes' colours and a table of areas.

OpenCV, which comes with albumentations, is imported where it is used.
"""

from __future__ import annotations

import csv
import logging
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
from segmentation.large.video_frames import TimedFrame, VideoFrames, usual_rate

if TYPE_CHECKING:
    import cv2

AREA_COLUMNS = ("frame", "seconds", "class", "label_id", "pixels", "share")
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
    """A video of a constant rate in which each picture stands at the time of its frame, for as long as that lasts.

    Its legend names all classes, so that it does not jump.

    Attributes:
        repeated: how many pictures were written once more, because a frame lasts longer than the rate says.
        left_out: how many were not written, because the next frame comes sooner.
    """

    path: Path
    rate: float
    classes: MaskClasses
    repeated: int = field(default=0, init=False)
    left_out: int = field(default=0, init=False)
    _writer: cv2.VideoWriter | None = field(default=None, init=False)
    _legend: Image.Image | None = field(default=None, init=False)
    _held: UInt8Array | None = field(default=None, init=False)  # written when it is known how long it lasts
    _place: int = field(default=0, init=False)  # of the held picture in the written video

    def add(self, frame: TimedFrame, class_ids: UInt8Array) -> None:
        """Draw a frame."""
        import cv2

        self._write_until(frame.seconds)
        if self._legend is None:
            self._legend = legend_image(self.classes, range(len(self.classes)), frame.picture.shape[1])
        picture = with_legend(tint(frame.picture, class_ids, self.classes), self._legend)
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
        self._held = cv2.cvtColor(np.asarray(even), cv2.COLOR_RGB2BGR)

    def finish(self, end: float) -> None:
        """Write the last picture, which lasts until `end`, in seconds."""
        self._write_until(max(end, (self._place + 1) / self.rate))

    def _write_until(self, seconds: float) -> None:
        if self._writer is None or self._held is None:
            return
        place = round(seconds * self.rate)
        times = place - self._place
        if times <= 0:
            self.left_out += 1
            return
        self.repeated += times - 1
        self._place = place
        for _ in range(times):
            self._writer.write(self._held)

    def close(self) -> None:
        """Close the file."""
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
        areas: the table to write: a CSV with a row for each class of each frame, with the frame's time in seconds.
        overlay: the video to write, MP4: the frames tinted with the classes' colours, above a legend. Its rate is
            constant; frames of a variable rate are repeated or left out, so that it stays in step with its source.
        progress: whether to show a progress bar.

    Raises:
        InputError: the video cannot be read, or an output cannot be written.
    """
    frames = VideoFrames(source)
    classes = predictor.classes
    totals = np.zeros(len(classes), dtype=np.int64)
    number, varies = 0, False
    with ExitStack() as stack:
        table = stack.enter_context(stack.enter_context(atomic_path(areas)).open("w", newline="", encoding="utf-8"))
        rows = csv.writer(table)
        rows.writerow(AREA_COLUMNS)
        drawn = None
        if overlay:
            rate = usual_rate(source, frames.rate)
            drawn = stack.enter_context(_overlays(Path(overlay), rate, classes))
        shown = iter(tqdm(frames.timed(), Path(source).name, frames.count or None, unit="frame", disable=not progress))
        while some := list(islice(shown, predictor.inference.batch)):
            answers = predictor.run([predictor.prepare(frame.picture) for frame in some])
            for frame, found in zip(some, answers, strict=True):
                pixels = class_pixels(found.class_ids, classes)
                totals += pixels
                rows.writerows(_area_rows(found, pixels.tolist(), number, frame.seconds))
                if drawn is not None:
                    drawn.add(frame, found.class_ids)
                varies |= abs(frame.seconds * frames.rate - number) > 0.5
                number += 1
        if drawn is not None:
            drawn.finish(frames.end)
            if varies:
                _log.warning(
                    "%s has a variable frame rate; its overlay has %.4g frames per second and the same duration, with "
                    "%d pictures repeated and %d left out", source, drawn.rate, drawn.repeated, drawn.left_out,
                )  # fmt: skip
    return VideoResult(number, dict(zip(classes.names, totals.tolist(), strict=True)))


def _area_rows(found: Segmented, pixels: list[int], number: int, time: float) -> list[tuple[object, ...]]:
    named = zip(found.classes.names, found.classes.label_ids, pixels, strict=True)
    seconds, size = f"{time:.3f}", found.class_ids.size
    return [(number, seconds, name, label_id, count, f"{count / size:.6f}") for name, label_id, count in named]
