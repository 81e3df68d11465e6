"""The canvas that images are laid on before prediction, and its size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from engine.errors import InputError, check_choice
from engine.reading.images import Letterbox, UInt8Array

CanvasPolicy = Literal["full", "tight"]
POLICIES: tuple[CanvasPolicy, ...] = ("full", "tight")


class OnCanvas(NamedTuple):
    """An image on its canvas.

    Attributes:
        image: (H, W, 3) uint8 RGB, the canvas.
        letterbox: the place of the image on it.
    """

    image: Tensor
    letterbox: Letterbox


@dataclass(frozen=True)
class Canvas:
    """Lays images on a canvas. It holds plain values, which can be sent to other processes.

    Attributes:
        limit_hw: height and width of the full canvas in pixels; images are scaled to fit into it.
        fill_color: RGB in 0..255 beside the image.
        stride: the network's coarsest stride in pixels; the sides of a tight canvas are multiples of it, so that no
            level loses a part of a cell and the anchors keep their sizes.
        policy: `full` lays every image on the whole canvas, as in training and validation; `tight` lays it on a canvas
            no larger than the image needs. That is faster, but shows the network less filling, so that boxes and scores
            of images that do not have the shape of the canvas differ a little.
        inside: whether the network lays images on its canvas itself, as some exported files do; they are left as they
            are.

    Raises:
        InputError: the policy is unknown, or is none for a network that lays images out itself.
    """

    limit_hw: tuple[int, int]
    fill_color: tuple[int, int, int]
    stride: int
    policy: CanvasPolicy = "full"
    inside: bool = False

    def __post_init__(self) -> None:
        check_choice("canvas", self.policy, POLICIES)
        if self.inside and self.policy != "full":
            msg = f"canvas is {self.policy}, but this file lays images on its canvas itself. Leave it out."
            raise InputError(msg)

    def __call__(self, image: UInt8Array) -> OnCanvas:
        """Scale an (h, w, 3) uint8 RGB image to fit, and lay it at the top left of its canvas."""
        letterbox = self.letterbox((image.shape[0], image.shape[1]))
        return OnCanvas(torch.from_numpy(letterbox.apply(image, self.fill_color)), letterbox)

    def letterbox(self, image_hw: tuple[int, int]) -> Letterbox:
        """The place of an image of this height and width."""
        if self.inside:
            return Letterbox.own(image_hw)
        # The image is fitted into the limit, not into a tight canvas, whose rounding would enlarge it.
        fitted = Letterbox.fit(image_hw, self.limit_hw)
        return fitted if self.policy == "full" else replace(fitted, canvas_hw=self.tight_hw(image_hw))

    def tight_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the smallest canvas, in multiples of the stride, for an image of this size.

        It never exceeds the limit, which need not be a multiple of the stride.
        """
        scale = min(self.limit_hw[0] / image_hw[0], self.limit_hw[1] / image_hw[1])
        needed = (max(1, -(-int(side * scale) // self.stride)) * self.stride for side in image_hw)
        height, width = (min(side, limit) for side, limit in zip(needed, self.limit_hw, strict=True))
        return height, width

    def __str__(self) -> str:
        """Size and policy in words, which tell the results of a folder from those on another canvas."""
        return canvas_words(self.limit_hw, self.policy)


def canvas_words(limit_hw: tuple[int, int], policy: CanvasPolicy) -> str:
    """A canvas in words: height, width and policy."""
    words = "{} x {}".format(*limit_hw)
    return words if policy == "full" else f"{words}, no larger than needed"


def canvas_limit(
    own_hw: tuple[int, int], image_size: int | tuple[int, int] | None, *, inside: bool = False
) -> tuple[int, int]:
    """Height and width of the full canvas.

    Args:
        own_hw: height and width of the detector's own canvas.
        image_size: height and width to use instead, or the side of a square; None takes the detector's own.
        inside: whether the network lays images on its own canvas itself.

    Raises:
        InputError: `image_size` is too small, or is not that of a network that lays images out itself.
    """
    size = own_hw if image_size is None else image_size
    limit_hw = (size, size) if isinstance(size, int) else (size[0], size[1])
    if inside and limit_hw != own_hw:
        msg = (
            f"image_size is {image_size}, but this file lays images on its canvas of {own_hw[0]} x {own_hw[1]} pixels "
            "(height x width) itself. Leave it out, or export the checkpoint with it."
        )
        raise InputError(msg)
    if min(limit_hw) < 32:
        msg = f"image_size is {image_size}; give at least 32 pixels."
        raise InputError(msg)
    return limit_hw
