"""Facts of image files, each read and decoded once, in threads: Pillow decodes without holding the interpreter."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from engine.checking.findings import Finding
from engine.errors import InputError, UnreadableError
from engine.reading.images import check_pixels, open_picture
from engine.reading.kinds import is_raster
from engine.reading.reader import PixelReader
from engine.threads import free_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

SMALL = 32  # pixels; a picture with a shorter side is rather an icon
LONG = 20.0  # a picture that is so many times as wide as high, or as high as wide
_TURNED = 0x0112  # EXIF tag 274, orientation
_SWAPS_SIDES = (5, 6, 7, 8)
_USUAL_MODES = {"RGB", "L"}
_OF_RASTERS = {"TIFF", "JPEG2000"}  # formats of pictures and of rasters
_FLAT = 2  # grey values between the darkest and the brightest pixel of a picture that shows nothing
_FAINT = 8  # the same of a thumbnail whose look tells nothing
_SAME_FORMAT = {"MPO": "JPEG"}  # several JPEGs in one file, as telephones write them


@dataclass(frozen=True)
class ImageFacts:
    """What one reading of a file tells.

    Attributes:
        findings: faults of the file itself.
        size_hw: height and width upright; None where it cannot be read.
        digest: hash of the bytes.
        look: 64 bits of the picture, for near duplicates; None where it has too little contrast to tell.
        turned: whether EXIF data turn the picture.
        stored_hw: height and width as stored, before EXIF data turn it.
        suffix: the suffix that the content asks for, with its dot, where the file has another.
    """

    findings: tuple[Finding, ...] = ()
    size_hw: tuple[int, int] | None = None
    digest: bytes | None = None
    look: int | None = None
    turned: bool = False
    stored_hw: tuple[int, int] | None = None
    suffix: str | None = None


def read_facts(path: Path, read: PixelReader = PixelReader()) -> ImageFacts:
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
        image = None
    if (image is None or image.format in _OF_RASTERS) and _is_raster(path):
        return _raster_facts(path, digest, read)
    if image is None:
        return ImageFacts((Finding("image.unreadable", "error", name, "is no image that can be read"),), digest=digest)
    try:
        check_pixels(path, (image.height, image.width))
    except UnreadableError:
        detail = f"has {image.width} x {image.height} pixels, more than are read"
        return ImageFacts((Finding("image.large", "error", name, detail),), digest=digest)
    try:
        turned = int(image.getexif().get(_TURNED, 1))
        image.load()
    except (OSError, ValueError, SyntaxError):
        return ImageFacts((Finding("image.truncated", "error", name, "ends early, or is damaged"),), digest=digest)
    stored_hw = image.height, image.width
    size_hw = (image.width, image.height) if turned in _SWAPS_SIDES else stored_hw
    grey = image.convert("L")
    thumbnail = _thumbnail(grey)
    kind = _SAME_FORMAT.get(image.format or "", image.format)
    lies = Image.registered_extensions().get(path.suffix.lower()) != kind
    suffix = f".{kind.lower()}".replace("jpeg2000", "jp2") if lies and kind is not None else None
    found = [*_of_the_file(image, name, turned, suffix), *_of_the_picture(grey, thumbnail, name, size_hw)]
    return ImageFacts(tuple(found), size_hw, digest, look_of(thumbnail), turned not in (0, 1), stored_hw, suffix)


def _of_the_file(image: Image.Image, name: str, turned: int, suffix: str | None) -> Iterator[Finding]:
    if suffix is not None:
        yield Finding("image.suffix", "warning", name, f"is {image.format} inside")
    if image.mode not in _USUAL_MODES:
        yield Finding("image.mode", "note", name, f"has the mode {image.mode}")
    if turned not in (0, 1):
        yield Finding("image.exif_rotated", "warning", name, f"is turned by EXIF orientation {turned}")
    if image.format != "MPO" and _has_more(image):
        yield Finding("image.frames", "warning", name, "has several frames, of which the first is taken")


def _of_the_picture(
    grey: Image.Image, thumbnail: npt.NDArray[np.int16], name: str, size_hw: tuple[int, int]
) -> Iterator[Finding]:
    low, high = sorted(size_hw)
    if low < SMALL:
        yield Finding("image.small", "warning", name, f"is {size_hw[1]} x {size_hw[0]} pixels (width x height)")
    if high > LONG * low:
        yield Finding("image.long", "warning", name, f"is {size_hw[1]} x {size_hw[0]} pixels (width x height)")
    # A picture whose thumbnail is not flat is not flat itself, which spares a look at all pixels.
    if int(np.ptp(thumbnail)) <= _FLAT and int(np.ptp(np.asarray(grey))) <= _FLAT:
        yield Finding("image.uniform", "warning", name, f"has one colour, a grey of {int(thumbnail[0, 0])}")


def _has_more(image: Image.Image) -> bool:
    """Whether a second frame can be read."""
    try:
        image.seek(1)
    except (EOFError, OSError, ValueError, SyntaxError):
        return False
    return True


def _is_raster(path: Path) -> bool:
    try:
        return is_raster(path)
    except (InputError, OSError):
        return False


def _raster_facts(path: Path, digest: bytes, read: PixelReader) -> ImageFacts:
    """The same of a raster, which is read as training reads it."""
    name = str(path)
    try:
        image = read(path)
    except InputError as error:
        return ImageFacts((Finding("image.unreadable", "error", name, str(error)),), digest=digest)
    size_hw = image.shape[0], image.shape[1]
    grey = Image.fromarray(image).convert("L")
    thumbnail = _thumbnail(grey)
    found = tuple(_of_the_picture(grey, thumbnail, name, size_hw))
    return ImageFacts(found, size_hw, digest, look_of(thumbnail), False, size_hw)


def _thumbnail(grey: Image.Image) -> npt.NDArray[np.int16]:
    """(8, 9) the mean grey of as many parts of a picture."""
    return np.asarray(grey.resize((9, 8), Image.Resampling.BOX), np.int16)


def look_of(thumbnail: npt.NDArray[np.int16]) -> int | None:
    """The difference hash: whether each of 9 x 8 grey pixels is darker than its right neighbour, 64 bits.

    Source: N. Krawetz, "Kind of like that" (2013). A picture of one colour has no look.
    """
    if int(np.ptp(thumbnail)) < _FAINT:
        return None
    return int.from_bytes(np.packbits(thumbnail[:, 1:] > thumbnail[:, :-1]).tobytes())


def in_threads(work: Callable[[Item], Result], items: Sequence[Item], title: str) -> list[Result]:
    """The results of many items in their order, with a progress bar on a terminal.

    Args:
        work: reads and decodes one item, which leaves the interpreter to other threads.
        items: what is read.
        title: what the bar is called.
    """
    Image.init()  # all of Pillow's formats, which threads would otherwise wait to import
    with ThreadPoolExecutor(free_cores()) as pool:
        return list(tqdm(pool.map(work, items), title, len(items), leave=False, disable=None))


def read_all(paths: Sequence[Path], read: PixelReader = PixelReader()) -> list[ImageFacts]:
    """The facts of all files, in their order; a file that is named twice is read once.

    Args:
        paths: the files.
        read: reads rasters, whose bands and values may be given.
    """
    once = list(dict.fromkeys(paths))
    facts = dict(zip(once, in_threads(partial(read_facts, read=read), once, "reading images"), strict=True))
    return [facts[path] for path in paths]
