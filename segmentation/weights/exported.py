"""A segmenter in a file of another runtime, with the interface of the network that it was exported from."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Self, cast

import torch
from torch import Tensor, nn

from backbones.grid import size_hw
from engine.errors import InputError
from engine.exports.files import Runtime, computed, open_exported
from segmentation.data.classes import MaskClasses, StoredMaskClasses
from segmentation.network.family import SegmenterArchitecture
from segmentation.network.model import Outputs, Segmenter


class ExportedSegmenter(Segmenter):
    """A segmenter that a runtime computes. It has no weights and cannot be trained.

    Args:
        runtime: the opened file.

    Raises:
        InputError: the file does not describe a segmenter.
    """

    folded = True

    def __init__(self, runtime: Runtime) -> None:
        nn.Module.__init__(self)  # no layers
        about = runtime.about
        try:
            self.config = SegmenterArchitecture.from_settings(about.model)
            self.classes = MaskClasses.from_dict(cast("StoredMaskClasses", about.settings("classes")))
        except (KeyError, TypeError, ValueError) as error:
            msg = f"'{runtime.path}' does not describe a segmenter: {error}. Export it again."
            raise InputError(msg) from error
        self.runtime = runtime
        self.aux_head = None
        self.register_buffer("mean", 255 * torch.tensor(about.mean)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(about.std)[:, None, None], persistent=False)

    @property
    def gives_rows(self) -> bool:
        """Whether classes of pixels come out of the file, and no logits."""
        return self.runtime.about.argmax

    def outputs(self, images: Tensor) -> Outputs:
        """As those of the network.

        Raises:
            InputError: the file gives classes only, or takes no images of this number or size.
        """
        if self.gives_rows:
            msg = (
                f"'{self.runtime.path}' gives the class of each pixel, not the scores that tiles, scales, flip and "
                "probabilities need. Export it with --argmax false."
            )
            raise InputError(msg)
        return Outputs(padded(self.runtime, images, self.fill_color)["logits"], None)

    def rows(self, images: Tensor) -> Tensor:
        """The class of each pixel, (B, H, W) uint8, of (B, 3, H, W) images."""
        if not self.gives_rows:
            return super().rows(images)
        return padded(self.runtime, images, self.fill_color)["class_rows"]

    def strips(self, images: Tensor, rows: int) -> Generator[Tensor, None, None]:
        """All rows at once."""
        yield self(images)

    def train(self, mode: bool = True) -> Self:
        """Nothing changes: there are no layers with a mode."""
        return self


def padded(runtime: Runtime, images: Tensor, fill_color: tuple[int, int, int]) -> dict[str, Tensor]:
    """The maps of a file for images of any size that it can hold.

    Where the file takes multiples of some number of pixels only, or one size, smaller images are laid on the mean
    colour: the last tile of a picture, for example, which may be narrower than the others.

    Args:
        runtime: the opened file.
        images: (B, 3, H, W) uint8 RGB.
        fill_color: the mean colour.

    Raises:
        InputError: the file is for one size, and the images are larger.
    """
    about, (height, width) = runtime.about, size_hw(images)
    taken = about.image_hw or (height + -height % about.multiple, width + -width % about.multiple)
    if taken != (height, width) and taken[0] >= height and taken[1] >= width:
        canvas = images.new_empty(len(images), 3, *taken)
        canvas[:] = torch.tensor(fill_color, dtype=images.dtype, device=images.device)[:, None, None]
        canvas[:, :, :height, :width] = images
        images = canvas
    found = computed(runtime, images, torch.tensor([size_hw(images)] * len(images)))
    return {name: value[..., :height, :width] for name, value in found.items()}


def load_exported(source: str | Path) -> ExportedSegmenter:
    """The segmenter of an exported file.

    Raises:
        InputError: the file is missing, damaged, of another program or of another task.
    """
    return ExportedSegmenter(open_exported(source, "segmentation"))
