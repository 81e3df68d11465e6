"""Networks of other libraries with random weights like those after a training, as oracles for the importers."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random statistics, affine parameters and biases: equal values would hide a wrong name or epsilon."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.3, 1.5, generator=generator)
        if isinstance(getattr(module, "bias", None), nn.Parameter):
            module.bias.data.normal_(0, 0.2, generator=generator)
    return network.eval()


def randomised_keras(network, seed: int = 0):
    """The same for a Keras model, with kernels scaled so that values stay of order one."""
    random = np.random.default_rng(seed)
    for variable in network.weights:
        name, shape = variable.path.rpartition("/")[2], variable.shape
        if name in ("gamma", "moving_variance", "variance"):
            variable.assign(random.uniform(0.3, 1.5, shape))
        elif name in ("beta", "moving_mean", "mean", "bias"):
            variable.assign(random.normal(0, 0.2, shape))
        elif name == "kernel":
            inputs = np.prod(shape[:2] if "dwconv" in variable.path else shape[:-1])
            variable.assign(random.normal(0, inputs**-0.5, shape))
    return network


def images(size: int, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Equal to 1e-5 of the largest value."""
    assert ours.shape == theirs.shape
    assert 0.01 < theirs.std() < 1e6, "the oracle's values are degenerate"
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def zylo_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """The weights that zylo117's library would save for an efficientnet_pytorch network.

    The library is on no package index. It embeds efficientnet_pytorch without the head and with every convolution in a
    wrapper that holds it as `conv`; the keys of the other parts follow the scheme in its repository.
    """
    state = {}
    for key, tensor in network.state_dict().items():
        if not key.startswith(("_conv_head", "_bn1.", "_fc")):
            module, _, leaf = key.rpartition(".")
            wrapped = f"{module}.conv.{leaf}" if "conv" in module or "_se_" in module else key
            state[f"backbone_net.model.{wrapped}"] = tensor
    return state | {
        "bifpn.0.conv6_up.depthwise_conv.conv.weight": torch.ones(64, 1, 3, 3),
        "bifpn.0.p6_w1": torch.ones(2),
        "regressor.header.pointwise_conv.conv.bias": torch.ones(36),
        "classifier.header.pointwise_conv.conv.bias": torch.ones(810),
    }
