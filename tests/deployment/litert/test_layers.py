"""The form of a network that the converter is given computes what the network does."""

from __future__ import annotations

import pytest
import torch

from backbones.grid import Grid, feature_grid, subsample
from deployment.litert.layers import coarse_cells
from deployment.litert.network import LitertNetwork
from segmentation.network.model import Segmenter
from tests.deployment.networks import joint, network_of, picture, segmenter

# Even and odd sides: TensorFlow's padding puts the cells at other places, at which maps lack cells on other sides.
SIZES = [(160, 224), (157, 211), (161, 192)]


def image_of(image_hw: tuple[int, int]) -> torch.Tensor:
    return torch.from_numpy(picture(*image_hw, seed=5))[None]


@pytest.mark.by_default("image_hw0", "image_hw3", "image_hw4", "image_hw5")
@torch.no_grad()
@pytest.mark.parametrize(
    ("overrides", "image_hw"),
    [
        *(({}, size) for size in SIZES),
        ({"member": "b0"}, SIZES[1]),
        ({"alignment": "corners"}, SIZES[1]),
        ({"image_pooling": False}, SIZES[0]),
    ],
)
def test_a_segmenter(overrides, image_hw):
    network = segmenter(**overrides)
    image = image_of(image_hw)
    expected = network(image.permute(0, 3, 1, 2))
    found = LitertNetwork(network, image_hw, argmax=False, integers=False).eval()(image)
    torch.testing.assert_close(found[0], expected.permute(0, 2, 3, 1), atol=1e-4, rtol=1e-4)
    rows = LitertNetwork(network.fold(), image_hw, argmax=True, integers=False).eval()(image)
    assert rows[0].dtype == torch.int32
    assert (rows[0] == expected.argmax(1)).float().mean() > 0.9999


@pytest.mark.by_default("image_hw0")
@torch.no_grad()
@pytest.mark.parametrize("image_hw", SIZES[:2])
def test_a_joint_network(image_hw):
    network, image = joint(), image_of(image_hw)
    expected = network(image.permute(0, 3, 1, 2))
    logits, deltas, _ = expected.predictions
    found = LitertNetwork(network, image_hw, argmax=False, integers=False).eval()(image)
    torch.testing.assert_close(found[0], deltas, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[1], logits.sigmoid(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[2], expected.segmentation.logits.permute(0, 2, 3, 1), atol=1e-4, rtol=1e-4)


@pytest.mark.by_default("joint")
@torch.no_grad()
@pytest.mark.parametrize("task", ["detection", "segmentation", "joint"])
def test_pixels_in_the_range_of_integers(task):
    """The same answers for -1..1 in place of 0..255."""
    network, image = network_of(task), image_of((160, 224))
    plain, scaled = (
        LitertNetwork(network, (160, 224), argmax=False, integers=integers).eval() for integers in (False, True)
    )
    for found, expected in zip(scaled(image / 127.5 - 1), plain(image), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_the_network_itself_stays_as_it_was():
    network = segmenter()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    mean = network.mean.clone()
    LitertNetwork(network, (160, 224), argmax=True, integers=True)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(network.mean, mean)
    assert isinstance(network, Segmenter)


@pytest.mark.parametrize("same_padding", [False, True])
@pytest.mark.parametrize("sides", [(64, 96), (61, 95), (96, 65)])
@pytest.mark.parametrize(("stride", "onto"), [(16, 32), (8, 32), (16, 16)])
def test_cells_of_a_coarser_grid(same_padding, sides, stride, onto):
    maps = torch.rand((1, 2, *(-(-side // stride) for side in sides)))
    grids: list[Grid] = [feature_grid(sides, each, same_padding=same_padding) for each in (stride, onto)]
    torch.testing.assert_close(coarse_cells(maps, *grids), subsample(maps, *grids), rtol=0, atol=0)
