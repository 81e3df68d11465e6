"""Costs counted on the network against hand calculation, hooks, and the published costs of torchvision's networks."""

from __future__ import annotations

import math

import pytest
import timm
import torch
import torchvision
from torch import nn

from backbones.published import PUBLISHED
from backbones.study.cost import Cost, count

# Table 1 of arXiv:1905.11946, stages 2 to 8: expansion, kernel, stride of the first block, channels, layers.
B0_STAGES = [(1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3),
             (6, 5, 2, 192, 4), (6, 3, 1, 320, 1)]  # fmt: skip


def b0_by_hand(gates):
    """Parameters and MACs of B0 at 224 pixels, layer by layer from the paper's table."""
    side, channels = 112, 32
    parameters = 3 * 32 * 9 + 2 * 32
    macs = 3 * 32 * 9 * side**2
    for expansion, kernel, stride, out, layers in B0_STAGES:
        for layer in range(layers):
            step = stride if layer == 0 else 1
            wide = channels * expansion
            if expansion > 1:
                parameters += channels * wide + 2 * wide
                macs += channels * wide * side**2
            side //= step
            parameters += kernel**2 * wide + 2 * wide
            macs += kernel**2 * wide * side**2
            if gates:
                squeezed = channels // 4
                parameters += 2 * wide * squeezed + wide + squeezed
                macs += 2 * wide * squeezed
            parameters += wide * out + 2 * out
            macs += wide * out * side**2
            channels = out
    parameters += channels * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    macs += channels * 1280 * side**2 + 1280 * 1000
    return Cost(parameters, macs)


def on_meta(name, **options):
    with torch.device("meta"):
        return timm.create_model(name, **options)


def test_b0_is_the_papers_table_by_hand():
    assert count(on_meta("tf_efficientnet_b0"), (224, 224)) == b0_by_hand(gates=True)
    # Lite0 is B0 without gates; ReLU6 has neither parameters nor products.
    assert count(on_meta("tf_efficientnet_lite0"), (224, 224)) == b0_by_hand(gates=False)


def macs_by_hooks(network, image):
    """Multiply-accumulates from the shapes that pass through each convolution and linear layer."""
    total = 0

    def add(module, _, output):
        nonlocal total
        inputs = module.weight[0].numel() if isinstance(module, nn.Conv2d) else module.in_features
        total += output.numel() * inputs

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(add)
    network(image)
    return total


@pytest.mark.parametrize(("stride", "size_hw"), [(32, (97, 130)), (8, (64, 96))])
def test_dilation_padding_and_odd_sizes_are_counted(stride, size_hw):
    network = timm.create_model("efficientnet_b0", features_only=True, output_stride=stride, in_chans=4).eval()
    counted = count(network, size_hw, in_channels=4)
    assert counted.macs == macs_by_hooks(network, torch.rand(1, 4, *size_hw))
    assert counted.parameters == sum(math.prod(parameter.shape) for parameter in network.parameters())


def test_counting_leaves_the_network_as_it_was():
    network = timm.create_model("efficientnet_lite0").train()
    network.bn1.eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    count(network, (64, 64))
    assert network.training
    assert not network.bn1.training
    assert network.blocks[0][0].bn1.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


TORCHVISION = {member: f"efficientnet_{member}" for member in PUBLISHED if not member.startswith("lite")}


@pytest.mark.parametrize("member", TORCHVISION)
def test_the_published_figures_are_torchvisions(member):
    weights = torchvision.models.get_model_weights(TORCHVISION[member]).IMAGENET1K_V1
    macs, top1 = PUBLISHED[member].macs_billions[-1], PUBLISHED[member].top1[-1]
    assert macs.source == top1.source == "torchvision"
    assert macs.value == weights.meta["_ops"]
    assert top1.value == weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert [macs.image_size] == [top1.image_size] == weights.transforms().crop_size
