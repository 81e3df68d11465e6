"""Torchvision's anchors in graphs whose height and width may be open."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from detection.network.heads.parts import exact_maps


def anchors_of_levels(generator: AnchorGenerator, maps: Sequence[Tensor], canvas_hw: tuple[int, int]) -> list[Tensor]:
    """The anchors of each map, (R_l, 4) in pixels of the canvas, as `AnchorGenerator.forward` makes them.

    Args:
        generator: the generator.
        maps: (B, C, H_l, W_l).
        canvas_hw: height and width of the canvas.
    """
    cells = [(one.shape[-2], one.shape[-1]) for one in maps]
    strides = [tuple(side // count for side, count in zip(canvas_hw, each, strict=True)) for each in cells]
    generator.set_cell_anchors(torch.float32, torch.device("cpu"))
    anchors: list[Tensor] = generator.grid_anchors(cells, strides)
    return anchors


def default_boxes_of(generator: DefaultBoxGenerator, maps: Sequence[Tensor], canvas_hw: tuple[int, int]) -> Tensor:
    """The default boxes of all maps, (R, 4) in pixels of the canvas; the arguments are as above."""
    images = ImageList(torch.zeros(()).expand(1, 3, *canvas_hw), [canvas_hw])
    boxes: list[Tensor] = generator(images, exact_maps(maps))
    return boxes[0]


def cells_of(image_hw: tuple[int, int], levels: Sequence[int]) -> int:
    """The cells of all maps of a canvas."""
    height, width = image_hw
    return sum(-(-height // 2**level) * -(-width // 2**level) for level in levels)
