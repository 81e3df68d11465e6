"""Which files are videos, told by their first bytes, so that nothing else reaches the decoder.

FFmpeg, which OpenCV decodes with, takes a text file of any name for a list of other files or addresses (HLS, ffconcat,
SDP). Such files hold no video themselves and are not opened.
"""

from __future__ import annotations

from pathlib import Path

VIDEO_SUFFIXES = frozenset(
    (
        ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts",
        ".webm", ".wmv",
    )
)  # fmt: skip

# Files of the ISO base media format (ISO/IEC 14496-12) that hold pictures: AVIF, HEIF and Canon's raw files.
_PICTURE_BRANDS = frozenset(
    (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1", b"crx ")
)
_QUICKTIME_BOXES = frozenset((b"moov", b"mdat", b"wide", b"skip", b"free"))  # older than the box `ftyp`
_STARTS = (
    (b"\x1aE\xdf\xa3", "matroska"),
    (b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\x00\xaa\x00b\xcel", "asf"),
    (b"\0\0\x01\xba", "mpeg"), (b"\0\0\x01\xb3", "mpegvideo"), (b"FLV\x01", "flv"), (b"OggS", "ogg"),
)  # fmt: skip
_PACKETS = 4  # of a transport stream, that have to begin with its sync byte; a GIF begins with it, too
_START_BYTES = 192 * _PACKETS


def demuxer_of(path: Path) -> str | None:
    """FFmpeg's reader for a video by its first bytes, whatever its suffix; None if it is no video of a known kind.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    box = start[4:8]
    if box == b"ftyp":
        return None if start[8:12] in _PICTURE_BRANDS else "mov"
    if box in _QUICKTIME_BOXES:
        return "mov"
    if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        return "avi"
    for packet, sync in ((188, 0), (192, 4)):  # 192: a time of 4 bytes precedes each packet (M2TS, MTS)
        if start[sync::packet][:_PACKETS] == b"G" * _PACKETS:
            return "mpegts"
    return next((demuxer for magic, demuxer in _STARTS if start.startswith(magic)), None)


def is_video(path: Path) -> bool:
    """Whether a file is a video: by its content, or by its suffix where the content says nothing.

    >>> is_video(Path("no/such/file.MTS")), is_video(Path("no/such/file.jpg"))
    (True, False)
    """
    try:
        known = path.is_file() and demuxer_of(path) is not None
    except OSError:
        known = False  # the code that reads the file says what is wrong with it
    return known or path.suffix.lower() in VIDEO_SUFFIXES
