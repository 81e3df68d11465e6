"""The frames of a video with their times, and the containers that are opened. OpenCV is imported where it is used."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from engine.errors import UnreadableError
from engine.reading.images import UInt8Array

_log = logging.getLogger(__name__)
_USUAL_RATE = 25.0
_VARIES = 0.5  # frames by which a time may differ from that of a constant rate

VIDEO_SUFFIXES = frozenset(
    (
        ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm",
        ".wmv",
    )
)  # fmt: skip
_ALLOWED = "MP4, MOV, AVI, Matroska, WebM, WMV, FLV, Ogg, MPEG and its transport streams"
# The brands of images in ISO's container.
_STILLS = frozenset((b"avif", b"avis", b"mif1", b"msf1", b"heic", b"heix", b"hevc", b"hevx"))
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")


def is_video(path: Path) -> bool:
    """Whether a file is a container of video, told by its first bytes: never a list that names other files."""
    try:
        with path.open("rb") as file:
            start = file.read(1024)
    except OSError:
        return False
    if start[4:8] == b"ftyp":
        return start[8:12] not in _STILLS
    if start[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip"):  # QuickTime before it had a first box of its own
        return True
    if start.startswith((b"\x1aE\xdf\xa3", b"FLV\x01", b"OggS", _ASF, b"\0\0\x01\xba", b"\0\0\x01\xb3")):
        return True
    if start.startswith(b"RIFF"):
        return start[8:12] == b"AVI "
    # A transport stream repeats its mark every 188 bytes, or every 192 behind four of time.
    return any(
        len(start) > first + 2 * step and all(start[first + step * n] == 0x47 for n in range(3))
        for first, step in ((0, 188), (4, 192))
    )


class Frame(NamedTuple):
    """A frame of a video.

    Attributes:
        seconds: when it is shown, after the first.
        image: (H, W, 3) uint8 RGB, upright.
    """

    seconds: float
    image: UInt8Array


class VideoFrames:
    """The frames of a video, to be read once.

    Attributes:
        rate: frames per second, on the average where they vary.
        count: number of frames as the file states it; 0 if it does not.
        varies: whether times differ from those of a constant rate; known once all frames are read.

    Raises:
        UnreadableError: the file is missing or not a video.
    """

    def __init__(self, path: str | Path) -> None:
        import cv2

        self.path = Path(path)
        self.varies = False
        if not self.path.is_file():
            msg = f"video '{path}' does not exist. Check the path."
            raise UnreadableError(msg)
        # ffmpeg would follow a text file that lists others, or an address. An absolute path is no address either.
        self._capture = cv2.VideoCapture()
        if not is_video(self.path) or not self._capture.open(os.path.abspath(path), cv2.CAP_FFMPEG):
            msg = (
                f"cannot read video '{path}': it is damaged, or none of {_ALLOWED} by its content. "
                "Convert it: ffmpeg -i INPUT OUTPUT.mp4"
            )
            raise UnreadableError(msg)
        self.count = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        if not (math.isfinite(self.rate) and self.rate > 0):
            _log.warning("%s states no frame rate; %.0f per second are assumed", path, _USUAL_RATE)
            self.rate = _USUAL_RATE

    def __iter__(self) -> Iterator[Frame]:
        """The frames.

        Raises:
            UnreadableError: no frame can be read.
        """
        import cv2

        number, first, last = 0, 0.0, 0.0
        try:
            while True:
                found, frame = self._capture.read()
                if not found:
                    break
                stated = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
                if number == 0:
                    first, seconds = stated, 0.0
                else:
                    # A file that states no times, or goes back, has a constant rate.
                    seconds = stated - first if stated - first > last else last + 1 / self.rate
                self.varies = self.varies or abs(seconds * self.rate - number) > _VARIES
                number, last = number + 1, seconds
                yield Frame(seconds, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        finally:
            self._capture.release()
        if not number:
            msg = (
                f"cannot read video '{self.path}': it has no frame that can be decoded. "
                "Convert it: ffmpeg -i INPUT OUTPUT.mp4"
            )
            raise UnreadableError(msg)
        if number < self.count:
            _log.warning("%s ends after %d of the %d frames that it states", self.path, number, self.count)
