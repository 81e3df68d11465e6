"""The frames of a video, upright, each with the time at which it is shown, and what of it is damaged.

OpenCV, which comes with albumentations, is imported where it is used.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Protocol

from engine.errors import UnreadableError
from engine.reading.images import UInt8Array
from engine.video.capture import hearing, open_file, refusal

if TYPE_CHECKING:
    import cv2

LONGEST_PAUSE = 600.0  # seconds; a longer leap of the stamps is a fault or a cut, and would fill a disk
_USUAL_RATE = 25.0
_LOOKED_AT = 250  # frames from which the usual interval is told
_MOST_TIMES = 16.0  # a video is not drawn at more than so many times its mean rate
_DAMAGED, _EMPTY = "it is damaged or of an unknown codec", "it has no frame that can be decoded"
_MOST_MISSED = 250  # frames in a row that cannot be decoded, after which nothing more is hoped for
_LONGEST_TRY = 20.0  # seconds for these, as a server may let each one wait
_WARY = 16  # frames that a decoder may hold back, so that a complaint comes before the gap that it tells of
_MOST_LISTED = 3  # damaged places in one message
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TimedFrame:
    """A frame of a video.

    Attributes:
        picture: (H, W, 3) uint8 RGB, upright.
        seconds: when it is shown, counted from the first frame.
        number: its place in the video, from 0; frames that are lost keep theirs.
    """

    picture: UInt8Array
    seconds: float
    number: int


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


class Frames(Protocol):
    """Frames to be read once: those of a file, or of a stream.

    Attributes:
        name: what is read, as messages name it, without a password.
        rate: frames per second, as the source states it.
        count: the number of frames as the source states it; 0 if it does not.
        end: seconds from the first frame to the end of the last; known when all have been read.
        live: whether frames are made while they are read, and wait for nobody.
        damage: what could not be read; complete when all have been read.
    """

    name: str
    rate: float
    count: int
    end: float
    live: bool
    damage: Damage

    @property
    def drawing_rate(self) -> float:
        """Frames per second of a video that shows the frames at a constant rate."""
        ...

    def timed(self) -> Iterator[TimedFrame]:
        """The frames with their times.

        Raises:
            UnreadableError: no frame can be read.
        """
        ...


@dataclass
class Damage:
    """The places of a video that could not be read as they were recorded.

    Attributes:
        frames: how many frames are damaged or lost.
        short: how the video ends before its time; empty if it does not.
    """

    frames: int = 0
    short: str = ""
    _places: list[list[float]] = field(default_factory=list)  # number, first and last second of neighbouring frames
    _reason: str = ""
    _last: int = -2

    def add(self, number: int, seconds: float, reason: str) -> None:
        """Note a damaged or lost frame by its number, from 0, its time, and the decoder's words."""
        self.frames += 1
        if number == self._last + 1:
            self._places[-1][1] = seconds
        elif len(self._places) <= _MOST_LISTED:  # one more tells that there are others
            self._places.append([seconds, seconds])
        self._last = number
        self._reason = self._reason or reason or "no frame"

    def __str__(self) -> str:
        """In words; empty if nothing is damaged.

        >>> damage = Damage()
        >>> for number in (5, 6, 7, 90):
        ...     damage.add(number, number / 10, "slice mismatch")
        >>> str(damage)
        '4 frames are damaged (0.5 s to 0.7 s, 9 s; slice mismatch)'
        """
        words = []
        if self.frames:
            places = [f"{first:g} s" + (f" to {last:g} s" if last > first else "") for first, last in self._places]
            listed = ", ".join([*places[:_MOST_LISTED], *(["others"] if len(places) > _MOST_LISTED else [])])
            words.append(
                f"{self.frames} frame{'s are' if self.frames > 1 else ' is'} damaged ({listed}; {self._reason})"
            )
        return " and ".join([*words, *([self.short] if self.short else [])])


