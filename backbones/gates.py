"""Squeeze-and-excitation that, in a network made dense by dilation, averages over no more cells than before.

Where a stride became a dilation, every convolution still has at the cells of the coarser grid the values that it had
there with the stride. A gate does not: it averages over the whole map (Hu et al., "Squeeze-and-Excitation Networks",
arXiv:1709.01507, equation 2), which now has four or sixteen times as many cells. If the average runs only over the
cells of the coarser grid, the dense maps hold those of the coarser network unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextvars import ContextVar

from timm.layers import BlurPool2d, CondConv2d, GlobalContext
from torch import Tensor, nn

from backbones.grid import Grid, feature_grid, size_hw, subsample
from backbones.networks import SqueezeExcite
from engine.errors import InputError

# Whether the pass that is running is one at stride 32 (`backbones.two_strides`). It belongs to the pass and not to the
# layers, because threads that share a network may run both passes at once, and timm's blocks take no second argument.
AT_STRIDE_32: ContextVar[bool] = ContextVar("AT_STRIDE_32", default=False)

# These layers average over the map as well, or (blur) are left out by timm together with the stride.
_INEXACT = (GlobalContext, CondConv2d, nn.GroupNorm, BlurPool2d)


class CoarseSqueezeExcite(nn.Module):
    """timm's `SqueezeExcite`, with the same parameters and keys, averaging over every `step`-th cell.

    In a pass at stride 32 the map has only the cells of the coarser grid, and all are averaged.

    Args:
        gates: the layer whose parameters are taken.
        step: cells of the map per cell of the coarser grid, along either axis; a power of two.
        same_padding: whether the network's strided convolutions have TensorFlow's padding, which decides at which cell
            the coarser grid starts.
    """

    def __init__(self, gates: SqueezeExcite, step: int, *, same_padding: bool) -> None:
        super().__init__()
        self.conv_reduce = gates.conv_reduce
        self.act1 = gates.act1
        self.conv_expand = gates.conv_expand
        self.gate = gates.gate
        self.step = step
        self.same_padding = same_padding

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of (B, C, h, w), each by a factor in 0..1."""
        # The lost layers of stride 2 would have started from this map, so its size alone decides where the grid starts.
        step = 1 if AT_STRIDE_32.get() else self.step
        coarse = feature_grid(size_hw(x), step, same_padding=self.same_padding)
        mean = subsample(x, Grid(1, (0, 0)), coarse).mean((2, 3), keepdim=True)
        scale: Tensor = self.gate(self.conv_expand(self.act1(self.conv_reduce(mean))))
        return x * scale

    def extra_repr(self) -> str:
        """The settings that the children do not show."""
        return f"step={self.step}, same_padding={self.same_padding}"


def make_gates_exact(stages: Iterable[nn.Module], steps: Sequence[int], *, same_padding: bool) -> None:
    """Let the gates behind a lost stride average over the cells that the network with that stride has, in place.

    Args:
        stages: the block stages from the first one on.
        steps: for each, its stride in the network of stride 32 over its stride here; 1 leaves a stage as it is.
        same_padding: whether the network's strided convolutions have TensorFlow's padding.

    Raises:
        InputError: a stride was lost, and the network has layers that no such gate makes exact.
    """
    stages = list(stages)
    if max(steps) == 1:
        return
    for module in (module for stage in stages for module in stage.modules()):
        if isinstance(module, _INEXACT):
            kind = type(module).__name__
            msg = f"exact_gates needs batch norm and squeeze-and-excite; this network has {kind}. Leave the option out."
            raise InputError(msg)
    for stage, step in zip(stages, steps, strict=True):
        for block in stage.children():
            if step > 1 and isinstance(getattr(block, "se", None), SqueezeExcite):
                block.se = CoarseSqueezeExcite(block.se, step, same_padding=same_padding)
