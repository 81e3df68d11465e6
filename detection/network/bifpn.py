"""BiFPN: the weighted, two-way feature pyramid of EfficientDet (arXiv 1911.09070, section 3, figure 2d).

Details that the figure leaves open follow google/automl `efficientdet/tf2/efficientdet_keras.py` (6a54c87):
activation before each node's convolution and none after, two separate laterals for the levels that are used
twice, max-pooling of kernel 3 downwards and nearest neighbour upwards. The quad pyramid and bilinear resampling,
which some of effdet's own checkpoints have, follow effdet 0.4.1 (`qufpn_config`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.grid import size_hw
from detection.network.family import Activation, DetectorArchitecture, Padding, Resampling

FUSION_EPS = 1e-4  # of the fast normalised fusion (paper, section 3.3)


def activation_layer(name: Activation) -> nn.Module:
    """SiLU (the paper's swish) or ReLU6 (Lite)."""
    return nn.SiLU(inplace=True) if name == "silu" else nn.ReLU6(inplace=True)


class SeparableConv(nn.Sequential):
    """3x3 depthwise, then 1x1 pointwise: (B, C_in, H, W) to (B, C_out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=bias)


class NormFactory:
    """Makes the batch norms of pyramid and heads, all with one epsilon and momentum."""

    def __init__(self, eps: float, momentum: float) -> None:
        self.eps = eps
        self.momentum = momentum

    def __call__(self, channels: int) -> nn.BatchNorm2d:
        """A batch norm over `channels`."""
        return nn.BatchNorm2d(channels, eps=self.eps, momentum=self.momentum)


class Lateral(nn.Sequential):
    """1x1 convolution and batch norm that bring a backbone map to the pyramid's channels, if it needs them."""

    def __init__(self, in_channels: int, out_channels: int, norm: NormFactory) -> None:
        super().__init__()
        if in_channels != out_channels:
            self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
            self.norm = norm(out_channels)


class Node(nn.Module):
    """One node, a circle in the figure: weigh the inputs, add, activate, convolve, normalise."""

    def __init__(self, inputs: int, config: DetectorArchitecture, norm: NormFactory) -> None:
        super().__init__()
        channels = config.fpn_channels
        self.fusion = config.fusion
        if self.fusion != "sum":
            self.edge_weights = nn.Parameter(torch.ones(inputs))
        self.act = activation_layer(config.activation)
        self.conv = SeparableConv(channels, channels, bias=False)
        self.norm = norm(channels)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Fuse maps of one size, each (B, C, H, W)."""
        fused: Tensor = self.norm(self.conv(self.act(self.fuse(inputs))))
        return fused

    def fuse(self, inputs: Sequence[Tensor]) -> Tensor:
        """The weighted sum; fast attention is w_i / (sum of w + 1e-4) with w = relu of a free scalar."""
        if self.fusion == "sum":
            total = inputs[0] + inputs[1]
            return total if len(inputs) == 2 else total + inputs[2]
        weights = self.normalised_weights().to(inputs[0].dtype).unbind()
        total = inputs[0] * weights[0]
        for weight, other in zip(weights[1:], inputs[1:], strict=True):
            total = torch.addcmul(total, other, weight)
        return total

    def normalised_weights(self) -> Tensor:
        """One weight per input, in float32 or float64, for any precision of the maps."""
        weights = self.edge_weights.to(torch.promote_types(self.edge_weights.dtype, torch.float32))
        if self.fusion == "attention":
            return weights.softmax(0)
        positive = weights.relu()
        return positive / (positive.sum() + FUSION_EPS)


class Downsample(nn.Module):
    """A map at half its size: (B, C, H, W) to (B, C, ceil(H / 2), ceil(W / 2)).

    `pool` is max-pooling with kernel 3; `same` padding adds one pixel at the right or below on an even side,
    which is pooling in ceil mode. `bilinear` averages the four neighbours on an even side.
    """

    def __init__(self, padding: Padding, resampling: Resampling = "pool") -> None:
        super().__init__()
        self.same = padding == "same"
        self.resampling = resampling

    def forward(self, x: Tensor) -> Tensor:
        """Halve the size."""
        height, width = size_hw(x)
        if self.resampling == "bilinear":
            return F.interpolate(x, size=(-(-height // 2), -(-width // 2)), mode="bilinear")
        if not self.same:
            return F.max_pool2d(x, 3, stride=2, padding=1)
        return F.max_pool2d(x, 3, stride=2, padding=(height % 2, width % 2), ceil_mode=True)


class Upsample(nn.Module):
    """A map at the size of another: nearest neighbour if the resampling is `pool`, else bilinear."""

    def __init__(self, resampling: Resampling) -> None:
        super().__init__()
        self.mode = "nearest" if resampling == "pool" else "bilinear"

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, H, W) with H and W of `like`."""
        return F.interpolate(x, size=size_hw(like), mode=self.mode)


class BiFPNCell(nn.Module):
    """One bidirectional layer over L levels: down from the coarsest, then up again.

    Only the first cell gets backbone maps and therefore has laterals. The levels between the finest and the
    coarsest are read twice, by the top-down and by the bottom-up node, through a lateral each.
    """

    def __init__(self, in_channels: Sequence[int], config: DetectorArchitecture, norm: NormFactory) -> None:
        super().__init__()
        channels, last = config.fpn_channels, len(in_channels) - 1
        self.laterals_down = nn.ModuleList(Lateral(c, channels, norm) for c in in_channels)
        self.laterals_up = nn.ModuleList(Lateral(c, channels, norm) for c in in_channels[1:last])
        self.top_down = nn.ModuleList(Node(2, config, norm) for _ in range(last))
        self.bottom_up = nn.ModuleList(Node(3 if level < last else 2, config, norm) for level in range(1, last + 1))
        self.downsample = Downsample(config.padding, config.resampling)
        self.upsample = Upsample(config.resampling)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps by level, finest first, to as many maps of C = `fpn_channels`."""
        last = len(maps) - 1
        entering = [lateral(x) for lateral, x in zip(self.laterals_down, maps, strict=True)]
        down = entering[-1:]
        for level in reversed(range(last)):
            down.insert(0, self.top_down[level](entering[level], self.upsample(down[0], entering[level])))

        again = [lateral(x) for lateral, x in zip(self.laterals_up, maps[1:last], strict=True)]
        out = down[:1]
        for level in range(1, last):
            out.append(self.bottom_up[level - 1](again[level - 1], down[level], self.downsample(out[-1])))
        out.append(self.bottom_up[last - 1](entering[last], self.downsample(out[-1])))
        return out


class MirroredCell(nn.Module):
    """A bidirectional layer the other way round: up from the finest level, then down again.

    The levels between are read twice, as in `BiFPNCell`; the finest is read by the bottom-up node above it and by
    its own top-down node, through a lateral each.
    """

    def __init__(self, in_channels: Sequence[int], config: DetectorArchitecture, norm: NormFactory) -> None:
        super().__init__()
        channels, last = config.fpn_channels, len(in_channels) - 1
        self.laterals_up = nn.ModuleList(Lateral(c, channels, norm) for c in in_channels)
        self.laterals_down = nn.ModuleList(Lateral(c, channels, norm) for c in in_channels[:last])
        self.bottom_up = nn.ModuleList(Node(2, config, norm) for _ in range(last))
        self.top_down = nn.ModuleList(Node(3 if level > 0 else 2, config, norm) for level in range(last))
        self.downsample = Downsample(config.padding, config.resampling)
        self.upsample = Upsample(config.resampling)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps by level, finest first, to as many maps of C = `fpn_channels`."""
        last = len(maps) - 1
        entering = [lateral(x) for lateral, x in zip(self.laterals_up, maps, strict=True)]
        up = entering[:1]
        for level in range(1, last + 1):
            up.append(self.bottom_up[level - 1](entering[level], self.downsample(up[-1])))

        again = [lateral(x) for lateral, x in zip(self.laterals_down, maps[:last], strict=True)]
        out = up[-1:]
        for level in reversed(range(1, last)):
            out.insert(0, self.top_down[level](again[level], up[level], self.upsample(out[0], again[level])))
        out.insert(0, self.top_down[0](again[0], self.upsample(out[0], again[0])))
        return out


class QuadCell(nn.Module):
    """Four paths over L levels: a bidirectional layer and its mirror image side by side, joined level by level.

    Source: QuFPN (ieeexplore.ieee.org/document/9225379) as effdet 0.4.1 builds it (`qufpn_config`).
    """

    def __init__(self, in_channels: Sequence[int], config: DetectorArchitecture, norm: NormFactory) -> None:
        super().__init__()
        self.down_up = BiFPNCell(in_channels, config, norm)
        self.up_down = MirroredCell(in_channels, config, norm)
        self.joins = nn.ModuleList(Node(2, config, norm) for _ in in_channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps by level, finest first, to as many maps of C = `fpn_channels`."""
        halves = zip(self.joins, self.down_up(maps), self.up_down(maps), strict=True)
        return [join(first, second) for join, first, second in halves]


class BiFPN(nn.Module):
    """P3-P5 of the backbone to P3-P7 (P8 for D7x): coarser levels by pooling, then the cells.

    Args:
        in_channels: channels of the backbone's P3, P4, P5.
        config: widths, depths and kinds.
    """

    def __init__(self, in_channels: Sequence[int], config: DetectorArchitecture) -> None:
        super().__init__()
        norm = NormFactory(config.norm_eps, config.norm_momentum)
        extra = len(config.levels) - len(in_channels)
        self.coarser = Lateral(in_channels[-1], config.fpn_channels, norm) if extra else None
        self.extra_levels = extra
        self.downsample = Downsample(config.padding, config.resampling)
        first = [*in_channels, *[config.fpn_channels] * extra]
        later = [config.fpn_channels] * len(first)
        cell = QuadCell if config.pyramid == "quad" else BiFPNCell
        self.cells = nn.ModuleList(
            cell(first if index == 0 else later, config, norm) for index in range(config.fpn_cells)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Backbone maps (B, C_l, H_l, W_l), finest first, to pyramid maps of `fpn_channels` each."""
        pyramid = list(maps)
        for index in range(self.extra_levels):
            # P6 is P5 through a 1x1 convolution and then pooled; P7 and P8 are only pooled.
            x = self.coarser(pyramid[-1]) if index == 0 and self.coarser is not None else pyramid[-1]
            pyramid.append(self.downsample(x))
        for cell in self.cells:
            pyramid = cell(pyramid)
        return pyramid


def initialise_pyramid(pyramid: BiFPN) -> None:
    """Glorot-uniform kernels, as Keras initialises them; a depthwise kernel counts the nine weights of its channel."""
    for layer in pyramid.modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.weight[0].numel()
            fan_out = layer.weight.shape[0] * layer.weight[0, 0].numel() // layer.groups
            limit = math.sqrt(6.0 / (fan_in + fan_out))
            nn.init.uniform_(layer.weight, -limit, limit)
