"""An image as a caller gives it: a path, the content of a file, an image of Pillow, or an array."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from engine.errors import InputError
from engine.reading.images import UInt8Array, opened, to_8_bits, upright_rgb
from engine.reading.reader import PixelReader

Source = str | Path | bytes | Image.Image | UInt8Array | npt.NDArray[np.uint16]

_ALLOWED = (
    "an image is a path, the bytes of a file, an image of Pillow, or an array of uint8: (H, W, 3) of RGB, (H, W, 4) of "
    "RGB and transparency, or (H, W) of grey"
)


def pixels_of(image: object, reader: PixelReader = PixelReader()) -> UInt8Array:
    """The (H, W, 3) uint8 RGB pixels of an image, as the same image gives them from a file.

    Args:
        image: a `Source`. Transparent pixels are laid on white. Grey arrays of uint16 are divided by 257, or by the
            reader's value range; colour arrays of uint16 need that range.
        reader: how files are read.

    Raises:
        InputError: the image is missing or cannot be read, or is of no such kind.
    """
    value_range = reader.reading.value_range
    if isinstance(image, str | Path):
        return reader(image)
    if isinstance(image, bytes):
        with opened("bytes", "image", io.BytesIO(image)) as picture:
            return upright_rgb(picture, "bytes", None, value_range)
    if isinstance(image, Image.Image):
        return upright_rgb(image, "image of Pillow", None, value_range)
    if not isinstance(image, np.ndarray):
        msg = f"{_ALLOWED}; got {type(image).__name__}. Convert it first."
        raise InputError(msg)
    return _rgb_of_array(image, value_range)


def _rgb_of_array(image: npt.NDArray[np.generic], value_range: tuple[float, float] | None) -> UInt8Array:
    grey = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    if image.size and image.dtype == np.uint16 and (grey.ndim == 2 or image.shape[2:] == (3,)):
        if grey.ndim == 2:
            return upright_rgb(Image.fromarray(grey), "array", None, value_range)
        if value_range is None:
            msg = "a colour array of uint16 has no agreed range. Scale it to uint8 first."
            raise InputError(msg)
        return to_8_bits(image, value_range)
    if image.size and image.dtype == np.uint8:
        if grey.ndim == 2:
            return np.repeat(grey[..., None], 3, axis=2)
        if image.ndim == 3 and image.shape[2] == 4:
            return upright_rgb(Image.fromarray(image), "array")
        if image.ndim == 3 and image.shape[2] == 3:
            # torch does not accept a reversed view, such as bgr[..., ::-1], and warns about a read-only one.
            return np.require(image, requirements=("C", "W"))
    msg = f"{_ALLOWED}; got an array of {image.dtype} with shape {image.shape}. Convert it first."
    raise InputError(msg)
