"""One extractor that runs at its dense output stride or at stride 32, with the same weights and no second copy.

The convolutions that differ between the two are found by a comparison with a network that timm builds at stride 32, so
timm alone decides what becomes of a lost stride.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from timm.layers.conv2d_same import conv2d_same
from torch import Tensor, nn

from backbones.dilation.phases import PhasedConv2d
from backbones.features import EfficientNetFeatures
from backbones.gates import AT_STRIDE_32
from backbones.grid import Grid, feature_grid


class TwoStrideFeatures(EfficientNetFeatures):
    """An extractor whose dense maps hold those of stride 32, which can also be computed alone at a lower cost.

    Args:
        name: see `EfficientNetFeatures`.
        levels: see `EfficientNetFeatures`.
        output_stride: output stride of the dense pass, 16 or 8.
        options: the other arguments of `EfficientNetFeatures`; gates are exact.
    """

    def __init__(self, name: str, *, levels: Sequence[int], output_stride: int, **options: Any) -> None:
        super().__init__(name, levels=levels, output_stride=output_stride, exact_gates=True, **options)  # type: ignore[arg-type]
        with torch.device("meta"):
            coarse = EfficientNetFeatures(name, levels=levels)
        for path, other in coarse.named_modules():
            if not isinstance(other, nn.Conv2d):
                continue
            own = self.get_submodule(path)
            assert isinstance(own, nn.Conv2d)
            if (own.stride, own.dilation) != (other.stride, other.dilation):
                self.set_submodule(path, _TwoStrideConv2d(own, other))

    def coarse(self, images: Tensor) -> list[Tensor]:
        """The maps at stride 32: those of level l have stride `2 ** l`.

        Args:
            images: normalised images (B, in_channels, H, W).

        Returns:
            One map (B, channels[i], ceil(H / 2 ** level), ceil(W / 2 ** level)) per level, finest first.
        """
        token = AT_STRIDE_32.set(True)
        try:
            maps: list[Tensor] = self(images)
        finally:
            AT_STRIDE_32.reset(token)
        return maps

    def coarse_grids(self, image_hw: tuple[int, int]) -> list[Grid]:
        """The places of the cells of each map of `coarse` on an image of this height and width, in pixels."""
        return [feature_grid(image_hw, 2**level, same_padding=self.same_padding) for level in self.levels]


class _TwoStrideConv2d(PhasedConv2d):
    """A convolution that lost a stride or became dilated behind one, and that can still work as before."""

    def __init__(self, dense: nn.Conv2d, coarse: nn.Conv2d) -> None:
        super().__init__(dense)
        self.coarse_stride = coarse.stride
        self.coarse_dilation = coarse.dilation
        self.coarse_padding = None if isinstance(coarse, Conv2dSame) else coarse.padding

    def forward(self, input: Tensor) -> Tensor:
        """From (B, C, h, w) to (B, C', h, w), or at stride 32 to the smaller size that the stride gives."""
        if not AT_STRIDE_32.get():
            return super().forward(input)
        if self.coarse_padding is None:
            pads, dilation = (0, 0), (self.coarse_dilation[0], self.coarse_dilation[1])
            stride = (self.coarse_stride[0], self.coarse_stride[1])
            same: Tensor = conv2d_same(input, self.weight, self.bias, stride, pads, dilation, self.groups)
            return same
        return F.conv2d(
            input, self.weight, self.bias, self.coarse_stride, self.coarse_padding, self.coarse_dilation, self.groups
        )
