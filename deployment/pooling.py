"""The image's mean at every place, in operators that converters of other runtimes take."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from backbones.grid import size_hw
from segmentation.network.aspp import ImagePooling


class PooledImage(nn.Module):
    """The mean over a map at every place, enlarged as an image is, where `ImagePooling` repeats a view of one cell.

    Args:
        pooling: the layers.
        mode: how a runtime enlarges best; of one cell both give the same.
    """

    def __init__(self, pooling: ImagePooling, mode: Literal["nearest", "bilinear"]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*pooling)
        self.mode = mode

    def forward(self, features: Tensor) -> Tensor:
        """From (B, in_channels, h, w) to (B, out_channels, h, w)."""
        return F.interpolate(self.layers(features), size_hw(features), mode=self.mode)
