"""A backbone that is no EfficientNet: a few strided convolutions that meet `backbones.contract.Features`."""

import itertools

import torch
from torch import nn

from backbones.contract import ImageNorm
from backbones.grid import feature_grid


class ToyFeatures(nn.Module):
    """One strided convolution per level; a level above the coarsest stride is spread instead."""

    image_norm = ImageNorm((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))

    def __init__(self, levels=(3, 4, 5), coarsest=32):
        super().__init__()
        self.levels = tuple(levels)
        self.strides = tuple(min(2**level, coarsest) for level in levels)
        self.channels = tuple(8 * level for level in levels)
        widths = [3, *(8 * level for level in range(1, max(levels) + 1))]
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, stride=2 if 2**level <= coarsest else 1, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            )
            for level, (before, after) in enumerate(itertools.pairwise(widths), start=1)
        )

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        for level, layer in enumerate(self.layers, start=1):
            images = layer(images)
            if level in self.levels:
                maps.append(images)
        return maps

    def grids(self, image_hw):
        return [feature_grid(image_hw, stride, same_padding=False) for stride in self.strides]
