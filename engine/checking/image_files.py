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
_GREY_WH = (72, 64)  # pixels, at least, that a picture is decoded at for its look: 8 x 8 for each of the thumbnail's
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
    digest = hashlib.sha256(content).digest()
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
    stored_hw, mode = (image.height, image.width), image.mode
    try:
        turned = int(image.getexif().get(_TURNED, 1))
        grey = _small_grey(image)
    except (OSError, ValueError, SyntaxError):
        return ImageFacts((Finding("image.truncated", "error", name, "ends early, or is damaged"),), digest=digest)
    size_hw = stored_hw[::-1] if turned in _SWAPS_SIDES else stored_hw
    thumbnail = _thumbnail(grey)
    kind = _SAME_FORMAT.get(image.format or "", image.format)
    lies = Image.registered_extensions().get(path.suffix.lower()) != kind
    suffix = f".{kind.lower()}".replace("jpeg2000", "jp2") if lies and kind is not None else None
    found = [*_of_the_file(image, name, mode, turned, suffix), *_of_the_size(name, size_hw)]
    # A picture whose thumbnail is not flat is not flat itself, which spares a look at all pixels.
    if _is_flat(thumbnail) and _is_flat(np.asarray(open_picture(io.BytesIO(content)).convert("L"))):
        found.append(_uniform(name, thumbnail))
    return ImageFacts(tuple(found), size_hw, digest, look_of(thumbnail), turned not in (0, 1), stored_hw, suffix)


def _small_grey(image: Image.Image) -> Image.Image:
    """The grey of a picture, of which all bytes are decoded; of a JPEG an eighth of its sides may be enough.

    libjpeg reads all of a file, but spares the colours and the pixels of each block of 8 x 8 that nobody asks for.
    """
    if image.mode in _USUAL_MODES:
        image.draft("L", _GREY_WH)  # does nothing to other formats
    image.load()
    return image.convert("L")


def _of_the_file(image: Image.Image, name: str, mode: str, turned: int, suffix: str | None) -> Iterator[Finding]:
    if suffix is not None:
        yield Finding("image.suffix", "warning", name, f"is {image.format} inside")
    if mode not in _USUAL_MODES:
        yield Finding("image.mode", "note", name, f"has the mode {mode}")
    if turned not in (0, 1):
        yield Finding("image.exif_rotated", "warning", name, f"is turned by EXIF orientation {turned}")
    if image.format != "MPO" and _has_more(image):
        yield Finding("image.frames", "warning", name, "has several frames, of which the first is taken")


def _of_the_size(name: str, size_hw: tuple[int, int]) -> Iterator[Finding]:
    low, high = sorted(size_hw)
    if low < SMALL:
        yield Finding("image.small", "warning", name, f"is {size_hw[1]} x {size_hw[0]} pixels (width x height)")
    if high > LONG * low:
        yield Finding("image.long", "warning", name, f"is {size_hw[1]} x {size_hw[0]} pixels (width x height)")


def _is_flat(grey: npt.NDArray[np.integer]) -> bool:
    return int(np.ptp(grey)) <= _FLAT


def _uniform(name: str, thumbnail: npt.NDArray[np.int16]) -> Finding:
    return Finding("image.uniform", "warning", name, f"has one colour, a grey of {int(thumbnail[0, 0])}")


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
    found = [*_of_the_size(name, size_hw)]
    if _is_flat(thumbnail) and _is_flat(np.asarray(grey)):
        found.append(_uniform(name, thumbnail))
    return ImageFacts(tuple(found), size_hw, digest, look_of(thumbnail), False, size_hw)


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
