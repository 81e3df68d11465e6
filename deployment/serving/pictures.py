"""Images from strangers: what a header says is checked before anything is decoded, and then they are read."""

from __future__ import annotations

import io

from PIL import UnidentifiedImageError

from deployment.serving.limits import RefusedError
from engine.reading.images import FORMATS, UInt8Array, open_picture, opened, upright_rgb
from engine.reading.reader import PixelReader

BODY = "body"  # what messages call the file

# A progressive JPEG decodes all its pixels once for each of its scans; libjpeg-turbo's own tools advise a limit of some
# hundred against files of thousands ("Two Issues with the JPEG Standard", libjpeg-turbo.org/About/TwoIssues).
MOST_SCANS = 100
_START_OF_SCAN = b"\xff\xda"  # ITU-T T.81, B.1.1.3; within a scan's own data 0xFF is followed by 0
# Pillow reads a header piece by piece in Python, some microseconds each, and a file may consist of nothing else.
MOST_PIECES = 20_000
_BYTES_OF_A_PIECE = 256  # for each of these a large file may have one more; PNG's chunks of pixels have thousands


class BoundedFile(io.BytesIO):
    """A file in memory that is read in a bounded number of pieces.

    Args:
        content: the file.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._left = MOST_PIECES + len(content) // _BYTES_OF_A_PIECE

    def read(self, size: int | None = -1) -> bytes:
        """As any file.

        Raises:
            RefusedError: it was asked too often.
        """
        self._left -= 1
        if self._left < 0:
            msg = f"the image's file is cut into more than {MOST_PIECES:,} pieces. Save it again."
            raise RefusedError(400, msg)
        return super().read(size)


def pixels_of_stranger(content: bytes, reader: PixelReader) -> UInt8Array:
    """The (H, W, 3) uint8 RGB pixels of an image whose header has been checked.

    Raises:
        InputError: it cannot be read.
    """
    with opened(BODY, "image", BoundedFile(content)) as picture:
        return upright_rgb(picture, BODY, None, reader.reading.value_range)


def check_header(content: bytes, most_pixels: int) -> None:
    """Do nothing if an image may be decoded.

    Args:
        content: the file.
        most_pixels: height times width at most.

    Raises:
        RefusedError: it is no image of a known kind, its header is damaged, it has too many pixels, or it asks for more
            work than its size tells.
    """
    try:
        with open_picture(BoundedFile(content)) as image:
            width, height, kind = image.width, image.height, image.format
    except RefusedError:
        raise
    except UnidentifiedImageError:
        msg = f"the body is no image of a known kind; allowed: {', '.join(FORMATS)}. Send the bytes of such a file."
        raise RefusedError(415, msg) from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        msg = f"the image's header is damaged: {str(error).rstrip('.')}. Repair the file."
        raise RefusedError(400, msg) from error
    if width * height > most_pixels:
        msg = (
            f"the image has {width} x {height} pixels, {width * height:,} in all; allowed: {most_pixels:,}. Send a "
            "smaller one, or start the server with --max_pixels."
        )
        raise RefusedError(413, msg)
    if kind in ("JPEG", "MPO") and (scans := content.count(_START_OF_SCAN)) > MOST_SCANS:
        msg = f"the JPEG has {scans:,} scans; allowed: {MOST_SCANS}. Save it again."
        raise RefusedError(400, msg)
