"""A network rewritten for prediction: the same outputs with fewer passes over memory. It cannot be trained further.

In evaluation a batch norm is a fixed scale and shift of each channel, which the convolution in front of it can take up
(`torch.nn.utils.fusion`). A strided convolution with TensorFlow's padding, which adds one row below and one column to
the right of an even-sized map, need not copy the map for this: its kernel is padded instead.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import Self

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, get_same_padding
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from backbones.grid import size_hw
from engine.errors import InputError


class Foldable(nn.Module, ABC):
    """A network that takes (B, 3, H, W) uint8 images and can be folded for prediction."""

    folded = False

    @property
    @abstractmethod
    def stride(self) -> int:
        """The number of pixels that the height and width of images should be multiples of."""

    def fold(self) -> Self:
        """Fold the network in place, see `fold`. Its state dict then has other entries."""
        if not self.folded:
            device = next(self.parameters()).device
            fold(self.eval(), torch.zeros((1, 3, 2 * self.stride, 2 * self.stride), dtype=torch.uint8, device=device))
            self.eval()  # the layers that are new too, so that no prediction has to change them
            self.folded = True
        return self

    def train(self, mode: bool = True) -> Self:
        """Set the training mode.

        Raises:
            InputError: the network is folded.
        """
        if mode and self.folded:
            msg = "a network folded for prediction cannot be trained. Load it with fold=False."
            raise InputError(msg)
        return super().train(mode)


@torch.inference_mode(False)
@torch.no_grad()
def fold(network: nn.Module, images: Tensor) -> None:
    """Fold batch norms and paddings of a network into its convolutions, in place.

    One pass shows which convolution feeds which norm, so a convolution that several norms share, as in the heads of
    EfficientDet, is left alone.

    Args:
        network: a network in evaluation mode, on any device.
        images: an input of the network on its device, which may be as small as the network accepts.
    """
    assert not network.training, "running statistics are only fixed in evaluation mode"
    pairs = _norms_behind_convolutions(network, images)
    for norm, conv in pairs.items():
        _take_up(conv, norm)
    for name, module in list(network.named_modules()):
        if module in pairs:
            # A norm of timm holds its activation; any other norm is followed by its activation.
            network.set_submodule(name, getattr(module, "act", None) or nn.Identity())
        elif type(module) is Conv2dSame and module.dilation == (1, 1):
            network.set_submodule(name, KernelPaddedConv2d(module))


class KernelPaddedConv2d(nn.Module):
    """A convolution with TensorFlow's padding; where it is uneven, zeros in front of the kernel make it even.

    The padded kernels are kept: exporters to ONNX know no convolution whose kernel is computed in the graph.
    """

    kernel_01: Tensor
    kernel_10: Tensor
    kernel_11: Tensor

    def __init__(self, conv: Conv2dSame) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.groups = conv.stride, conv.groups
        for rows, columns in ((0, 1), (1, 0), (1, 1)):
            self.register_buffer(f"kernel_{rows}{columns}", F.pad(conv.weight.detach(), (columns, 0, rows, 0)))

    def forward(self, features: Tensor) -> Tensor:
        """From (B, C, h, w) to (B, C', ceil(h / stride), ceil(w / stride))."""
        sides, kernels = size_hw(features), (self.weight, self.kernel_01, self.kernel_10, self.kernel_11)
        total_h, total_w = (
            get_same_padding(sides[axis], self.weight.shape[2 + axis], self.stride[axis], 1) for axis in (0, 1)
        )
        kernel, paddings = kernels[2 * (total_h % 2) + total_w % 2], ((total_h + 1) // 2, (total_w + 1) // 2)
        return F.conv2d(features, kernel, self.bias, self.stride, paddings, groups=self.groups)


def _norms_behind_convolutions(network: nn.Module, images: Tensor) -> dict[nn.BatchNorm2d, nn.Conv2d]:
    """Batch norms whose input is exactly the output of a convolution that runs only once."""
    outputs: list[tuple[Tensor, int, nn.Conv2d]] = []  # keeps the tensors, so that no other gets their id
    fed_by: dict[nn.BatchNorm2d, nn.Conv2d] = {}
    calls: Counter[nn.Module] = Counter()

    def see_convolution(conv: nn.Conv2d, _: tuple[Tensor, ...], output: Tensor) -> None:
        calls[conv] += 1
        outputs.append((output, output._version, conv))

    def see_norm(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        calls[norm] += 1
        for output, version, conv in outputs:
            if output is inputs[0] and output._version == version:
                fed_by[norm] = conv

    handles = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(see_convolution))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            handles.append(module.register_forward_pre_hook(see_norm))
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
    return {norm: conv for norm, conv in fed_by.items() if calls[norm] == calls[conv] == 1}


def _take_up(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias)
    conv.weight.data.copy_(weight)  # in place, which keeps the memory format
    conv.bias = bias
