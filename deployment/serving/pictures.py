"""What an image's header says, before anything is decoded."""

from __future__ import annotations

import io

from PIL import UnidentifiedImageError

from deployment.serving.limits import RefusedError
from engine.reading.images import FORMATS, open_picture

# A progressive JPEG decodes all its pixels once for each of its scans; libjpeg-turbo's own tools advise a limit of some
# hundred against files of thousands ("Two Issues with the JPEG Standard", libjpeg-turbo.org/About/TwoIssues).
MOST_SCANS = 100
_START_OF_SCAN = b"\xff\xda"  # ITU-T T.81, B.1.1.3; within a scan's own data 0xFF is followed by 0


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
        with open_picture(io.BytesIO(content)) as image:
            width, height, kind = image.width, image.height, image.format
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
