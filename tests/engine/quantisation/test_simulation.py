"""Layers compute with values of int8, gradients pass, and the network stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from engine.quantisation.simulation import SHARE, Int8Simulation, rounded, rounded_weight


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(128, 2)
    )


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.0, 6.0), (-2.5, 0.0)])
def test_inputs_are_on_the_grid_of_their_range(low, high):
    values = np.random.default_rng(0).normal(0, 3, 20_000).astype(np.float32)
    found = rounded(torch.tensor(values), torch.tensor([low, high]))
    step = (high - low) / 255
    points = found.numpy() / step
    np.testing.assert_allclose(points, points.round(), atol=1e-3)
    assert np.abs(found.numpy() - values.clip(low, high)).max() < 0.51 * step
    assert 200 < len(found.unique()) <= 256
    assert rounded(torch.zeros(3), torch.tensor([low, high])).eq(0).all()


@pytest.mark.parametrize(("bits", "most"), [(8, 127), (7, 63)])
def test_weights_have_a_step_for_each_output_channel(bits, most):
    weight = torch.randn(5, 3, 3, 3) * torch.tensor([1, 10, 100, 0.01, 0.0]).view(-1, 1, 1, 1)
    found = rounded_weight(weight, most).numpy()
    for row, own in zip(found, weight.numpy(), strict=True):
        step = np.abs(own).max() / most or 1.0
        np.testing.assert_allclose(row, np.round(own / step) * step, rtol=1e-5, atol=1e-7)
        assert len(np.unique(row)) <= 2 * most + 1


@torch.no_grad()
def test_a_pass_is_that_of_rounded_weights_and_inputs_and_the_parameters_stay():
    network = small().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = torch.randn(2, 3, 8, 8)
    plain = network(images)

    def whole(values: torch.Tensor) -> torch.Tensor:
        return rounded(values, torch.stack([values.min().clamp(max=0), values.max().clamp(min=0)]))

    with Int8Simulation(network) as simulation:
        found = network(images)
        assert list(network.state_dict()) == list(before)
        assert dict(simulation.ranges) == {}  # nothing is learnt in eval mode
    first, norm, _, second, _, last = network
    map_ = F.conv2d(whole(images), rounded_weight(first.weight, 127), first.bias)
    map_ = F.conv2d(whole(norm(map_).relu()), rounded_weight(second.weight, 127), second.bias, groups=8)
    expected = F.linear(whole(map_.flatten(1)), rounded_weight(last.weight, 127), last.bias)
    torch.testing.assert_close(found, expected)
    assert not torch.equal(found, plain)
    assert torch.equal(network(images), plain)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_gradients_pass_to_the_parameters():
    network = small().train()
    with Int8Simulation(network):
        network(torch.randn(4, 3, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters() if p.ndim > 1)


def test_ranges_follow_the_batches_and_go_on():
    network = nn.Sequential(nn.Linear(2, 2)).train()
    with Int8Simulation(network) as simulation:
        network(torch.tensor([[-1.0, 2.0]]))
        network(torch.tensor([[3.0, -0.5]]))
        simulation.follow()
        assert simulation.ranges["0"].tolist() == [-1.0, 3.0]
        network(torch.tensor([[-2.0, 1.0]]))
        simulation.follow(lambda ranges: ranges + 1)  # another device has seen more
        expected = [-1.0 + SHARE * (-3.0 + 1.0), 3.0 + SHARE * (2.0 - 3.0)]
        assert simulation.ranges["0"].tolist() == pytest.approx(expected)
    again = Int8Simulation(network)
    again.restore(simulation.ranges)
    assert torch.equal(again.ranges["0"], simulation.ranges["0"])


def test_a_training_gets_used_to_four_bits_worth_of_weights():
    """A network that is trained with few steps of a weight loses less by them than one that is rounded afterwards."""
    torch.manual_seed(0)
    inputs = torch.randn(512, 8)
    targets = (inputs @ torch.randn(8, 1)).tanh() + inputs[:, :1] * inputs[:, 1:2]
    losses = {}
    for simulate in (False, True):
        torch.manual_seed(1)
        network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        simulation = Int8Simulation(network)
        simulation._most = 3  # coarse, so that the difference is plain
        if simulate:
            simulation.start()
        optimizer = torch.optim.Adam(network.parameters(), 0.01)
        for _ in range(400):
            optimizer.zero_grad()
            F.mse_loss(network(inputs), targets).backward()
            optimizer.step()
            simulation.follow()
        if not simulate:
            simulation.start()
        network.eval()
        losses[simulate] = F.mse_loss(network(inputs), targets).item()
    assert losses[True] < 0.7 * losses[False]
