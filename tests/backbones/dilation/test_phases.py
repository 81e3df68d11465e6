"""Dilated depthwise convolutions phase by phase: equal to PyTorch's, and used exactly where they train."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from backbones.dilation import phases
from backbones.dilation.phases import PhasedConv2d, by_phases, is_phased
from backbones.features import EfficientNetFeatures
from segmentation.network.model import Segmenter


@pytest.mark.parametrize(
    ("size_hw", "kernel", "dilation"),
    [((32, 64), 5, 2), ((32, 64), 3, 12), ((33, 65), 5, 2), ((31, 17), 3, 4), ((7, 5), 3, 6), ((9, 14), 7, 3)],
)
@pytest.mark.parametrize("bias", [False, True])
def test_it_is_the_convolution_with_holes(size_hw, kernel, dilation, bias):
    generator = torch.Generator().manual_seed(0)
    given = [
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((2, 6, *size_hw), (6, 1, kernel, kernel), (6,))
    ]
    outputs, gradients = [], []
    for phased in (False, True):
        maps, weight, offset = (tensor.clone().requires_grad_() for tensor in given)
        if phased:
            found = by_phases(maps, weight, offset if bias else None, dilation)
        else:
            padding = dilation * (kernel // 2)
            found = F.conv2d(maps, weight, offset if bias else None, padding=padding, dilation=dilation, groups=6)
        (found * torch.linspace(-1, 1, found.numel(), dtype=found.dtype).reshape(found.shape)).sum().backward()
        outputs.append(found.detach())
        gradients.append([tensor.grad for tensor in (maps, weight, *([offset] if bias else []))])
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-11, atol=1e-11)


@pytest.fixture
def counted(monkeypatch):
    calls = []

    def counting(maps, weight, bias, dilation):
        calls.append((maps.shape[1], dilation))
        return by_phases(maps, weight, bias, dilation)

    monkeypatch.setattr(phases, "by_phases", counting)
    return calls


@pytest.mark.slow
def test_a_segmenter_trains_as_with_plain_convolutions(counted):
    torch.manual_seed(0)
    network = Segmenter("b0", 3).double().train()
    plain = Segmenter("b0", 3).double().train()
    plain.load_state_dict(network.state_dict())
    replaced = [name for name, module in plain.named_modules() if type(module) is PhasedConv2d]
    for name in replaced:
        own = plain.get_submodule(name)
        conv = nn.Conv2d(
            own.in_channels, own.out_channels, own.kernel_size, 1, own.padding, own.dilation, own.groups, bias=False
        )
        conv.weight = own.weight
        plain.set_submodule(name, conv)
    images = torch.randint(0, 256, (2, 3, 208, 208), dtype=torch.uint8)
    answers = []
    for one in (network, plain):
        torch.manual_seed(1)  # for the dropout
        logits = one(images)
        logits.square().mean().backward()
        answers.append((logits.detach(), {name: value.grad for name, value in one.named_parameters()}))
    # The last three 5x5 and the 3x3 of the seventh stage at dilation 2; of the ASPP's rates 6, 12 and 18 the last two
    # leave too few cells of 13 x 13.
    assert counted == [*[(1152, 2)] * 4, (320, 6)]
    torch.testing.assert_close(answers[0][0], answers[1][0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(answers[0][1], answers[1][1], rtol=1e-7, atol=1e-9)


def test_only_a_training_goes_by_phases(counted):
    network = Segmenter("b0", 3)
    images = torch.randint(0, 256, (1, 3, 128, 128), dtype=torch.uint8)
    network.eval()(images)
    frozen = EfficientNetFeatures("tf_efficientnet_b0", output_stride=16, frozen_stages=-1).train()
    frozen(torch.randn(1, 3, 128, 128))
    assert not counted


def test_names_of_parameters_stay_and_copies_are_whole():
    network = EfficientNetFeatures("tf_efficientnet_b0", output_stride=8)
    dilated = [module for module in network.modules() if isinstance(module, nn.Conv2d) and module.dilation != (1, 1)]
    assert len(dilated) > 5
    assert all(type(module) is PhasedConv2d and is_phased(module) for module in dilated)
    assert set(network.state_dict()) == set(EfficientNetFeatures("tf_efficientnet_b0").state_dict())


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=1, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, stride=2),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, padding_mode="reflect"),
        nn.Conv2d(4, 4, (3, 1), padding=(2, 0), dilation=(2, 2), groups=4),
        nn.Conv2d(4, 4, 3, padding=(4, 2), dilation=(4, 2), groups=4),
    ],
)
def test_other_convolutions_stay(conv):
    assert not is_phased(conv)
