"""Operators that exporters translate as one: padded convolution, pooling, and suppression.

TensorFlow's SAME padding depends on whether a side is odd. Written out in numbers it would tie a graph to one size;
ONNX and OpenVINO have it as an attribute (`auto_pad=SAME_UPPER`), for any size. PyTorch has none, so the graph holds
these operators, whose shapes the exporter knows, and each format says what becomes of them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from timm.layers.conv2d_same import conv2d_same
from torch import Tensor, nn
from torchvision.ops import nms

from backbones.folding import KernelPaddedConv2d
from backbones.gates import CoarseSqueezeExcite
from backbones.grid import size_hw
from deployment.export.places import OpenGates
from detection.network.bifpn import Downsample


@torch.library.custom_op("effdense::conv_same", mutates_args=())
def conv_same(features: Tensor, weight: Tensor, bias: Tensor | None, stride: int, groups: int) -> Tensor:
    """A convolution of (B, C, h, w) with TensorFlow's padding, to (B, C', ceil(h / stride), ceil(w / stride))."""
    convolved: Tensor = conv2d_same(features, weight, bias, (stride, stride), (0, 0), (1, 1), groups)
    return convolved


@conv_same.register_fake
def _(features: Tensor, weight: Tensor, bias: Tensor | None, stride: int, groups: int) -> Tensor:
    batch, _, height, width = features.shape
    return features.new_empty(batch, weight.shape[0], _halved(height, stride), _halved(width, stride))


@torch.library.custom_op("effdense::pool_same", mutates_args=())
def pool_same(features: Tensor) -> Tensor:
    """The maximum of 3 x 3 cells at stride 2 with TensorFlow's padding: to (B, C, ceil(h / 2), ceil(w / 2))."""
    height, width = size_hw(features)
    return F.max_pool2d(features, 3, stride=2, padding=(height % 2, width % 2), ceil_mode=True).clone()


@pool_same.register_fake
def _(features: Tensor) -> Tensor:
    batch, channels, height, width = features.shape
    return features.new_empty(batch, channels, _halved(height, 2), _halved(width, 2))


def _halved(side: int, stride: int) -> int:
    return (side + stride - 1) // stride


@torch.library.custom_op("effdense::suppress", mutates_args=())
def suppress(
    boxes_xyxy: Tensor,
    scores: Tensor,
    class_ids: Tensor,
    classes: int,
    iou_threshold: float,
    score_threshold: float,
    max_detections: int,
) -> Tensor:
    """Greedy suppression in each image and class; the scores of boxes that are dropped become 0.

    Args:
        boxes_xyxy: (B, M, 4) float32.
        scores: (B, M).
        class_ids: (B, M), in 0..K - 1.
        classes: K.
        iou_threshold: overlap above which a box is dropped.
        score_threshold: boxes at or below it are dropped.
        max_detections: most boxes that are kept of one class; more could not be among the best of an image.

    Returns:
        (B, M).
    """
    kept = torch.zeros_like(scores)
    for image in range(len(scores)):
        alive = (scores[image] > score_threshold).nonzero().flatten()
        boxes, values = boxes_xyxy[image, alive].double(), scores[image, alive]
        if not len(alive):
            continue
        shifts = class_ids[image, alive].double() * (boxes.max() - boxes.min() + 1)
        found = alive[nms(boxes + shifts[:, None], values.double(), iou_threshold)]
        kept[image, found] = scores[image, found]
    return kept


@suppress.register_fake
def _(
    boxes_xyxy: Tensor,
    scores: Tensor,
    class_ids: Tensor,
    classes: int,
    iou_threshold: float,
    score_threshold: float,
    max_detections: int,
) -> Tensor:
    return torch.empty_like(scores)


class SameConv2d(nn.Module):
    """A strided convolution whose padding is TensorFlow's, as one operator.

    Args:
        conv: the convolution as timm or folding built it.
    """

    def __init__(self, conv: Conv2dSame | KernelPaddedConv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.groups = conv.stride[0], conv.groups

    def forward(self, features: Tensor) -> Tensor:
        """From (B, C, h, w) to (B, C', ceil(h / stride), ceil(w / stride))."""
        convolved: Tensor = conv_same(features, self.weight, self.bias, self.stride, self.groups)
        return convolved


class SamePool2d(nn.Module):
    """The pyramid's pooling with TensorFlow's padding, as one operator."""

    def forward(self, features: Tensor) -> Tensor:
        """From (B, C, h, w) to (B, C, ceil(h / 2), ceil(w / 2))."""
        pooled: Tensor = pool_same(features)
        return pooled


def exportable(network: nn.Module) -> None:
    """Replace, in place, the layers whose paddings depend on the size of the map by layers of one operator."""
    for name, module in list(network.named_modules()):
        if isinstance(module, Conv2dSame | KernelPaddedConv2d):
            network.set_submodule(name, _of_one_operator(module))
        elif isinstance(module, Downsample) and module.same and module.resampling == "pool":
            network.set_submodule(name, SamePool2d())
        elif isinstance(module, CoarseSqueezeExcite):
            network.set_submodule(name, OpenGates(module))


def _of_one_operator(conv: Conv2dSame | KernelPaddedConv2d) -> nn.Module:
    if conv.stride[0] > 1:
        return SameConv2d(conv)
    # At stride 1 the padding is the same for every size, and the same on both sides of an odd kernel.
    assert isinstance(conv, Conv2dSame)
    size, spread = conv.kernel_size, conv.dilation
    padding = (spread[0] * (size[0] - 1) // 2, spread[1] * (size[1] - 1) // 2)
    plain = nn.Conv2d(
        conv.in_channels, conv.out_channels, size, 1, padding, spread, conv.groups, bias=conv.bias is not None
    )
    plain.load_state_dict(conv.state_dict())
    return plain
