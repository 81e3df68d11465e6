"""Images on the network's canvas and back: read any image upright, resize it in one way, and letter-box it.

Validation and prediction go through the same `resize`. Training takes torch's antialiased filter, which gives the same
but for 1 to 2 of 255 (`engine.data.crop`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from engine.errors import InputError, SizeError, UnreadableError

IMAGE_SUFFIXES = frozenset(
    (
        ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff",
        ".webp",
    )
)  # fmt: skip

# Formats of pictures that Pillow decodes itself or by a library, without another program and without a network.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_UNKNOWN = f"it is no image of a known kind ({', '.join(FORMATS)})"
MOST_PIXELS_NAME = "EFFDENSE_MAX_PIXELS"
MOST_PIXELS = 500_000_000  # a scan of 25,000 x 20,000; as RGB one and a half gigabytes
_OPENING = Lock()  # Pillow's limit is one for all threads

Scalar = TypeVar("Scalar", bound=np.generic)
UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

EXIF_ORIENTATION = 0x0112
# EXIF 2.32, tag Orientation: the change that turns the stored rows and columns into the upright picture.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS_SIDES = frozenset((5, 6, 7, 8))
_WHITE = (255, 255, 255, 255)


def read_image(
    path: str | Path,
    annotated_hw: tuple[int, int] | None = None,
    value_range: tuple[float, float] | None = None,
) -> UInt8Array:
    """Read an image file of any common mode as upright RGB.

    Transparent pixels are laid on white; 16-bit grey is divided by 257, so that 65535 becomes 255; of several
    frames the first is taken. Boxes are only valid in the frame that they were drawn in: where `annotated_hw`
    is the size of the stored pixels and not that of the upright picture, the EXIF rotation is left out.

    Args:
        path: the image file.
        annotated_hw: height and width that the annotations state, if they state any.
        value_range: values of 16-bit grey that become 0 and 255, in place of 0 and 65535.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InputError: the file is missing, is no image, is truncated or has a mode without an agreed range (float), or
            `annotated_hw` is the size of neither frame.
    """
    with opened(path) as image:
        return upright_rgb(image, path, annotated_hw, value_range)


def upright_rgb(
    image: Image.Image,
    name: str | Path,
    annotated_hw: tuple[int, int] | None = None,
    value_range: tuple[float, float] | None = None,
) -> UInt8Array:
    """As `read_image`, of an image that Pillow has opened and that messages call `name`."""
    orientation = _orientation(image)
    upright_hw = _upright_hw(image, orientation)
    if annotated_hw is not None and annotated_hw != upright_hw:
        if annotated_hw != (image.height, image.width):
            raise wrong_size(name, upright_hw, annotated_hw)
        orientation = 1
    rgb = _to_rgb(image, name, value_range)
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    return np.array(rgb)


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width of the upright image, read from the header alone.

    Raises:
        InputError: the file is missing or is no image.
    """
    with opened(path) as image:
        return _upright_hw(image, _orientation(image))


def is_turned(path: str | Path) -> bool:
    """Whether its EXIF data turn a picture.

    Raises:
        InputError: the file is missing or is no image.
    """
    with opened(path) as image:
        return _orientation(image) in _UPRIGHT


def open_picture(file: str | Path | BinaryIO) -> Image.Image:
    """Open a picture by its content, if it is of a format that only Pillow's own decoders read.

    Other formats, such as EPS, would start another program. Pillow's own limit of pixels is left out: see `opened`.

    Args:
        file: a path or an open file.

    Raises:
        OSError: it is no picture of these formats; Pillow's decoders raise other exceptions too.
    """
    with _OPENING:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=_known_formats())
        finally:
            Image.MAX_IMAGE_PIXELS = limit


@cache
def _known_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def most_pixels() -> int:
    """The pixels that a picture may have: those of the environment variable, or else half a billion.

    Raises:
        InputError: the variable is no whole number above 0.
    """
    given = os.environ.get(MOST_PIXELS_NAME, str(MOST_PIXELS))
    if not given.isdecimal() or not int(given):
        msg = f"{MOST_PIXELS_NAME} is '{given}'; allowed: a whole number of pixels above 0."
        raise InputError(msg)
    return int(given)


def check_pixels(path: str | Path, size_hw: tuple[int, int], what: str = "image") -> None:
    """Do nothing if a picture may be decoded whole.

    Raises:
        UnreadableError: it has more pixels than `most_pixels`.
    """
    height, width = size_hw
    most = most_pixels()
    if height * width > most:
        msg = (
            f"{what} '{path}' has {width} x {height} pixels, {_millions(height * width)} in all; the limit is "
            f"{_millions(most)}, as a small file can ask for any amount of memory. Set "
            f"{MOST_PIXELS_NAME} to a larger number of pixels if the file is yours."
        )
        raise UnreadableError(msg)


