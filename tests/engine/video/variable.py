"""Videos of variable frame rate and of phones, made by rewriting boxes of an MP4 (ISO/IEC 14496-12), for the tests."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np

PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"stbl")
# The matrices of `tkhd` for clockwise turns; the third column has 30 fractional bits, the others 16.
TURNS = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


def rewritten(data, change):
    """Boxes with other content and their right sizes; those for which `change` returns None are left out."""
    out, at = b"", 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + size]
        body = rewritten(body, change) if kind in PARENTS else change(kind, body)
        if body is not None:
            out += struct.pack(">I4s", len(body) + 8, kind) + body
        at += size
    return out


def turned(header: bytes, turn: int) -> bytes:
    """The content of a track's header by which a player turns it clockwise."""
    a, b, c, d = TURNS[turn]
    matrix = struct.pack(">9i", *(v << 16 for v in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)
    return header[:40] + matrix + header[76:]


def write_video(path: Path, pictures, durations_ms=None, turn: int = 0, codec: str = "mp4v", rate: float = 25) -> Path:
    """An MP4 whose frames last for these milliseconds, and which a player turns clockwise."""
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), rate, (width, height))
    assert writer.isOpened()
    for picture in pictures:
        writer.write(np.ascontiguousarray(picture[..., ::-1]))
    writer.release()
    if durations_ms is None:
        return path
    assert len(durations_ms) == len(pictures)
    total = sum(durations_ms)

    def change(kind, body):
        if kind == b"edts":
            return None
        if kind == b"stts":
            entries = b"".join(struct.pack(">II", 1, duration) for duration in durations_ms)
            return struct.pack(">II", 0, len(durations_ms)) + entries
        if kind in (b"mdhd", b"mvhd"):
            return body[:12] + struct.pack(">II", 1000, total) + body[20:]
        if kind == b"tkhd":
            return turned(body[:20] + struct.pack(">I", total) + body[24:], turn)
        return body

    path.write_bytes(rewritten(path.read_bytes(), change))
    return path


def lead_elsewhere(path: Path, other: Path) -> Path:
    """An MP4 without pictures of its own, which refers to those of another by a QuickTime alias."""
    name, target = other.name.encode(), str(other).encode()
    alias = bytes(10) + b"\1" + b"x".ljust(27, b"\0") + bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0")
    alias += bytes(16) + struct.pack(">hh", 1, 1) + bytes(16)
    for kind, place in ((2, b"x:" + target[1:].replace(b"/", b":")), (18, target)):
        alias += struct.pack(">hH", kind, len(place)) + place + bytes(len(place) % 2)
    alias += struct.pack(">hH", -1, 0)

    def change(kind, body):
        if kind == b"dref":
            return struct.pack(">II", 0, 1) + struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
        return body

    data = rewritten(other.read_bytes(), change)
    begin, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    path.write_bytes(data[:begin] + bytes(end - begin) + data[end:])
    return path
