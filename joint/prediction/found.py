"""Both answers of a joint network for one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from detection.prediction.found import Found
from engine.data.pixels import Source, pixels_of
from segmentation.inference.segmented import Segmented


@dataclass(frozen=True, eq=False)
class JointFound:
    """Both answers for one image; None for one that was not asked.

    Attributes:
        found: its objects.
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
        """The image tinted with the classes' colours, with the boxes drawn on it.

        Args:
            image: the image that was looked at: a path or an (H, W, 3) uint8 RGB array.
            opacity: of the colours, 0 to 1.
            legend: whether to name, below the image, the classes that are there.

        Raises:
            InputError: the image cannot be read or is of another size.
        """
        tinted = image if self.segmented is None else np.asarray(self.segmented.draw(image, opacity, legend))
        return Image.fromarray(pixels_of(tinted)) if self.found is None else self.found.draw(tinted)
