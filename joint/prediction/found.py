"""Both answers of a joint network for one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from detection.prediction.found import Found
from engine.reading.pixels import Source, pixels_of
from segmentation.inference.segmented import Segmented


@dataclass(frozen=True, eq=False)
class JointFound:
    """Both answers for one image; None for an answer that was not asked for.

    Attributes:
        found: the objects of the image.
        segmented: the classes of its pixels.
    """

    found: Found | None
    segmented: Segmented | None

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the original image in pixels."""
        answer = self.segmented if self.found is None else self.found
        assert answer is not None
        return answer.size_hw

    def draw(self, image: Source, opacity: float = 0.5, legend: bool = True) -> Image.Image:
        """The image tinted with the colours of the classes, with the boxes drawn on it.

        Args:
            image: the image that was predicted: a path or an (H, W, 3) uint8 RGB array.
            opacity: opacity of the colours, 0 to 1.
            legend: whether to list, below the image, the classes that it shows.

        Raises:
            InputError: the image cannot be read or has another size.
        """
        tinted = image if self.segmented is None else np.asarray(self.segmented.draw(image, opacity, legend))
        return Image.fromarray(pixels_of(tinted)) if self.found is None else self.found.draw(tinted)
