"""Layers that LiteRT's converter takes well, in the place of others, which compute the same."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, get_same_padding
from torch import Tensor, nn

from backbones.folding import KernelPaddedConv2d
from backbones.grid import Grid, cells_between, resample_joined, size_hw
from deployment.pooling import PooledImage
from segmentation.network.aspp import ImagePooling
from segmentation.network.deeplab import PIXELS, DeepLabHead, upsample
from segmentation.network.model import Segmenter


def as_converted(network: nn.Module) -> None:
    """Replace layers of a network in place."""
    for name, module in list(network.named_modules()):
        layer = module
        if isinstance(module, ImagePooling):
            # As a view of one cell the converter would repeat it along axes of PyTorch's order, in a map whose channels
            # are last, which LiteRT refuses.
            layer = PooledImage(module, "nearest")
        if isinstance(module, KernelPaddedConv2d):  # LiteRT's own convolutions have TensorFlow's padding
            outputs, inputs, *kernel = module.weight.shape
            layer = Conv2dSame(
                inputs * module.groups, outputs, (kernel[0], kernel[1]), module.stride, groups=module.groups,
                bias=module.bias is not None,
            )  # fmt: skip
            layer.weight, layer.bias = nn.Parameter(module.weight.detach()), module.bias
        if isinstance(layer, Conv2dSame) and layer.in_channels == 3:
            layer = FirstConv(layer)
        if layer is not module:
            network.set_submodule(name, layer.requires_grad_(False))


class FirstConv(nn.Module):
    """A network's first convolution, which pads the image with its channels last: the converter turns nothing around.

    Args:
        conv: the convolution, with TensorFlow's padding.
    """

    def __init__(self, conv: Conv2dSame) -> None:
        super().__init__()
        self.weight, self.bias, self.stride = conv.weight, conv.bias, conv.stride

    def forward(self, image: Tensor) -> Tensor:
        """(1, 3, H, W) to (1, C, ceil(H / stride), ceil(W / stride))."""
        pads = [0, 0]
        for axis in (3, 2):
            total = get_same_padding(image.shape[axis], self.weight.shape[axis], self.stride[axis - 2], 1)
            pads += [total // 2, total - total // 2]
        padded = F.pad(image.permute(0, 2, 3, 1), pads).permute(0, 3, 1, 2)
        return F.conv2d(padded, self.weight, self.bias, self.stride)


class Decoder(nn.Module):
    """DeepLabv3+ from the backbone's maps to logits, as `DeepLabHead`, in operators that the Edge TPU has too.

    Args:
        segmenter: the network of the head; `forward` is given its maps.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        assert isinstance(segmenter.head, DeepLabHead)
        self.head = segmenter.head
        self.grids = segmenter.backbone.grids

    def forward(self, maps: list[Tensor], image_hw: tuple[int, int]) -> Tensor:
        """From the maps of stride 4 and of the output stride, for images (1, 3, H, W), to logits (1, K, H, W)."""
        (skip, *_, deep), (fine, *_, coarse) = maps, self.grids(image_hw)
        context = self._upsampled(self.head.aspp(deep), coarse, fine, size_hw(skip))
        logits = self.head.classifier(self.head.fuse(torch.cat((context, self.head.skip(skip)), dim=1)))
        return self._upsampled(logits, fine, PIXELS, image_hw)

    def _upsampled(self, maps: Tensor, grid: Grid, onto: Grid, target_hw: tuple[int, int]) -> Tensor:
        """A map at the cells of a finer grid."""
        if self.head.alignment == "corners":
            return upsample(maps, grid, onto, target_hw, "corners")
        return resample_joined(maps, grid, onto, target_hw)


def coarse_cells(maps: Tensor, grid: Grid, onto: Grid) -> Tensor:
    """As `backbones.grid.subsample`: a pooling of single cells, as the Edge TPU takes no slices with steps."""
    step, (y, x) = cells_between(grid, onto)
    if step == 1:
        return maps
    return F.max_pool2d(maps[..., y:, x:], kernel_size=1, stride=step)