class Recording:
    """Frames that were recorded before, as upright RGB, to be read once and in order; see `Frames`.

    Of a video with a variable rate, `rate` is their mean as the file states it. `count` is what the file states or what
    its duration tells.

    Args:
        capture: the opened video.
        name: what is read, as messages name it.
        refuse: makes the error of a video that cannot be read, from the reason.

    Raises:
        UnreadableError: it is not open.
    """

    live = False

    def __init__(self, capture: cv2.VideoCapture, name: str, refuse: Callable[[str], UnreadableError]) -> None:
        import cv2

        if not capture.isOpened():
            raise refuse(_DAMAGED)
        self.name = name
        self.count = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.rate = stated_rate(capture, name)
        self.end = 0.0
        self.damage = Damage()
        self._capture = capture
        self._refuse = refuse

    def __iter__(self) -> Iterator[UInt8Array]:
        """The pictures of `timed`."""
        return (frame.picture for frame in self.timed())

    @property
    def drawing_rate(self) -> float:
        """The stated rate."""
        return self.rate

    def timed(self) -> Iterator[TimedFrame]:
        """The frames with their times.

        A frame that the decoder has patched up is among them, and is noted in `damage`; so is one that is lost, after
        which the others follow.

        Raises:
            UnreadableError: no frame can be read.
        """
        import cv2

        number, seconds, missed, reason = -1, 0.0, 0, ""  # of the last frame; since then
        wary = 0  # frames for which a gap of the times is taken for lost frames
        good = time.monotonic()  # when a frame was read last
        clock = Clock(1 / self.rate)
        with ExitStack() as stack:
            stack.callback(self._capture.release)
            complaints = stack.enter_context(hearing())
            while missed <= _MOST_MISSED:
                with complaints.listening():
                    found, picture = self._capture.read()
                reason = complaints.heard or reason
                if not found:
                    if not complaints.heard and number + 1 + missed >= self.count:
                        break
                    if time.monotonic() - good > _LONGEST_TRY:
                        break
                    missed += 1  # a frame that cannot be decoded at all; others may follow
                    continue
                now = clock.time(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
                wary = _WARY if missed or reason else wary - 1
                lost = round((now - seconds) * self.rate) - 1 if number >= 0 and wary > 0 else 0
                for one in range(lost):
                    self.damage.add(number + 1 + one, seconds + (one + 1) / self.rate, reason)
                number, seconds = number + 1 + max(lost, 0), now
                if reason:
                    self.damage.add(number, seconds, reason)
                missed, reason = 0, ""
                yield TimedFrame(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), seconds, number)
                good = time.monotonic()
        if number < 0:
            raise self._refuse(_EMPTY)
        self._finish(number + 1, seconds, reason)

    def _finish(self, number: int, seconds: float, reason: str) -> None:
        stated, self.end = self.count / self.rate, seconds + 1 / self.rate
        # The count may be no more than the duration times the rate, so that a variable rate has fewer frames.
        if number < self.count and self.end + 1 / self.rate < stated:
            self.damage.short = f"it ends after {number} of the {self.count} frames that it states"
        elif stated > seconds:
            self.end = stated
        if reason and not self.damage.short:
            self.damage.add(number, self.end, reason)


class VideoFrames(Recording):
    """The frames of a video file; see `Recording`.

    Raises:
        UnreadableError: the file is missing or not a video.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            msg = f"video '{path}' does not exist. Check the path."
            raise UnreadableError(msg)
        super().__init__(open_file(self.path), f"video '{path}'", partial(refusal, self.path))

    @property
    def drawing_rate(self) -> float:
        """The rate at which a constant rate shows the frames: see `usual_rate`."""
        return usual_rate(self.path, self.rate)


def stated_rate(capture: cv2.VideoCapture, name: str) -> float:
    """Frames per second as an opened video or stream states them, or a usual number, with a warning."""
    import cv2

    rate = float(capture.get(cv2.CAP_PROP_FPS))
    if math.isfinite(rate) and rate > 0:
        return rate
    _log.warning("%s states no frame rate; %.0f per second are assumed", name, _USUAL_RATE)
    return _USUAL_RATE


def usual_rate(path: str | Path, mean: float) -> float:
    """Frames per second at which a constant rate shows a video's frames: its mean rate, or a higher one.

    A recording that pauses has a low mean; it is drawn at the rate between pauses, told from its first 250 frames.

    Raises:
        UnreadableError: as `VideoFrames`.
    """
    import cv2

    capture, clock, times = open_file(Path(path)), Clock(1 / mean), list[float]()
    with hearing() as complaints, complaints.listening():  # they are told when the frames are read
        while len(times) < _LOOKED_AT and capture.grab():
            times.append(clock.time(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000))
    capture.release()
    intervals = [after - before for before, after in pairwise(times) if after > before]
    usual = 1 / median(intervals) if intervals else mean
    # Whole milliseconds make an interval of a fast video a fifth too short.
    return min(usual, _MOST_TIMES * mean) if usual > 1.25 * mean else mean
