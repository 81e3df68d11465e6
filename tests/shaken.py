"""Networks whose batch norms look like trained ones."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def shaken(network):
    """In evaluation mode, no statistic or factor at its starting value; in double, where rounding hides nothing."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.uniform_(0.7, 1.3)
            module.bias.uniform_(-0.3, 0.3)
    return network.eval().double()
