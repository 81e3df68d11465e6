"""The places of cells on the image, against networks that only copy pixels, and against gradients of real networks."""

from __future__ import annotations

import pytest
import torch
from timm.layers import create_conv2d

from backbones.features import EfficientNetFeatures
from backbones.grid import Grid, feature_grid, resample


def copying_layers(kernels, same_padding):
    """Strided convolutions whose centre tap is 1: each output cell is a copy of one input pixel."""
    layers = []
    for kernel in kernels:
        layer = create_conv2d(1, 1, kernel, stride=2, padding="same" if same_padding else "")
        torch.nn.init.zeros_(layer.weight)
        layer.weight.data[0, 0, kernel // 2, kernel // 2] = 1
        layers.append(layer)
    return torch.nn.Sequential(*layers)


@pytest.mark.parametrize("same_padding", [True, False])
@pytest.mark.parametrize("kernels", [(3,), (3, 3), (3, 3, 5), (3, 5, 3, 5, 3)])
def test_a_cell_is_the_pixel_that_the_grid_says(kernels, same_padding):
    layers = copying_layers(kernels, same_padding)
    stride = 2 ** len(kernels)
    for length in (*range(33, 70), 127, 128, 129, 130):
        positions = torch.arange(length, dtype=torch.float32).expand(1, 1, length, length)
        with torch.no_grad():
            copied = layers(positions)[0, 0, 0]
        grid = feature_grid((length, length), stride, same_padding=same_padding)
        expected = [stride * i + grid.offset_yx[1] for i in range(len(copied))]
        inside = [i for i, position in enumerate(expected) if position < length]
        assert len(inside) >= len(expected) - 1  # the last cell's centre may lie on the padding
        assert copied[inside].tolist() == [expected[i] for i in inside]


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "efficientnet_lite0", "tf_efficientnetv2_b0"])
@pytest.mark.parametrize("width", [255, 256, 258])
def test_the_field_of_view_of_a_real_cell_is_centred_on_the_grid(name, width):
    network = EfficientNetFeatures(name, levels=(1, 2, 3)).eval()
    for parameter in network.parameters():
        parameter.data.abs_()  # nothing cancels
    for module in network.modules():
        if hasattr(module, "gate") or type(module).__name__ == "SqueezeExcite":
            module.forward = lambda x: x  # it looks at the whole image
    image = (1e-9 * torch.rand(1, 3, 64, width)).requires_grad_()  # so faint that no ReLU6 saturates
    for features, grid in zip(network(image), network.grids((64, width)), strict=True):
        column = features.shape[-1] // 2
        (gradient,) = torch.autograd.grad(features[..., column].sum(), image, retain_graph=True)
        seen = gradient.abs().sum((0, 1, 2)).nonzero().flatten()
        assert (int(seen[0]) + int(seen[-1])) / 2 == grid.stride * column + grid.offset_yx[1]


@pytest.mark.parametrize("same_padding", [True, False])
@pytest.mark.parametrize("size_hw", [(33, 64), (64, 33), (47, 80), (256, 255), (34, 36)])
def test_a_ramp_stays_a_ramp(size_hw, same_padding):
    # A map that holds its cells' own positions gives, wherever it is read between two cells, the position asked for.
    for stride, onto in ((4, Grid(1, (0, 0))), (16, None), (8, None), (32, Grid(1, (0, 0)))):
        grid = feature_grid(size_hw, stride, same_padding=same_padding)
        target = onto or feature_grid(size_hw, 4, same_padding=same_padding)
        cells = [-(-side // stride) for side in size_hw]
        fine = [-(-side // target.stride) for side in size_hw]
        y, x = (grid.offset_yx[a] + stride * torch.arange(cells[a], dtype=torch.float64) for a in (0, 1))
        ramp = torch.stack(torch.meshgrid(y, x, indexing="ij"))[None]
        read = resample(ramp, grid, target, (fine[0], fine[1]))
        assert tuple(read.shape[-2:]) == tuple(fine)
        for axis, positions in enumerate((y, x)):
            wanted = target.offset_yx[axis] + target.stride * torch.arange(fine[axis], dtype=torch.float64)
            wanted = wanted.clamp(positions[0], positions[-1])
            along = read[0, axis, :, 0] if axis == 0 else read[0, axis, 0, :]
            assert torch.allclose(along, wanted, atol=1e-9)