def _millions(pixels: int) -> str:
    return f"{pixels / 1e6:,.0f} million"


@contextmanager
def opened(path: str | Path, what: str = "image", content: BinaryIO | None = None) -> Iterator[Image.Image]:
    """The file as Pillow opens it, for as long as the block lasts; decoding happens inside it.

    Args:
        path: the file.
        what: the kind of file, as a message names it.
        content: the content of the file, if it is not read from the path.

    Raises:
        InputError: the file is missing, is no image or is damaged.
    """
    try:
        with open_picture(content or path) as image:
            check_pixels(path, (image.height, image.width), what)
            yield image
    except InputError:
        raise
    except FileNotFoundError as error:
        msg = f"{what} '{path}' does not exist. Check the path."
        raise UnreadableError(msg) from error
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError and more.
        known = not isinstance(error, UnidentifiedImageError)
        reason = (getattr(error, "strerror", None) or error) if known else _UNKNOWN
        msg = f"cannot read {what} '{path}': {reason}. Repair the file or leave it out."
        raise UnreadableError(msg) from error


def wrong_size(path: str | Path, upright_hw: tuple[int, int], annotated_hw: tuple[int, int]) -> SizeError:
    """The error of an image that has another size than its annotations state."""
    msg = (
        f"image '{path}' is {upright_hw[1]}x{upright_hw[0]} (width x height) but its annotations "
        f"say {annotated_hw[1]}x{annotated_hw[0]}. Give the images that were annotated or correct the annotations."
    )
    return SizeError(msg, upright_hw)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:
        # A damaged EXIF block says nothing about the orientation, but the pixels are intact.
        return 1


def _upright_hw(image: Image.Image, orientation: int) -> tuple[int, int]:
    return (image.width, image.height) if orientation in _SWAPS_SIDES else (image.height, image.width)


def _to_rgb(image: Image.Image, path: str | Path, value_range: tuple[float, float] | None) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _grey16_to_rgb(image, path, value_range)
    if image.mode == "F":
        msg = f"image '{path}' has float pixels, which have no agreed range. Save it with 8 or 16 bits."
        raise InputError(msg)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, _WHITE), rgba).convert("RGB")
    return image.convert("RGB")


def to_8_bits(values: npt.NDArray[Scalar], value_range: tuple[float, float]) -> UInt8Array:
    """Values of any number type with the two of the range as 0 and 255, those beyond them clipped, to the nearest."""
    low, high = value_range
    scaled = (values.astype(np.float32) - low) * (255 / (high - low))
    eight: UInt8Array = np.clip(scaled + 0.5, 0, 255).astype(np.uint8)
    return eight


