"""Layers that XNNPACK takes, in the place of others, which compute the same.

A layer that it leaves out cuts the network: what stands before and what stands after become pieces of their own, with
copies in between.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from backbones.grid import Grid, cells_between, feature_grid, size_hw
from deployment.export.places import CoarseLevel, OpenGates
from deployment.pooling import PooledImage
from detection.network.bifpn import Node, SeparableConv, Upsample
from detection.network.heads.efficientdet import Head
from segmentation.network.aspp import ImagePooling


def as_lowered(network: nn.Module) -> None:
    """Replace layers of a folded network in place."""
    channels = next((node.conv.depthwise.in_channels for node in network.modules() if isinstance(node, Node)), 0)
    for name, module in list(network.named_modules()):
        layer = module
        if isinstance(module, Head):
            layer = LevelHead(module)
        elif isinstance(module, Node) and module.fusion != "sum":
            layer = FixedNode(module)
        elif isinstance(module, Upsample) and module.mode == "nearest":
            layer = Doubled(channels)
        elif isinstance(module, ImagePooling):
            layer = PooledImage(module, "bilinear")
        elif isinstance(module, OpenGates):
            layer = CoarseGates(module)
        elif isinstance(module, CoarseLevel):
            layer = LevelCells(module)
        if layer is not module:
            network.set_submodule(name, layer.requires_grad_(False))


class LevelHead(Head):
    """A head with convolutions of its own for each level, which take up the level's norms.

    XNNPACK packs a convolution's weights for the one place where it is used, and leaves out those of several places.

    Args:
        head: the head.
    """

    def __init__(self, head: Head) -> None:
        nn.Module.__init__(self)
        self.outputs = head.outputs
        levels = []
        for norms in head.norms:
            assert isinstance(norms, nn.ModuleList)
            layers: list[nn.Module] = []
            for conv, norm in zip(head.convs, norms, strict=True):
                assert isinstance(conv, SeparableConv)
                assert isinstance(norm, nn.BatchNorm2d)
                layers += [_with_norm(conv, norm), head.act]
            levels.append(nn.Sequential(*layers, _copied(head.predict)))
        self.levels = nn.ModuleList(levels)

    def forward(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """As `Head`."""
        return [level(x) for level, x in zip(self.levels, pyramid, strict=True)]

    def flatten(self, maps: Sequence[Tensor]) -> Tensor:
        """As `Head`, with a copy, without which the order of values in memory would have to be that of the tracing."""
        ordered = [x.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format) for x in maps]
        return torch.cat([x.view(len(x), -1, self.outputs) for x in ordered], dim=1)


class FixedNode(Node):
    """A node of the pyramid whose weights are numbers.

    Args:
        node: the node, whose norm is folded.
    """

    def __init__(self, node: Node) -> None:
        nn.Module.__init__(self)
        self.fusion, self.act, self.conv, self.norm = node.fusion, node.act, node.conv, node.norm
        for place, weight in enumerate(node.normalised_weights().detach()):
            self.register_buffer(f"weight_{place}", weight.reshape(1, 1, 1, 1).clone())

    def fuse(self, inputs: Sequence[Tensor]) -> Tensor:
        """The weighted sum."""
        total = inputs[0] * self.get_buffer("weight_0")
        for place, other in enumerate(inputs[1:], 1):
            total = total + other * self.get_buffer(f"weight_{place}")
        return total


class Doubled(nn.Module):
    """A map at the size of another of twice its height and width, or one less: each cell becomes four.

    Args:
        channels: C.
    """

    ones: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("ones", torch.ones((channels, 1, 2, 2)))

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, H, W) with H and W of `like`."""
        height, width = size_hw(like)
        assert [-(-side // 2) for side in (height, width)] == list(size_hw(x))
        return F.conv_transpose2d(x, self.ones, stride=2, groups=len(self.ones))[..., :height, :width]


class Cells(nn.Module):
    """As `backbones.grid.subsample`: a convolution of single cells, as XNNPACK takes no slices with steps.

    Args:
        channels: C.
    """

    ones: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("ones", torch.ones((channels, 1, 1, 1)))

    def forward(self, maps: Tensor, grid: Grid, onto: Grid) -> Tensor:
        """Cells of (B, C, h, w) maps, those of a coarser grid."""
        step, (y, x) = cells_between(grid, onto)
        return F.conv2d(maps[..., y:, x:], self.ones, stride=step, groups=len(self.ones)) if step > 1 else maps


class LevelCells(nn.Module):
    """`CoarseLevel` for maps of one size.

    Args:
        level: the layer.
    """

    def __init__(self, level: CoarseLevel) -> None:
        super().__init__()
        self.strides, self.same_padding = (level.stride, level.onto), level.same_padding
        self.cells = Cells(level.channels)

    def forward(self, maps: Tensor, images: Tensor) -> Tensor:
        """As `CoarseLevel`."""
        grid, onto = (feature_grid(size_hw(images), each, same_padding=self.same_padding) for each in self.strides)
        found: Tensor = self.cells(maps, grid, onto)
        return found


class CoarseGates(nn.Module):
    """`OpenGates` for maps of one size: what takes each `step`-th cell is a convolution.

    Args:
        gates: the layers.
    """

    def __init__(self, gates: OpenGates) -> None:
        super().__init__()
        self.layers, self.step, self.same_padding = gates.layers, gates.step, gates.same_padding
        first = next(module for module in gates.layers.modules() if isinstance(module, nn.Conv2d))
        self.cells = Cells(first.in_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Scale the channels of (B, C, h, w), each by a factor in 0..1."""
        coarse = feature_grid(size_hw(features), self.step, same_padding=self.same_padding)
        mean = self.cells(features, Grid(1, (0, 0)), coarse).mean((2, 3), keepdim=True)
        scale: Tensor = self.layers(mean)
        return features * scale


def _with_norm(conv: SeparableConv, norm: nn.BatchNorm2d) -> nn.Sequential:
    """A copy of a convolution that takes up a norm."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    copied = _copied(conv)
    pointwise = copied[1]
    assert isinstance(pointwise, nn.Conv2d)
    weight, bias = fuse_conv_bn_weights(
        pointwise.weight, pointwise.bias, mean, variance, norm.eps, norm.weight, norm.bias
    )
    pointwise.weight, pointwise.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
    return copied


def _copied(conv: SeparableConv) -> nn.Sequential:
    layers = []
    for own in (conv.depthwise, conv.pointwise):
        size = (own.kernel_size[0], own.kernel_size[1])
        padding = own.padding
        assert not isinstance(padding, str)
        layer = nn.Conv2d(
            own.in_channels, own.out_channels, size, padding=(padding[0], padding[1]), groups=own.groups,
            bias=own.bias is not None,
        )  # fmt: skip
        layer.load_state_dict(own.state_dict())
        layers.append(layer)
    return nn.Sequential(*layers)
