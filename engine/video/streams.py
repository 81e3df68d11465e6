"""Frames of cameras and addresses: a recording in order, a live stream by its newest frame.

OpenCV, which comes with albumentations, is imported where it is used.
"""

from __future__ import annotations

import logging
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from engine.errors import UnreadableError
from engine.reading.images import UInt8Array
from engine.video.capture import open_address, open_camera
from engine.video.frames import Damage, Frames, Recording, TimedFrame, stated_rate

if TYPE_CHECKING:
    import cv2

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "tcp", "rtp", "srtp")
_CAMERA = re.compile(r"\d{1,2}")
_AGAIN = ("rtsp", "rtsps", "")  # cameras, which are asked again when they fall silent; "" is one of this machine
_WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before a camera is asked again
_DRAWN = 10.0  # frames per second of a live stream's video, so that writing it keeps pace
_log = logging.getLogger(__name__)
Opening = Callable[[], "cv2.VideoCapture"]


def is_stream(source: str) -> bool:
    """Whether a source is the number of a camera or an address, and no file.

    >>> is_stream("rtsp://user:word@192.168.1.7/live"), is_stream("street.mp4"), is_stream("0")
    (True, False, True)
    """
    if _CAMERA.fullmatch(source):
        return not Path(source).exists()
    return "://" in source and urlsplit(source).scheme.lower() in SCHEMES


def stream_name(source: str, at: time.struct_time) -> str:
    """The name of a stream's results: where it comes from, and when it was begun. It holds no password and no query.

    >>> stream_name("rtsp://user:word@192.168.1.7:554/live/1?key=word", time.gmtime(0))
    '192-168-1-7_live_1_19700101T000000'
    """
    at_time = time.strftime("%Y%m%dT%H%M%S", at)
    if _CAMERA.fullmatch(source):
        return f"camera{source}_{at_time}"
    parts = urlsplit(source)
    host = re.sub(r"[^A-Za-z0-9]+", "-", parts.hostname or "").strip("-")
    path = re.sub(r"[^A-Za-z0-9]+", "_", parts.path).strip("_")
    return "_".join(filter(None, (host, path, at_time)))


def shown_address(source: str) -> str:
    """A stream as messages name it: without name, password and query.

    >>> shown_address("rtsp://user:word@192.168.1.7:554/live?key=word")
    'rtsp://192.168.1.7:554/live'
    """
    if _CAMERA.fullmatch(source):
        return f"camera {source}"
    parts = urlsplit(source)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def open_stream(source: str) -> Frames:
    """The frames of a camera or an address.

    Where the source states a length, as a video on a web server does, every frame is read in order. Other streams are
    live: the frames that arrive while one is computed are left out.

    Raises:
        UnreadableError: it cannot be opened.
    """
    import cv2

    name = shown_address(source)
    opening = partial(open_camera, int(source)) if _CAMERA.fullmatch(source) else partial(open_address, source)
    scheme = "" if _CAMERA.fullmatch(source) else urlsplit(source).scheme.lower()
    capture = opening()
    if not capture.isOpened():
        raise _refusal(name, "nothing answers, or nothing that is a video")
    if scheme in ("http", "https") and capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:
        return Recording(capture, f"video '{name}'", partial(_refusal, name))
    return LiveFrames(capture, name, opening, waits=_WAITS if scheme in _AGAIN else ())


def _refusal(name: str, why: str) -> UnreadableError:
    return UnreadableError(
        f"cannot read {name}: {why}. Check that it is on, and the address with its name and password; a player such as "
        "ffplay must be able to show it."
    )


class LiveFrames:
    """The newest frame of a stream, whenever one is asked for; see `Frames`. Ctrl-C ends it.

    A thread reads on while frames are computed. A camera that falls silent is asked again, later each time.

    Args:
        capture: the opened stream.
        name: the stream, as messages name it.
        opening: opens the stream once more.
        waits: seconds to wait before it is opened once more, one for each time.
    """

    live = True
    count = 0

    def __init__(self, capture: cv2.VideoCapture, name: str, opening: Opening, waits: tuple[float, ...]) -> None:
        self.name = name
        self.rate = stated_rate(capture, name)
        self.end = 0.0
        self.damage = Damage()
        self._capture = capture
        self._opening = opening
        self._waits = waits
        self._newest: tuple[UInt8Array, float] | None = None
        self._arrival = threading.Condition()
        self._silent = False  # nothing more comes
        self._ended = threading.Event()  # nothing more is wanted

    @property
    def drawing_rate(self) -> float:
        """Frames per second that a video of it has: not more than can be written while it goes on."""
        return min(self.rate, _DRAWN)

    def timed(self) -> Iterator[TimedFrame]:
        """The frames with the times at which they arrived.

        Raises:
            UnreadableError: no frame comes.
        """
        import cv2

        reading = threading.Thread(target=self._read_on, daemon=True)
        reading.start()
        begun, number = 0.0, 0
        try:
            with _interrupt_sets(self._ended):
                while (newest := self._wait()) is not None:
                    picture, arrived = newest
                    begun = begun if number else arrived
                    number += 1
                    seconds = arrived - begun
                    self.end = seconds + 1 / self.rate
                    yield TimedFrame(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), seconds, number - 1)
        finally:
            self._ended.set()
            reading.join()
            self._capture.release()
        if not number:
            raise _refusal(self.name, "no frame comes")
        _log.info("%s ended after %d frames, %.1f s", self.name, number, self.end)

    def _wait(self) -> tuple[UInt8Array, float] | None:
        with self._arrival:
            while not self._ended.is_set():
                if self._newest is not None:
                    newest, self._newest = self._newest, None
                    return newest
                if self._silent:
                    return None
                self._arrival.wait(0.1)  # and look whether Ctrl-C was pressed
        return None

    def _read_on(self) -> None:
        waits = iter(self._waits)
        while not self._ended.is_set():
            found, picture = self._capture.read()
            if found:
                waits = iter(self._waits)
                with self._arrival:
                    self._newest = picture, time.monotonic()
                    self._arrival.notify()
                continue
            wait = next(waits, None)
            if wait is None:
                break
            _log.warning("%s is silent; it is asked again in %.0f s", self.name, wait)
            if not self._ended.wait(wait):
                self._capture.release()
                self._capture = self._opening()
        with self._arrival:
            self._silent = True
            self._arrival.notify()


@contextmanager
def _interrupt_sets(event: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C set an event; the second one interrupts as usual."""

    def handle(number: int, frame: FrameType | None) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