def _grey16_to_rgb(image: Image.Image, path: str | Path, value_range: tuple[float, float] | None) -> Image.Image:
    grey = np.asarray(image)
    if value_range is not None:
        return Image.fromarray(to_8_bits(grey, value_range)).convert("RGB")
    low, high = int(grey.min()), int(grey.max())
    if low < 0 or high > 65535:
        msg = f"grey image '{path}' has values {low} to {high}; allowed are 0 to 65535. Save it with 16 bits."
        raise InputError(msg)
    return Image.fromarray(((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")


def resize(image: UInt8Array, size_hw: tuple[int, int]) -> UInt8Array:
    """Resize with Pillow's antialiased bilinear filter, the one resampler of validation and prediction.

    Args:
        image: (H, W, 3) or (H, W) uint8.
        size_hw: height and width of the result.

    Returns:
        `size_hw` pixels, uint8, as many channels as `image`.
    """
    if size_hw == image.shape[:2]:
        return image
    return np.array(Image.fromarray(image).resize((size_hw[1], size_hw[0]), Image.Resampling.BILINEAR))


def resize_labels(
    labels: npt.NDArray[Scalar],
    scaled_hw: tuple[int, int],
    crop_hw: tuple[int, int] | None = None,
    offset_yx: tuple[int, int] = (0, 0),
) -> npt.NDArray[Scalar]:
    """Resize an (H, W[, L]) label mask by taking the label under each pixel's centre, as labels cannot be mixed.

    Args:
        labels: (H, W[, L]) of any type.
        scaled_hw: height and width that the whole mask is scaled to.
        crop_hw: height and width of the part that is returned, by default all.
        offset_yx: where that part starts, in scaled pixels.
    """
    rows, columns = (
        nearest_places(count, offset, side, scaled)
        for count, offset, side, scaled in zip(
            crop_hw or scaled_hw, offset_yx, labels.shape[:2], scaled_hw, strict=True
        )
    )
    return labels.take(rows, 0).take(columns, 1)  # one after the other, in a third of the time of both at once


def nearest_places(count: int, offset: int, side: int, scaled: int) -> npt.NDArray[np.int64]:
    """(count,) the rows (or columns) whose labels a part of a scaled mask takes, from `offset` on."""
    return ((np.arange(count) + offset + 0.5) * (side / scaled)).astype(np.int64)


@dataclass(frozen=True)
class Letterbox:
    """The place of an image on the canvas: scaled to fit, at the top left; the rest of the canvas is filled.

    Attributes:
        image_hw: height and width of the original image.
        canvas_hw: height and width of the canvas.
        scale: canvas pixels per original pixel.
        scaled_hw: height and width of the image on the canvas.
    """

    image_hw: tuple[int, int]
    canvas_hw: tuple[int, int]
    scale: float
    scaled_hw: tuple[int, int]

    @classmethod
    def fit(cls, image_hw: tuple[int, int], canvas_hw: tuple[int, int]) -> Letterbox:
        """The largest image with the same aspect ratio that fits on the canvas.

        Sides are truncated as in google/automl `dataloader.py` and effdet `ResizePad`, so that published
        weights see the pixels they were evaluated on.

        >>> box = Letterbox.fit(image_hw=(100, 200), canvas_hw=(512, 512))
        >>> box.scale, box.scaled_hw
        (2.56, (256, 512))
        >>> box.to_image([[0, 0, 256, 128]]).tolist()
        [[0.0, 0.0, 100.0, 50.0]]
        """
        height, width = image_hw
        scale = min(canvas_hw[0] / height, canvas_hw[1] / width)
        return cls(image_hw, canvas_hw, scale, (max(1, int(height * scale)), max(1, int(width * scale))))

    @classmethod
    def own(cls, image_hw: tuple[int, int]) -> Letterbox:
        """An image as a canvas of its own."""
        return cls(image_hw, image_hw, 1.0, image_hw)

    def apply(self, image: UInt8Array, fill_color: tuple[int, int, int]) -> UInt8Array:
        """Draw the (H, W, 3) image on a canvas of `fill_color`; returns (canvas H, canvas W, 3) uint8."""
        return pad_to_canvas(resize(image, self.scaled_hw), self.canvas_hw, fill_color)

    def to_canvas(self, boxes_xyxy: FloatArray) -> FloatArray:
        """Boxes (..., 4) from pixels of the original image to canvas pixels, clipped to the image there."""
        height, width = self.scaled_hw
        return clip_boxes(np.asarray(boxes_xyxy, dtype=np.float32) * np.float32(self.scale), (height, width))

    def to_image(self, boxes_xyxy: FloatArray) -> FloatArray:
        """Boxes (..., 4) from pixels of the canvas to pixels of the original image, clipped to it."""
        return clip_boxes(np.asarray(boxes_xyxy, dtype=np.float32) / np.float32(self.scale), self.image_hw)


def clip_boxes(boxes_xyxy: FloatArray, size_hw: tuple[int, int]) -> FloatArray:
    """Clip boxes (..., 4) to an area of `size_hw` pixels that starts at the origin."""
    height, width = size_hw
    return np.clip(boxes_xyxy, 0, np.array([width, height, width, height], dtype=np.float32))


def pad_to_canvas(
    image: npt.NDArray[Scalar], canvas_hw: tuple[int, int], fill: int | tuple[int, ...]
) -> npt.NDArray[Scalar]:
    """Lay an image or mask (h, w[, C]) at the top left of a canvas of `fill`, without scaling it."""
    height, width = image.shape[:2]
    if (height, width) == canvas_hw:
        return image
    canvas = np.empty((*canvas_hw, *image.shape[2:]), dtype=image.dtype)
    canvas[:height, :width] = image
    fill_beside(canvas, (height, width), fill)
    return canvas


def fill_beside(canvas: npt.NDArray[Scalar], size_hw: tuple[int, int], fill: int | tuple[int, ...]) -> None:
    """Fill a canvas (H, W[, C]) beside and below the picture of `size_hw` at its top left."""
    height, width = size_hw
    row = np.empty(canvas.shape[1:], canvas.dtype)
    row[:] = fill
    # Whole rows at a time: colour by colour it would take ten times as long.
    canvas[height:] = row
    canvas[:height, width:] = row[width:]
