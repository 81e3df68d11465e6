"""One extractor at two strides equals each of the two extractors that are built at a single stride."""

from __future__ import annotations

import copy

import pytest
import torch

from backbones.features import EfficientNetFeatures
from backbones.folding import fold
from backbones.two_strides import TwoStrideFeatures
from tests.shaken import shaken

LEVELS = (2, 3, 4, 5)


def equal(ours, expected):
    return (
        ours.shape == expected.shape and (ours - expected).abs().max() <= 1e-9 * expected.abs().max() and expected.any()
    )


@pytest.mark.by_default("16-tf_efficientnet_b0")
@pytest.mark.parametrize("name", ["tf_efficientnet_b0", "efficientnet_b0", "tf_efficientnet_lite0"])
@pytest.mark.parametrize("output_stride", [16, 8])
def test_both_strides_are_those_of_networks_built_at_them(name, output_stride):
    both = shaken(TwoStrideFeatures(name, levels=LEVELS, output_stride=output_stride))
    dense = EfficientNetFeatures(name, levels=LEVELS, output_stride=output_stride, exact_gates=True).eval().double()
    coarse = EfficientNetFeatures(name, levels=LEVELS).eval().double()
    for other in (dense, coarse):
        other.load_state_dict(both.state_dict())  # the same keys
    for size_hw in ((64, 96), (97, 130)):
        images = torch.randn(1, 3, *size_hw, dtype=torch.float64)
        with torch.no_grad():
            assert all(map(equal, both.coarse(images), coarse(images)))
            assert all(map(equal, both(images), dense(images)))  # and the switch has been put back
            assert all(map(equal, both.without_dilation(both(images), size_hw), coarse(images)))
        assert both.coarse_grids(size_hw) == coarse.grids(size_hw)


def test_the_switch_is_put_back_after_an_error():
    both = TwoStrideFeatures("tf_efficientnet_b0", levels=LEVELS, output_stride=16).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = both(images)
        with pytest.raises(RuntimeError):
            both.coarse(torch.randn(1, 4, 64, 64))
        assert all(map(torch.equal, both(images), expected))


def test_folding_keeps_both_strides():
    both = shaken(TwoStrideFeatures("tf_efficientnet_b0", levels=LEVELS, output_stride=16))
    folded = copy.deepcopy(both)
    fold(folded, torch.zeros(1, 3, 64, 64, dtype=torch.float64))
    images = torch.randn(1, 3, 66, 95, dtype=torch.float64)
    with torch.no_grad():
        assert all(map(equal, folded.coarse(images), both.coarse(images)))
        assert all(map(equal, folded(images), both(images)))


def test_both_strides_train_the_same_weights():
    both = TwoStrideFeatures("tf_efficientnet_lite0", levels=LEVELS, output_stride=16).train()
    images = torch.randn(2, 3, 64, 64)
    for maps in (both(images), both.coarse(images)):
        both.zero_grad()
        sum(each.square().mean() for each in maps).backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in both.parameters())
