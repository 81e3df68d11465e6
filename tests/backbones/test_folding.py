"""Folded networks compute what they computed before, at every size, and can no longer be trained."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from backbones.features import EfficientNetFeatures
from backbones.folding import fold
from detection.network.model import EfficientDet
from engine.errors import InputError
from segmentation.network.model import Segmenter
from tests.shaken import shaken


def equal(ours, expected):
    return (ours - expected).abs().max() <= 1e-9 * expected.abs().max()


@pytest.mark.by_default("32-tf_efficientnet_lite0")
@pytest.mark.parametrize(
    "name", ["tf_efficientnet_b0", "tf_efficientnet_lite0", "efficientnet_b0", "tf_efficientnetv2_b0"]
)
@pytest.mark.parametrize("output_stride", [32, 8])
def test_features_are_the_same_at_even_and_odd_sizes(name, output_stride):
    network = shaken(EfficientNetFeatures(name, levels=(1, 3, 5), output_stride=output_stride))
    folded = copy.deepcopy(network)
    fold(folded, torch.zeros(1, 3, 64, 64).double())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    for size_hw in ((64, 96), (65, 97), (66, 79), (67, 98)):
        images = torch.randn(2, 3, *size_hw).double()
        with torch.no_grad():
            pairs = list(zip(folded(images), network(images), strict=True))
        assert all(equal(ours, expected) for ours, expected in pairs), size_hw


def test_padding_the_kernel_is_padding_the_map():
    """timm's own layer is the oracle, for every parity and kernel."""
    for kernel, stride in ((3, 2), (5, 2), (4, 2), (3, 1), (2, 3)):
        conv = Conv2dSame(4, 4, kernel, stride=stride, groups=2).double()
        folded = nn.Sequential(copy.deepcopy(conv)).eval()
        fold(folded, torch.zeros(1, 4, 8, 8).double())
        assert type(folded[0]) is not Conv2dSame
        for height in (7, 8, 9, 10):
            for width in (8, 11):
                maps = torch.randn(1, 4, height, width).double()
                assert equal(folded(maps), conv(maps)), (kernel, stride, height, width)


def test_a_dilated_uneven_padding_is_left_alone():
    conv = Conv2dSame(2, 2, 2, stride=2, dilation=3)
    folded = nn.Sequential(conv).eval()
    fold(folded, torch.zeros(1, 2, 8, 8))
    assert folded[0] is conv


@pytest.mark.parametrize("decoder", ["deeplabv3plus", "unet"])
def test_a_segmenter_says_the_same(decoder):
    network = shaken(Segmenter("lite0", 5, decoder=decoder))
    folded = copy.deepcopy(network).fold()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    for size_hw in ((64, 96), (75, 131)):
        images = torch.randint(0, 256, (2, 3, *size_hw), dtype=torch.uint8)
        with torch.no_grad():
            assert equal(folded(images), network(images))


def test_a_detector_says_the_same_and_its_shared_convolutions_keep_their_norms():
    network = shaken(EfficientDet("d0", 4))
    folded = copy.deepcopy(network).fold()
    left = [name for name, module in folded.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert left
    assert all(".norms." in name for name in left)
    images = torch.randint(0, 256, (2, 3, 128, 256), dtype=torch.uint8)
    with torch.no_grad():
        for ours, expected in zip(folded.predictions(images)[:2], network.predictions(images)[:2], strict=True):
            assert equal(ours, expected)


def test_it_folds_in_inference_mode_too():
    network = shaken(Segmenter("lite0", 5))
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        expected = network(images)
        assert equal(network.fold()(images), expected)


def test_a_folded_network_is_not_trained():
    network = Segmenter("lite0", 5).fold()
    assert network.fold() is network
    assert network.eval() is network
    with pytest.raises(InputError, match="cannot be trained"):
        network.train()
    with pytest.raises(InputError, match="keeps its output stride"):
        network.at_stride(8)
    assert Segmenter("lite0", 5).train().training
