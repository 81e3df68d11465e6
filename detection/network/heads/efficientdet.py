"""The class and box heads: convolutions are shared by all levels, batch norms belong to one level each.

Source: arXiv 1911.09070 section 4.2 and google/automl `efficientdet/tf2/efficientdet_keras.py` (6a54c87).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detection.network.bifpn import NormFactory, SeparableConv, activation_layer
from detection.network.family import DetectorArchitecture

PRIOR = 0.01  # score of every anchor before training (RetinaNet, arXiv 1708.02002, section 3.3)
CLASS_BIAS = -math.log((1.0 - PRIOR) / PRIOR)


class Head(nn.Module):
    """Predicts `outputs` values for each of the A anchors of every cell.

    Args:
        outputs: K for the class head, 4 for the box head.
        config: channels, repeats, activation.
    """

    def __init__(self, outputs: int, config: DetectorArchitecture) -> None:
        super().__init__()
        channels, repeats = config.fpn_channels, config.head_repeats
        norm = NormFactory(config.norm_eps, config.norm_momentum)
        self.outputs = outputs
        self.convs = nn.ModuleList(SeparableConv(channels, channels, bias=False) for _ in range(repeats))
        self.norms = nn.ModuleList(nn.ModuleList(norm(channels) for _ in range(repeats)) for _ in config.levels)
        self.act = activation_layer(config.activation)
        self.predict = SeparableConv(channels, outputs * config.anchors_per_cell, bias=True)

    def forward(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Pyramid maps (B, C, H_l, W_l) to (B, A * outputs, H_l, W_l), anchor-major."""
        return [self.predict(x) for x in self.towers(pyramid)]

    def towers(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """The maps (B, C, H_l, W_l) from which values are predicted."""
        maps = []
        for x, norms in zip(pyramid, self.norms, strict=True):
            assert isinstance(norms, nn.ModuleList)
            for conv, norm in zip(self.convs, norms, strict=True):
                x = self.act(norm(conv(x)))
            maps.append(x)
        return maps

    def flatten(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps of all levels to (B, R, outputs), in the order of the anchors: level, row, column, anchor."""
        return torch.cat([x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.outputs) for x in maps], dim=1)


def initialise_head(head: Head, *, last_bias: float = 0.0) -> None:
    """Fan-in scaled normal kernels (tf.initializers.variance_scaling of the official code).

    A depthwise kernel's fan-in is its nine weights. `last_bias` is the bias of the predicting layer.
    """
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=1.0 / math.sqrt(layer.weight[0].numel()))
    assert head.predict.pointwise.bias is not None
    nn.init.constant_(head.predict.pointwise.bias, last_bias)
