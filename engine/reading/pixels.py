"""An image as a caller gives it: a path or an array."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.errors import InputError
from engine.reading.images import UInt8Array, read_image

Source = str | Path | UInt8Array


def pixels_of(image: object) -> UInt8Array:
    """The (H, W, 3) uint8 RGB pixels of a path or an array.

    Raises:
        InputError: the image is missing or cannot be read, or is not an (H, W, 3) uint8 array.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if not isinstance(image, np.ndarray):
        msg = f"an image is a path or an (H, W, 3) uint8 RGB array; got {type(image).__name__}. Convert it first."
        raise InputError(msg)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        msg = f"an image array must be (H, W, 3) uint8 RGB; got {image.shape} {image.dtype}. Convert it first."
        raise InputError(msg)
    # torch does not accept a reversed view, such as bgr[..., ::-1], and warns about a read-only one.
    return np.require(image, requirements=("C", "W"))
