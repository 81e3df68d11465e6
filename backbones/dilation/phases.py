"""Dilated depthwise convolutions whose gradients a processor computes fast.

A convolution of dilation d reads, at every place, cells that are d apart: the cells fall into d x d sets ("phases", as
a polyphase filter has them) that never meet. Each set is a map of its own, on which the convolution has no holes. The
result is the same to rounding. What differs is the time: oneDNN has vectorised kernels for the gradient of depthwise
weights without holes only, and takes 20 times as long with holes (5x5 at dilation 2, a processor with AVX2; what a
whole training step gains is in benchmarks/RESULTS.md, by `benchmarks/beside_smp.py`).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

# With less than three cells in a phase, as at dilations 24 and 36 of a map of 32 x 64, many tiny maps cost more than
# the holes: measured with 320 channels and 3x3 weights.
LEAST_CELLS = 3


class PhasedConv2d(nn.Conv2d):
    """A convolution with the parameters of another; where it trains on a processor, it works phase by phase."""

    def __init__(self, conv: nn.Conv2d) -> None:
        nn.Module.__init__(self)
        # All attributes of the convolution with its parameters, without a second initialisation.
        self.__dict__.update(conv.__dict__)

    def forward(self, input: Tensor) -> Tensor:
        """From (B, C, h, w) to (B, C, h, w)."""
        learns = self.training and self.weight.requires_grad
        if learns and input.device.type == "cpu" and is_phased(self) and self._is_worthwhile(input):
            return by_phases(input, self.weight, self.bias, self.dilation[0])
        return super().forward(input)

    def _is_worthwhile(self, input: Tensor) -> bool:
        return min(input.shape[-2:]) > (LEAST_CELLS - 1) * self.dilation[0]


def is_phased(conv: nn.Conv2d) -> bool:
    """Whether `by_phases` gives what this convolution gives: it is depthwise, dilated and keeps the size."""
    dilation, kernel = conv.dilation[0], conv.kernel_size[0]
    return (
        dilation > 1
        and conv.dilation == (dilation, dilation)
        and conv.kernel_size == (kernel, kernel)
        and kernel % 2 == 1
        and conv.stride == (1, 1)
        and conv.padding == (dilation * (kernel // 2), dilation * (kernel // 2))
        and conv.padding_mode == "zeros"
        and conv.groups == conv.in_channels == conv.out_channels
    )


def use_phases(network: nn.Module) -> None:
    """Let every dilated depthwise convolution of a network train by phases; parameters and their names stay."""
    for name, module in list(network.named_modules()):
        if type(module) is nn.Conv2d and is_phased(module):
            network.set_submodule(name, PhasedConv2d(module))


def by_phases(maps: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """A depthwise convolution with holes that keeps the size, computed without holes.

    Args:
        maps: (B, C, h, w).
        weight: (C, 1, k, k), k odd.
        bias: (C), or None.
        dilation: d, the distance of the cells that one place reads.

    Returns:
        (B, C, h, w), in channels-last memory, equal to `conv2d` with padding d (k - 1) / 2 but for rounding.
    """
    batch, channels, height, width = maps.shape
    rows, columns = -(-height // dilation), -(-width // dilation)
    # Cells beyond the map are zeros for the convolution anyway.
    maps = F.pad(maps, (0, columns * dilation - width, 0, rows * dilation - height))
    phases = (
        maps.permute(0, 2, 3, 1)
        .reshape(batch, rows, dilation, columns, dilation, channels)
        .permute(0, 2, 4, 1, 3, 5)
        .reshape(batch * dilation**2, rows, columns, channels)
        .permute(0, 3, 1, 2)
    )
    phases = F.conv2d(phases, weight, bias, padding=weight.shape[-1] // 2, groups=channels)
    joined = (
        phases.permute(0, 2, 3, 1)
        .reshape(batch, dilation, dilation, rows, columns, channels)
        .permute(0, 3, 1, 4, 2, 5)
        .reshape(batch, rows * dilation, columns * dilation, channels)
    )
    return joined[:, :height, :width].permute(0, 3, 1, 2)
