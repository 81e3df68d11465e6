"""JPEG files for training, decoded by OpenCV: its array is the result, where Pillow's pixels are copied twice.

Where a picture is shown much smaller than it is, libjpeg makes fewer pixels of each block of 8 x 8 at once.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from engine.reading.images import EXIF_ORIENTATION, check_pixels
from engine.threads import opencv_on_one_thread

_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
_SPARE = (
    2  # times a smaller copy is as large as needed: Pillow's own for thumbnails, `reducing_gap` of `Image.thumbnail`
)
# ITU T.81, table B.1: frames of Huffman-coded lines, baseline, extended and progressive; EXIF's segment; start of scan.
_FRAMES, _EXIF, _SCAN = frozenset((0xC0, 0xC1, 0xC2)), 0xE1, 0xDA


def read_jpeg(
    path: Path, annotated_hw: tuple[int, int] | None = None, needed_hw: tuple[int, int] | None = None
) -> npt.NDArray[np.uint8] | None:
    """The (H, W, 3) RGB pixels of a file; None for all that is better left to Pillow.

    Both decode with libjpeg-turbo, so that the pixels are equal where their copies of it are alike. Left to Pillow are
    other kinds of files, those in grey or inks, those that are turned or cut off, and those of another size than their
    annotations.

    Args:
        path: an existing file.
        annotated_hw: height and width that the annotations state, if they state any.
        needed_hw: height and width that the picture is to be scaled to. If those are a quarter of its own or less, the
            result is a copy of a half, a quarter or an eighth of its sides, rounded up.

    Raises:
        UnreadableError: it has more pixels than may be decoded.
    """
    with path.open("rb") as file:
        if file.read(len(_START)) != _START:
            return None
        content = _START + file.read()
    size_hw = _plain_size(content)
    if size_hw is None or annotated_hw not in (None, size_hw) or not content.endswith(_END):
        return None
    check_pixels(path, size_hw)
    opencv_on_one_thread()
    import cv2  # here, as most programs never need it

    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    if needed_hw is not None:
        smaller = {
            2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
            4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
            8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
        }
        flags |= smaller.get(reduction(size_hw, needed_hw), 0)  # in grey only without a flag of colours
    try:
        # A damaged file gives None, and Pillow says what is wrong with it.
        return cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:  # more pixels than OpenCV takes, which has a limit of its own
        return None


def reduction(size_hw: tuple[int, int], needed_hw: tuple[int, int]) -> int:
    """By what the sides of a picture may be divided that is scaled to a size: 8, 4, 2 or 1.

    >>> reduction((3000, 4000), (375, 500)), reduction((3000, 4000), (376, 501))
    (4, 2)
    """
    most = min(side // (needed * _SPARE) for side, needed in zip(size_hw, needed_hw, strict=True))
    return next((by for by in (8, 4, 2) if by <= most), 1)


def _plain_size(content: bytes) -> tuple[int, int] | None:
    """Height and width of an upright file of three colours of eight bits; None for any other."""
    place = 2
    while place + 9 < len(content) and content[place] == 0xFF:
        kind, length = content[place + 1], int.from_bytes(content[place + 2 : place + 4], "big")
        if kind in _FRAMES:
            height, width = (int.from_bytes(content[place + at : place + at + 2], "big") for at in (5, 7))
            plain = content[place + 4] == 8 and content[place + 9] == 3 and height and width
            return (height, width) if plain else None
        if kind == _SCAN or (kind == _EXIF and not _upright(content[place + 4 : place + 2 + length])):
            return None
        place += 2 + length
    return None


def _upright(segment: bytes) -> bool:
    if not segment.startswith(b"Exif\0\0"):
        return b"Orientation" not in segment  # XMP's, in which Pillow looks too
    exif = Image.Exif()
    try:
        exif.load(segment)
        return bool(exif.get(EXIF_ORIENTATION, 1) == 1)
    except Exception:
        return False  # Pillow decides
