"""Operators that read a map at the cells of another grid (`backbones.grid`), for images of any size.

Where the cells lie depends on the size of the image; in these operators a graph looks at it when it runs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from backbones.gates import CoarseSqueezeExcite
from backbones.grid import Grid, feature_grid, resample, size_hw, subsample


@torch.library.custom_op("effdense::resample", mutates_args=())
def resample_onto(maps: Tensor, like: Tensor, images: Tensor, stride: int, onto: int, same_padding: bool) -> Tensor:
    """As `backbones.grid.resample`.

    Args:
        maps: (B, C, h, w) of a stride.
        like: (B, C', H, W): a map of the finer stride, or the images.
        images: (B, 3, H0, W0).
        stride: image pixels per cell of `maps`.
        onto: image pixels per cell of `like`.
        same_padding: whether the network's padding is TensorFlow's.

    Returns:
        (B, C, H, W).
    """
    image_hw = size_hw(images)
    grids = [feature_grid(image_hw, each, same_padding=same_padding) for each in (stride, onto)]
    return resample(maps, grids[0], grids[1], size_hw(like)).clone(memory_format=torch.contiguous_format)


@resample_onto.register_fake
def _(maps: Tensor, like: Tensor, images: Tensor, stride: int, onto: int, same_padding: bool) -> Tensor:
    return maps.new_empty(maps.shape[0], maps.shape[1], like.shape[2], like.shape[3])


@torch.library.custom_op("effdense::coarse_cells", mutates_args=())
def coarse_cells(maps: Tensor, images: Tensor, stride: int, onto: int, same_padding: bool) -> Tensor:
    """As `backbones.grid.subsample`.

    Args:
        maps: (B, C, h, w) of a stride.
        images: (B, 3, H0, W0).
        stride: image pixels per cell of `maps`.
        onto: image pixels per cell of the coarser grid.
        same_padding: whether the network's padding is TensorFlow's.

    Returns:
        (B, C, ceil(h / step), ceil(w / step)) with step = onto / stride.
    """
    image_hw = size_hw(images)
    grids = [feature_grid(image_hw, each, same_padding=same_padding) for each in (stride, onto)]
    return subsample(maps, grids[0], grids[1]).clone(memory_format=torch.contiguous_format)


@coarse_cells.register_fake
def _(maps: Tensor, images: Tensor, stride: int, onto: int, same_padding: bool) -> Tensor:
    step = onto // stride
    return maps.new_empty(*maps.shape[:2], (maps.shape[2] + step - 1) // step, (maps.shape[3] + step - 1) // step)


class CoarseLevel(nn.Module):
    """A map at the cells of a level of the pyramid, where the backbone computes it on a denser grid.

    Args:
        channels: C of the map.
        stride: image pixels per cell of the map.
        onto: image pixels per cell of the level.
        same_padding: whether the network's padding is TensorFlow's.
    """

    def __init__(self, channels: int, stride: int, onto: int, *, same_padding: bool) -> None:
        super().__init__()
        self.channels, self.stride, self.onto, self.same_padding = channels, stride, onto, same_padding

    def forward(self, maps: Tensor, images: Tensor) -> Tensor:
        """(B, C, h, w) to the cells of the level, for (B, 3, H, W) images."""
        if self.stride == self.onto:
            return maps
        found: Tensor = coarse_cells(maps, images, self.stride, self.onto, self.same_padding)
        return found


@torch.library.custom_op("effdense::coarse_mean", mutates_args=())
def coarse_mean(maps: Tensor, step: int, same_padding: bool) -> Tensor:
    """The mean (B, C, 1, 1) over those cells of (B, C, h, w) that a grid coarser by `step` has."""
    coarse = feature_grid(size_hw(maps), step, same_padding=same_padding)
    return subsample(maps, Grid(1, (0, 0)), coarse).mean((2, 3), keepdim=True)


@coarse_mean.register_fake
def _(maps: Tensor, step: int, same_padding: bool) -> Tensor:
    return maps.new_empty(*maps.shape[:2], 1, 1)


class OpenGates(nn.Module):
    """`CoarseSqueezeExcite` at its own output stride, for maps of any size."""

    def __init__(self, gates: CoarseSqueezeExcite) -> None:
        super().__init__()
        self.layers = nn.Sequential(gates.conv_reduce, gates.act1, gates.conv_expand, gates.gate)
        self.step = gates.step
        self.same_padding = gates.same_padding

    def forward(self, features: Tensor) -> Tensor:
        """Scale the channels of (B, C, h, w), each by a factor in 0..1."""
        scale: Tensor = self.layers(coarse_mean(features, self.step, self.same_padding))
        return features * scale
