"""What a training set shows of itself: how many images of what size, and the objects in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.errors import InputError
from engine.reading.images import image_size

_MOST_READ = 200  # images whose header is read where the annotations do not state a size


@dataclass(frozen=True)
class SetFacts:
    """A training set.

    Attributes:
        images: their number.
        size_hw: median height and width of the images, in pixels.
        class_names: of its classes.
        box_sides: (N,) square roots of the boxes' areas, as shares of the longer side of their image; None where there
            are no boxes.
        fewest: boxes of the class that has the fewest; None where there are no boxes.
        masked: whether classes of pixels are learned, alone or beside boxes.
    """

    images: int
    size_hw: tuple[int, int]
    class_names: tuple[str, ...]
    box_sides: npt.NDArray[np.float64] | None = None
    fewest: int | None = None
    masked: bool = False

    def line(self) -> str:
        """The set in one line."""
        height, width = self.size_hw
        boxes = "" if self.box_sides is None else f", {len(self.box_sides):,} boxes ({self.fewest:,} of the rarest)"
        return f"{self.images:,} training images of {width} x {height} pixels, classes: {len(self.class_names)}{boxes}"


def median_size(count: int, path_of: Callable[[int], Path]) -> tuple[int, int]:
    """Median height and width of images, from the headers of some of them.

    Args:
        count: number of images.
        path_of: the file of each.

    Raises:
        InputError: none of them can be read.
    """
    sizes = []
    for index in range(0, count, max(1, count // _MOST_READ)):
        try:
            sizes.append(image_size(path_of(index)))
        except InputError:  # the training says which, and goes on or stops as it is told
            continue
    if not sizes:
        msg = "no training image can be read, so that there is no recipe for them. Run the command check on the set."
        raise InputError(msg)
    height, width = np.median(np.array(sizes), axis=0)
    return round(float(height)), round(float(width))
