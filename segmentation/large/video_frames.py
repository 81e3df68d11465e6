"""The frames of a video, upright, each with the time at which it is shown.

OpenCV, which comes with albumentations, is imported where it is used.
"""

from __future__ import annotations

import logging
import math
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from threading import Lock
from typing import TYPE_CHECKING

from engine.errors import UnreadableError
from engine.reading.images import UInt8Array
from segmentation.large.video_files import demuxer_of

if TYPE_CHECKING:
    import cv2

LONGEST_PAUSE = 600.0  # seconds; a longer leap of the stamps is a fault or a cut, and would fill a disk
_USUAL_RATE = 25.0
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"  # key;value|key;value, read when a video is opened
_OPENING = Lock()  # the environment is one for all threads
_LOOKED_AT = 250  # frames from which the usual interval is told
_MOST_TIMES = 16.0  # a video is not drawn at more than so many times its mean rate
_DAMAGED, _EMPTY = "it is damaged or of an unknown codec", "it has no frame that can be decoded"
_UNKNOWN = "its content is no video of a known kind"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TimedFrame:
    """A frame of a video.

    Attributes:
        picture: (H, W, 3) uint8 RGB, upright.
        seconds: when it is shown, counted from the first frame.
    """

    picture: UInt8Array
    seconds: float


@dataclass
class Clock:
    """Times of frames from the stamps of their file, which may lack some, or leap.

    Attributes:
        interval: seconds between frames where a stamp tells nothing.
    """

    interval: float
    _last: float | None = field(default=None, init=False)
    _known: tuple[float, float] = field(default=(0.0, 0.0), init=False)  # the last good stamp, and its time

    def time(self, stamp: float) -> float:
        """Seconds since the first frame; they never run back.

        >>> clock = Clock(0.5)
        >>> [clock.time(stamp) for stamp in (0.0, 0.25, 0.0, 1.0, 9999.0, 9999.25)]
        [0.0, 0.25, 0.75, 1.0, 1.5, 1.75]
        """
        if self._last is None:
            self._last, self._known = 0.0, (stamp if math.isfinite(stamp) else 0.0, 0.0)
            return 0.0
        following = self._last + self.interval
        known, at = self._known
        if not math.isfinite(stamp) or stamp <= 0:  # OpenCV gives 0 for a frame without a stamp
            self._last = following
        elif -self.interval < stamp - known <= LONGEST_PAUSE:
            self._known = stamp, at + stamp - known
            self._last = max(self._last, self._known[1])
        else:  # recordings that were joined: the clock was set anew
            self._last = following
            self._known = stamp, following
        return self._last


class VideoFrames:
    """The frames of a video as upright RGB, to be read once.

    Attributes:
        rate: frames per second; of a video with a variable rate, their mean as the file states it.
        count: number of frames as the file states it or its duration tells; 0 if neither does.
        end: seconds from the first frame to the end of the last; known when all have been read.

    Raises:
        UnreadableError: the file is missing or not a video.
    """

    def __init__(self, path: str | Path) -> None:
        import cv2

        self.path = Path(path)
        if not self.path.is_file():
            msg = f"video '{path}' does not exist. Check the path."
            raise UnreadableError(msg)
        self._capture = _open(self.path)
        if not self._capture.isOpened():
            raise _refusal(self.path, _DAMAGED)
        self.count = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.end = 0.0
        if not (math.isfinite(self.rate) and self.rate > 0):
            _log.warning("%s states no frame rate; %.0f per second are assumed", path, _USUAL_RATE)
            self.rate = _USUAL_RATE

    def __iter__(self) -> Iterator[UInt8Array]:
        """The pictures of `timed`."""
        return (frame.picture for frame in self.timed())

    def timed(self) -> Iterator[TimedFrame]:
        """The frames with their times.

        Raises:
            UnreadableError: no frame can be read.
        """
        import cv2

        number, seconds, clock = 0, 0.0, Clock(1 / self.rate)
        try:
            while True:
                found, frame = self._capture.read()
                if not found:
                    break
                number += 1
                seconds = clock.time(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
                yield TimedFrame(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), seconds)
        finally:
            self._capture.release()
        if not number:
            raise _refusal(self.path, _EMPTY)
        stated, self.end = self.count / self.rate, seconds + 1 / self.rate
        # The count may be no more than the duration times the rate, so that a variable rate has fewer frames.
        if number < self.count and self.end + 1 / self.rate < stated:
            _log.warning("%s ends after %d of the %d frames that it states", self.path, number, self.count)
        elif stated > seconds:
            self.end = stated


def usual_rate(path: str | Path, mean: float) -> float:
    """Frames per second at which a constant rate shows a video's frames: its mean rate, or a higher one.

    A recording that pauses has a low mean; it is drawn at the rate between pauses, told from its first 250 frames.

    Raises:
        UnreadableError: as `VideoFrames`.
    """
    import cv2

    capture, clock, times = _open(Path(path)), Clock(1 / mean), list[float]()
    while len(times) < _LOOKED_AT and capture.grab():
        times.append(clock.time(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000))
    capture.release()
    intervals = [after - before for before, after in pairwise(times) if after > before]
    usual = 1 / median(intervals) if intervals else mean
    # Whole milliseconds make an interval of a fast video a fifth too short.
    return min(usual, _MOST_TIMES * mean) if usual > 1.25 * mean else mean


def _refusal(path: Path, why: str) -> UnreadableError:
    # Not advised without a word: ffmpeg follows a list of addresses wherever it leads.
    trusted = "If it is a video of another kind that you trust," if why == _UNKNOWN else "To try another decoder,"
    return UnreadableError(
        f"cannot read video '{path}': {why}; MP4, MOV, AVI, MKV, WebM, WMV, MPEG, FLV and Ogg files are read. "
        f"{trusted} convert it to MP4: ffmpeg -i {shlex.quote(str(path))} converted.mp4"
    )


def _open(path: Path) -> cv2.VideoCapture:
    """Open a video with the one reader that its first bytes call for, which opens no other file and no address.

    Raises:
        UnreadableError: the file is no video of a known kind, or cannot be read.
    """
    import cv2

    try:
        demuxer = demuxer_of(path)
    except OSError as error:
        msg = f"cannot read video '{path}': {error.strerror}. Check the path and its rights."
        raise UnreadableError(msg) from error
    if demuxer is None:
        raise _refusal(path, _UNKNOWN)
    with _OPENING:
        before = os.environ.get(_OPTIONS)
        ours = f"input_format;{demuxer}|format_whitelist;{demuxer}|protocol_whitelist;file|enable_drefs;0"
        os.environ[_OPTIONS] = f"{before}|{ours}" if before else ours
        try:
            # No other backend: some take a name with digits for a series of pictures. Absolute: `concat:a` asks more.
            return cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
        finally:
            if before is None:
                del os.environ[_OPTIONS]
            else:
                os.environ[_OPTIONS] = before
