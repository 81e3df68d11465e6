"""The canvas that images are laid on before they are computed, and how large it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from engine.data.images import Letterbox, UInt8Array
from engine.errors import InputError, check_choice

CanvasPolicy = Literal["full", "tight"]
POLICIES: tuple[CanvasPolicy, ...] = ("full", "tight")


class OnCanvas(NamedTuple):
    """An image on its canvas.

    Attributes:
        image: (H, W, 3) uint8 RGB, the canvas.
        letterbox: where the image lies on it.
    """

    image: Tensor
    letterbox: Letterbox


@dataclass(frozen=True)
class Canvas:
    """Lays images on a canvas; plain values, which travel to other processes.

    Attributes:
        limit_hw: height and width of the full canvas in pixels; images are scaled to fit into it.
        fill_color: RGB in 0..255 beside the image.
        stride: pixels that the sides of a tight canvas are multiples of: the network's coarsest stride.
        policy: `full` lays every image on the whole canvas, as in training and validation; `tight` on one no larger
            than the image needs, which is faster, but shows the network less filling, so that boxes and scores of
            images that are not of the canvas's shape differ a little.

    Raises:
        InputError: the policy is unknown.
    """

    limit_hw: tuple[int, int]
    fill_color: tuple[int, int, int]
    stride: int
    policy: CanvasPolicy = "full"

    def __post_init__(self) -> None:
        check_choice("canvas", self.policy, POLICIES)

    def __call__(self, image: UInt8Array) -> OnCanvas:
        """Scale an (h, w, 3) uint8 RGB image to fit, and lay it at the top left of its canvas."""
        letterbox = self.letterbox((image.shape[0], image.shape[1]))
        return OnCanvas(torch.from_numpy(letterbox.apply(image, self.fill_color)), letterbox)

    def letterbox(self, image_hw: tuple[int, int]) -> Letterbox:
        """Where an image of this height and width lies."""
        # The image is fitted into the limit, not into a tight canvas, whose rounding would enlarge it.
        fitted = Letterbox.fit(image_hw, self.limit_hw)
        return fitted if self.policy == "full" else replace(fitted, canvas_hw=self.tight_hw(image_hw))

    def tight_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the smallest canvas, in multiples of the stride, for an image of this size.

        It never exceeds the limit: what the network itself adds up to a multiple of the stride is its own to fill.
        """
        scale = min(self.limit_hw[0] / image_hw[0], self.limit_hw[1] / image_hw[1])
        needed = (max(1, -(-int(side * scale) // self.stride)) * self.stride for side in image_hw)
        height, width = (min(side, limit) for side, limit in zip(needed, self.limit_hw, strict=True))
        return height, width

    def __str__(self) -> str:
        """Size and policy in words, by which a folder's results are told from those of other canvases."""
        return canvas_words(self.limit_hw, self.policy)


def canvas_words(limit_hw: tuple[int, int], policy: CanvasPolicy) -> str:
    """A canvas in words: height, width and policy."""
    words = "{} x {}".format(*limit_hw)
    return words if policy == "full" else f"{words}, no larger than needed"


def canvas_limit(own_hw: tuple[int, int], image_size: int | tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the full canvas.

    Args:
        own_hw: the detector's own.
        image_size: what is asked for in its place, if anything: both, or the side of a square.

    Raises:
        InputError: it is too small.
    """
    size = own_hw if image_size is None else image_size
    limit_hw = (size, size) if isinstance(size, int) else (size[0], size[1])
    if min(limit_hw) < 32:
        msg = f"image_size is {image_size}; give at least 32 pixels"
        raise InputError(msg)
    return limit_hw
