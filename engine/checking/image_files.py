"""Facts of image files, each read and decoded once, in threads: Pillow decodes without holding the interpreter."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from engine.checking.findings import Finding
from engine.errors import UnreadableError
from engine.reading.images import check_pixels, open_picture
from engine.threads import free_cores

_TURNED = 0x0112  # EXIF tag 274, orientation
_USUAL_MODES = {"RGB", "L"}


@dataclass(frozen=True)
class ImageFacts:
    """What one reading of a file tells.

    Attributes:
        findings: faults of the file itself.
        size_hw: height and width upright; None where it cannot be read.
        digest: hash of the bytes.
        look: 64 bits of the picture, for near duplicates; None where it has too little contrast to tell.
    """

    findings: tuple[Finding, ...] = ()
    size_hw: tuple[int, int] | None = None
    digest: bytes | None = None
    look: int | None = None


def read_facts(path: Path) -> ImageFacts:
    """Read and decode one file; faults become findings."""
    name = str(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ImageFacts((Finding("image.missing", "error", name, "there is no such file"),))
    except OSError as error:
        return ImageFacts((Finding("image.unreadable", "error", name, error.strerror or "cannot be read"),))
    if not content:
        return ImageFacts((Finding("image.empty", "error", name, "has no bytes"),))
    digest = hashlib.blake2b(content, digest_size=16).digest()
    try:
        image = open_picture(io.BytesIO(content))
    except (OSError, ValueError, SyntaxError):  # Pillow's decoders raise all of them
        return ImageFacts((Finding("image.unreadable", "error", name, "is no image that can be read"),), digest=digest)
    try:
        check_pixels(path, (image.height, image.width))
    except UnreadableError:
        detail = f"has {image.width} x {image.height} pixels, more than are read"
        return ImageFacts((Finding("image.large", "error", name, detail),), digest=digest)
    try:
        turned = image.getexif().get(_TURNED, 1)
        image.load()
    except (OSError, ValueError, SyntaxError):
        return ImageFacts((Finding("image.truncated", "error", name, "ends early, or is damaged"),), digest=digest)
    found = []
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind != image.format:
        found.append(Finding("image.suffix", "warning", name, f"is {image.format} inside"))
    if image.mode not in _USUAL_MODES:
        found.append(Finding("image.mode", "note", name, f"has the mode {image.mode}"))
    size_hw = image.height, image.width
    if turned in (5, 6, 7, 8):
        size_hw = image.width, image.height
    if turned not in (0, 1):
        found.append(Finding("image.exif_rotated", "warning", name, f"is turned by EXIF orientation {turned}"))
    return ImageFacts(tuple(found), size_hw, digest, look_of(image))


def look_of(image: Image.Image) -> int | None:
    """The difference hash: whether each of 9 x 8 grey pixels is darker than its right neighbour, 64 bits.

    Source: N. Krawetz, "Kind of like that" (2013). A picture of one colour has no look.
    """
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    if int(np.ptp(grey)) < 8:
        return None
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes())


def read_all(paths: Sequence[Path]) -> list[ImageFacts]:
    """The facts of all files, in their order, with a progress bar on a terminal."""
    Image.init()  # all of Pillow's formats, which threads would otherwise wait to import
    with ThreadPoolExecutor(free_cores()) as pool:
        return list(tqdm(pool.map(read_facts, paths), "reading images", len(paths), leave=False, disable=None))
