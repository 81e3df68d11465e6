"""Videos of drawn frames: VP9 or VP8 in WebM, which browsers play and whose encoders come with OpenCV.

OpenCV, which comes with albumentations, is imported where it is used.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from engine.errors import InputError
from engine.outputs import make_folder
from engine.reading.images import UInt8Array
from engine.video.capture import hearing
from engine.video.frames import Frames

if TYPE_CHECKING:
    import cv2

SUFFIX = ".webm"
Codec = Literal["VP90", "VP80"]  # VP8 takes a quarter of the time of VP9, and twice the bytes
_log = logging.getLogger(__name__)


@dataclass
class DrawnVideo:
    """A video of a constant rate in which each picture stands at the time of its frame, for as long as that lasts.

    What is written is on the disk as it comes, at the latest some seconds later: a file whose writer was killed plays
    up to there.

    Attributes:
        path: the file to write, which ends in `.webm`.
        rate: frames per second.
        codec: the codec.
        repeated: how many pictures were written once more, because a frame lasts longer than the rate says.
        left_out: how many were not written, because the next frame comes sooner.
    """

    path: Path
    rate: float
    codec: Codec = "VP90"
    repeated: int = field(default=0, init=False)
    left_out: int = field(default=0, init=False)
    _writer: cv2.VideoWriter | None = field(default=None, init=False)
    _held: UInt8Array | None = field(default=None, init=False)  # written when it is known how long it lasts
    _place: int = field(default=0, init=False)  # of the held picture in the written video
    _size: tuple[int, int] = field(default=(0, 0), init=False)

    def add(self, seconds: float, picture: Image.Image) -> None:
        """Write a picture.

        Args:
            seconds: when it is shown, counted from the first frame.
            picture: RGB; of another size than the first, as where a camera is turned, it is fitted into that.

        Raises:
            InputError: the video cannot be written.
        """
        import cv2

        self._write_until(seconds)
        if self._writer is None:
            # The codec halves the colours' resolution and cuts odd sides.
            self._size = (picture.width + picture.width % 2, picture.height + picture.height % 2)
            self._writer = self._opened()
        elif picture.width > self._size[0] or picture.height > self._size[1]:
            picture.thumbnail(self._size)
        even = Image.new("RGB", self._size, "white")
        even.paste(picture)
        self._held = cv2.cvtColor(np.asarray(even), cv2.COLOR_RGB2BGR)

    def finish(self, end: float) -> None:
        """Write the last picture, which lasts until `end`, in seconds."""
        self._write_until(max(end, (self._place + 1) / self.rate))
        self._held = None

    def close(self) -> None:
        """Close the file; a picture that is still held, as where the work was stopped, is written first."""
        if self._writer is not None:
            self._write_until((self._place + 1) / self.rate)
            self._writer.release()
            self._writer = None

    def _opened(self) -> cv2.VideoWriter:
        import cv2

        make_folder(self.path.parent)
        with (
            hearing() as complaints,
            complaints.listening(),
        ):  # FFmpeg has another name for the codec in WebM, and says so each time
            writer = cv2.VideoWriter(
                str(self.path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*self.codec), self.rate, self._size
            )
        if not writer.isOpened():
            msg = (
                f"cannot write a video of {self._size[0]}x{self._size[1]} px and {self.rate:g} frames per second to "
                f"'{self.path.parent}': the codec or the folder refuses it. Give another --output, or --pictures "
                "false for the tables alone."
            )
            raise InputError(msg)
        return writer

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


@contextmanager
def drawn_video(path: Path, frames: Frames) -> Iterator[DrawnVideo]:
    """A video to draw frames into, at their times; it is whole on the disk however the work ends.

    Args:
        path: the file to write, which ends in `.webm`.
        frames: what is drawn; when all are, the last picture lasts as long as its frame.
    """
    video = DrawnVideo(path, frames.drawing_rate, "VP80" if frames.live else "VP90")
    try:
        yield video
        video.finish(frames.end)
    finally:
        video.close()
    if (video.repeated or video.left_out) and not frames.live and not str(frames.damage):
        _log.warning(
            "%s has a variable frame rate; its overlay has %.4g frames per second and the same duration, with "
            "%d pictures repeated and %d left out", frames.name, video.rate, video.repeated, video.left_out,
        )  # fmt: skip
