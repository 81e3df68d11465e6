"""The DeepLabv3+ decoder and the auxiliary head.

Source: Chen et al., DeepLabv3+ (arXiv 1802.02611), figure 2. Layers and the layout of the weights are those of
segmentation-models-pytorch, `decoders/deeplabv3/decoder.py`; joined maps are sampled where their cells lie.
"""

from __future__ import annotations

from collections.abc import Generator

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.decoders.deeplabv3.decoder import SeparableConv2d
from torch import Tensor, nn
from torchvision.models.segmentation.fcn import FCNHead

from backbones.grid import Grid, resample, resampled_strips, size_hw
from segmentation.network.aspp import ASPP
from segmentation.network.family import Alignment, SegmenterArchitecture

PIXELS = Grid(1, (0, 0))


class DeepLabHead(nn.Module):
    """From the maps of stride 4 and of the output stride to logits of the image's size.

    Args:
        skip_channels: channels of the map of stride 4.
        deep_channels: channels of the deepest map.
        classes: K.
        config: the network.
    """

    def __init__(self, skip_channels: int, deep_channels: int, classes: int, config: SegmenterArchitecture) -> None:
        super().__init__()
        self.alignment = config.alignment
        width = config.decoder_channels
        self.aspp = nn.Sequential(
            ASPP(
                deep_channels,
                width,
                config.atrous_rates,
                separable=config.separable_aspp,
                dropout=config.dropout,
                image_pooling=config.image_pooling,
            ),
            SeparableConv2d(width, width, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.skip = nn.Sequential(
            nn.Conv2d(skip_channels, config.skip_channels, kernel_size=1, bias=False),
            nn.BatchNorm2d(config.skip_channels),
            nn.ReLU(inplace=True),
        )
        self.fuse = nn.Sequential(
            SeparableConv2d(width + config.skip_channels, width, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Conv2d(width, classes, kernel_size=1)

    def forward(self, maps: list[Tensor], grids: list[Grid], image_hw: tuple[int, int]) -> Tensor:
        """Logits (B, K, H, W).

        Args:
            maps: of stride 4 and of the output stride; others between them are not read.
            grids: where their cells lie.
            image_hw: H and W.
        """
        return upsample(self.coarse(maps, grids), grids[0], PIXELS, image_hw, self.alignment)

    def strips(self, coarse: Tensor, grid: Grid, image_hw: tuple[int, int], rows: int) -> Generator[Tensor, None, None]:
        """What `forward` makes of the logits of `coarse`, from top to bottom: (B, K, rows, W), the last what is left.

        With the alignment "corners" all rows come at once: a row there depends on the height of the whole.
        """
        if self.alignment == "corners":
            yield upsample(coarse, grid, PIXELS, image_hw, self.alignment)
        else:
            yield from resampled_strips(coarse, grid, PIXELS, image_hw, rows)

    def coarse(self, maps: list[Tensor], grids: list[Grid]) -> Tensor:
        """Logits (B, K, h, w) at the cells of stride 4."""
        (skip, *_, deep), (skip_grid, *_, deep_grid) = maps, grids
        context = upsample(self.aspp(deep), deep_grid, skip_grid, size_hw(skip), self.alignment)
        logits: Tensor = self.classifier(self.fuse(torch.cat((context, self.skip(skip)), dim=1)))
        return logits


class AuxiliaryHead(nn.Module):
    """A small fully convolutional head on one map, which teaches the backbone directly (arXiv 1612.01105, section 4).

    Args:
        in_channels: channels of the map.
        classes: K.
        alignment: as in `SegmenterArchitecture`.
    """

    def __init__(self, in_channels: int, classes: int, alignment: Alignment) -> None:
        super().__init__()
        self.alignment = alignment
        self.layers = FCNHead(in_channels, classes)

    def forward(self, features: Tensor, grid: Grid, image_hw: tuple[int, int]) -> Tensor:
        """From (B, in_channels, h, w) to logits (B, K, H, W)."""
        return upsample(self.layers(features), grid, PIXELS, image_hw, self.alignment)

    def set_classes(self, classes: int) -> None:
        """Give the last layer random values for K classes."""
        last = self.layers[-1]
        self.layers[-1] = nn.Conv2d(last.in_channels, classes, kernel_size=1).to(last.weight)


def upsample(maps: Tensor, grid: Grid, onto: Grid, size_hw: tuple[int, int], alignment: Alignment) -> Tensor:
    """A map (B, C, h, w) read at the cells of a finer grid: (B, C, *size_hw)."""
    if alignment == "corners":
        return F.interpolate(maps, size=size_hw, mode="bilinear", align_corners=True)
    return resample(maps, grid, onto, size_hw)
