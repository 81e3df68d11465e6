"""Networks as graphs for LiteRT: one image of one size, and only operators that its converter keeps as they are."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, get_same_padding
from torch import Tensor, nn

from backbones.folding import KernelPaddedConv2d
from backbones.grid import size_hw
from deployment.networks import Network
from detection.network.bifpn import Downsample, Upsample
from detection.network.model import EfficientDet
from joint.network.model import JointNetwork, SharedMaps
from segmentation.network.model import Segmenter


class PaddedConv2d(nn.Module):
    """A convolution behind a padding with constant sizes, which the converter takes for TensorFlow's own."""

    def __init__(self, conv: Conv2dSame | KernelPaddedConv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.groups = conv.stride, conv.groups
        self.dilation = conv.dilation if isinstance(conv, Conv2dSame) else (1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """From (B, C, h, w) to (B, C', ceil(h / stride), ceil(w / stride))."""
        sides, kernel = size_hw(features), self.weight.shape[2:]
        pads = [get_same_padding(sides[i], kernel[i], self.stride[i], self.dilation[i]) for i in (1, 0)]
        bordered = F.pad(features, [side for pad in pads for side in (pad // 2, pad - pad // 2)])
        return F.conv2d(bordered, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class PaddedPool2d(nn.Module):
    """The pyramid's pooling behind a border of the smallest number."""

    def forward(self, features: Tensor) -> Tensor:
        """From (B, C, h, w) to (B, C, ceil(h / 2), ceil(w / 2))."""
        height, width = size_hw(features)
        bordered = F.pad(features, (width % 2, 1, height % 2, 1), value=float("-inf"))
        return F.max_pool2d(bordered, 3, stride=2)


class DoubledNearest(nn.Module):
    """Nearest-neighbour upsampling: every cell twice, less the last row or column where the finer side is odd.

    This is what the nearest neighbour to a size rounded up gives. The converter's resizing to an odd size is another.
    """

    def forward(self, maps: Tensor, like: Tensor) -> Tensor:
        """(B, C, h, w) to the height and width of `like`."""
        height, width = size_hw(like)
        return F.interpolate(maps, scale_factor=2.0, mode="nearest")[..., :height, :width]


class LitertGraph(nn.Module):
    """A network for one image of one size.

    Args:
        network: the network; it is copied and folded.
        normalises: whether the graph takes pixels of 0..255, rather than normalised ones.
        argmax: whether classes of pixels come out, rather than their logits.
    """

    outputs: tuple[str, ...]

    def __init__(self, network: Network, *, normalises: bool = True, argmax: bool = False) -> None:
        super().__init__()
        own = copy.deepcopy(network).eval().to(memory_format=torch.contiguous_format)
        own.requires_grad_(False)
        own.fold()
        for name, module in list(own.named_modules()):
            if isinstance(module, Conv2dSame | KernelPaddedConv2d):
                own.set_submodule(name, PaddedConv2d(module))
            elif isinstance(module, Downsample) and module.same and module.resampling == "pool":
                own.set_submodule(name, PaddedPool2d())
            elif isinstance(module, Upsample) and module.mode == "nearest":
                own.set_submodule(name, DoubledNearest())
        self.network = own
        self.normalises = normalises
        self.argmax = argmax
        boxes, pixels = ("box_deltas", "scores"), ("class_rows" if argmax else "logits",)
        self.outputs = {EfficientDet: boxes, Segmenter: pixels, JointNetwork: boxes + pixels}[type(network)]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Box deltas (1, R, 4) and scores (1, R, K), logits (1, K, H, W), or all of them, of one image (1, 3, H, W)."""
        network, image_hw = self.network, size_hw(images)
        part = network.detector if isinstance(network, JointNetwork) else network
        normal = (images.to(part.mean.dtype) - part.mean) / part.std if self.normalises else images
        if isinstance(network, EfficientDet):
            return _boxes(network, network.backbone(normal))
        if isinstance(network, Segmenter):
            return (self._pixels(network(images)),)
        maps = network.backbone(normal)
        coarse = network.backbone.without_dilation(maps, image_hw)[1:]
        reader = network.segmenter.backbone
        assert isinstance(reader, SharedMaps)
        logits = network.segmenter.outputs_from(reader.pick(maps), reader.grids(image_hw), image_hw).logits
        return *_boxes(network.detector, coarse), self._pixels(logits)

    def _pixels(self, logits: Tensor) -> Tensor:
        return logits.argmax(1).to(torch.int32) if self.argmax else logits


def _boxes(detector: EfficientDet, features: list[Tensor]) -> tuple[Tensor, Tensor]:
    pyramid = detector.fpn(features)
    deltas = detector.box_head.flatten(detector.box_head(pyramid))
    return deltas, detector.class_head.flatten(detector.class_head(pyramid)).sigmoid()
