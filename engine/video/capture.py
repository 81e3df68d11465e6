"""Videos and streams are opened here and nowhere else, by the one reader of FFmpeg that each calls for.

OpenCV, which comes with albumentations, is imported where it is used.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING

from engine.errors import UnreadableError
from engine.video.files import demuxer_of

if TYPE_CHECKING:
    import cv2

_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"  # key;value|key;value, read when a video is opened
_OPENING = Lock()  # the environment is one for all threads
_HEARING = Lock()  # so is standard error
_STANDARD_ERROR = 2
_UNKNOWN = "its content is no video of a known kind"
_COMPLAINT = re.compile(rb"\[[\w,.-]+ @ 0x[0-9a-f]+\] (.*)")
_RENAMED = b"OpenCV: FFMPEG: tag "  # FFmpeg has another name for a codec in WebM; it takes that
_SILENCE_MS = 10_000  # after which a stream that says nothing has ended; FFmpeg's own is half a minute
# What may come over an address that the user gave. No protocol of files: a list that a server gives names none here.
_PROTOCOLS = "rtsp,rtsps,rtp,srtp,udp,tcp,tls,http,https,httpproxy,crypto,rtmp,rtmps"
_FORMATS = "rtsp,rtp,sdp,hls,mpegts,mjpeg,mpjpeg,flv,mov,mp4,matroska,webm,avi,mpeg,ogg,live_flv,h264,hevc"


def refusal(path: Path, why: str) -> UnreadableError:
    """The error of a video that cannot be read."""
    # Not advised without a word: ffmpeg follows a list of addresses wherever it leads.
    trusted = "If it is a video of another kind that you trust," if why == _UNKNOWN else "To try another decoder,"
    return UnreadableError(
        f"cannot read video '{path}': {why}; MP4, MOV, AVI, MKV, WebM, WMV, MPEG, FLV and Ogg files are read. "
        f"{trusted} convert it to MP4: ffmpeg -i {shlex.quote(str(path))} converted.mp4"
    )


def open_file(path: Path) -> cv2.VideoCapture:
    """Open a video with the one reader that its first bytes call for, which opens no other file and no address.

    It is decoded in the thread that reads it, so that what the decoder complains of belongs to that frame.

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
        raise refusal(path, _UNKNOWN)
    ours = f"input_format;{demuxer}|format_whitelist;{demuxer}|protocol_whitelist;file|enable_drefs;0"
    # No other backend: some take a name with digits for a series of pictures. Absolute: `concat:a` asks more.
    return _opened(str(path.absolute()), ours, [cv2.CAP_PROP_N_THREADS, 1])


def open_address(address: str) -> cv2.VideoCapture:
    """Open an address that the user gave, such as `rtsp://…` or `http://…`; it names no file of this machine.

    A playlist (HLS) at the address may lead to other addresses, but to no file.
    """
    import cv2

    ours = f"protocol_whitelist;{_PROTOCOLS}|format_whitelist;{_FORMATS}|rtsp_transport;tcp"
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _SILENCE_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _SILENCE_MS]
    return _opened(address, ours, [*limits, cv2.CAP_PROP_N_THREADS, 1])


def open_camera(number: int) -> cv2.VideoCapture:
    """Open a camera of this machine by its number, from 0."""
    import cv2

    return cv2.VideoCapture(number)


def _opened(source: str, options: str, parameters: Sequence[int]) -> cv2.VideoCapture:
    import cv2

    with _OPENING:
        before = os.environ.get(_OPTIONS)
        os.environ[_OPTIONS] = f"{before}|{options}" if before else options
        try:
            return cv2.VideoCapture(source, cv2.CAP_FFMPEG, parameters)
        finally:
            if before is None:
                del os.environ[_OPTIONS]
            else:
                os.environ[_OPTIONS] = before


@contextmanager
def hearing() -> Iterator[Complaints]:
    """What a decoder will complain of."""
    with tempfile.TemporaryFile(buffering=0) as file:
        yield Complaints(file)


class Complaints:
    """What a decoder complains of while a frame is read.

    OpenCV returns a frame that FFmpeg has patched up like any other; FFmpeg tells of it on standard error alone.

    Args:
        file: takes the place of standard error; see `hearing`.

    Attributes:
        heard: the last complaint within `listening`; empty where there was none.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.heard = ""
        self._file = file

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear what is said on the process's standard error; what is not FFmpeg's is passed on.

        Where another thread listens, or there is no standard error, nothing is heard.
        """
        self.heard = ""
        if not _HEARING.acquire(blocking=False):
            yield
            return
        try:
            saved = _replaced(self._file.fileno())
            try:
                yield
            finally:
                if saved is not None:
                    os.dup2(saved, _STANDARD_ERROR)
                    os.close(saved)
                    self._sort()
        finally:
            _HEARING.release()

    def _sort(self) -> None:
        if not os.fstat(self._file.fileno()).st_size:
            return
        self._file.seek(0)
        for line in self._file.read().splitlines(keepends=True):
            complaint = _COMPLAINT.match(line)
            if line.startswith(_RENAMED):
                continue
            if complaint is None:
                os.write(_STANDARD_ERROR, line)
            else:
                self.heard = complaint[1].decode(errors="replace").strip()
        self._file.seek(0)
        self._file.truncate()


def _replaced(other: int) -> int | None:
    """Put another file in the place of standard error; returns what was there, None if nothing was."""
    try:
        saved = os.dup(_STANDARD_ERROR)
    except OSError:
        return None
    os.dup2(other, _STANDARD_ERROR)
    return saved
