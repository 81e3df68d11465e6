"""Images whose values set the ranges of int8, as the network sees them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deployment.litert.network import Network
from engine.errors import InputError
from engine.prediction.canvas import Canvas
from engine.reading.reader import PixelReader


def write_canvases(target: Path, images: Sequence[Path], network: Network, image_hw: tuple[int, int]) -> None:
    """Lay images on canvases as a prediction does, and write them as a .npy file (N, H, W, 3) uint8.

    Args:
        target: the file.
        images: paths of images of any size.
        network: says how rasters are read, and the colour beside an image.
        image_hw: height and width of the canvases.

    Raises:
        InputError: there is no image, or one cannot be read.
    """
    if not images:
        msg = (
            "int8 needs images that set the ranges of its values. Give calibration some hundred of those for training."
        )
        raise InputError(msg)
    read = PixelReader(network.reading, network.fill_color)
    canvas = Canvas(image_hw, network.fill_color, network.stride)
    # In the file rather than in memory: several hundred large canvases are gigabytes.
    canvases = np.lib.format.open_memmap(target, "w+", dtype=np.uint8, shape=(len(images), *image_hw, 3))
    for place, path in enumerate(images):
        canvases[place] = canvas(read(path)).image.numpy()
    canvases.flush()
