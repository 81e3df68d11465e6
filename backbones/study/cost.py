"""The cost of a network: parameters and multiply-accumulates, counted on the network itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """The size and the work of a network.

    Attributes:
        parameters: the number of trainable values, without running statistics.
        macs: multiply-accumulates of convolutions and matrix products for one image. The papers on EfficientNet call
            these FLOPS; normalisation, activations and additions are not counted.
    """

    parameters: int
    macs: int


def count(network: nn.Module, image_hw: tuple[int, int], in_channels: int = 3) -> Cost:
    """Count a network's parameters, and its multiply-accumulates at an image size, by running it once.

    Each product that PyTorch computes is counted where it is computed, so the number includes squeeze-and-excitation,
    dilation, padding and the rounding of channels and repeats. On the meta device nothing is really computed.

    Args:
        network: a network of images (1, in_channels, H, W); it is run in evaluation mode and left as it was.
        image_hw: height and width in pixels.
        in_channels: channels of the image.
    """
    parameters = list(network.parameters())
    device = parameters[0].device if parameters else torch.device("cpu")
    was_training = {module: module.training for module in network.modules()}
    counter = FlopCounterMode(display=False)
    network.eval()
    try:
        with torch.no_grad(), counter:
            network(torch.zeros(1, in_channels, *image_hw, device=device))
    finally:
        for module, mode in was_training.items():
            module.training = mode
    # PyTorch counts a multiplication and an addition as two operations.
    return Cost(sum(parameter.numel() for parameter in parameters), counter.get_total_flops() // 2)
