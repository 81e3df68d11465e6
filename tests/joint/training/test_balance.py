"""Two losses become one step as in the papers: tested against their formulas in NumPy and plain autograd."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from engine.errors import InputError
from joint.training.balance import Balance, Uncertainty, agreement, gradient_vector, pcgrad_backward, project_conflicts


def paper(gradients):
    """Algorithm 1 of arXiv 2001.06782, line by line."""
    projected = []
    for i, own in enumerate(gradients):
        changed = own.copy()
        for j, other in enumerate(gradients):
            if i != j and changed @ other < 0:
                changed = changed - (changed @ other) / (other @ other) * other
        projected.append(changed)
    return sum(projected)


def test_conflicting_gradients_are_projected_as_by_hand():
    # g1·g2 = -1: g1' = (1, 0) + (-1, 1) / 2 = (1/2, 1/2), g2' = (-1, 1) + (1, 0) = (0, 1).
    found = project_conflicts(torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0]))
    assert found.tolist() == [0.5, 1.5]


@pytest.mark.parametrize("seed", range(8))
def test_projection_is_the_papers(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, 50))
    second = second - (1 if seed % 2 else -1) * 0.5 * first  # conflicts with it, or does not
    assert (first @ second < 0) == bool(seed % 2)
    found = project_conflicts(torch.from_numpy(first), torch.from_numpy(second))
    np.testing.assert_allclose(found.numpy(), paper([first, second]), rtol=1e-12)


def test_a_gradient_of_zero_conflicts_with_nothing():
    gradient, none = torch.tensor([1.0, -2.0]), torch.zeros(2)
    assert torch.equal(project_conflicts(gradient, none), gradient)
    assert torch.equal(project_conflicts(none, gradient), gradient)


def test_uncertainty_is_the_papers_formula():
    module = Uncertainty()
    losses, sigma = torch.tensor([3.0, 0.2]), np.array([1.5, 0.4])
    with torch.no_grad():
        module.log_variances.copy_(torch.from_numpy(np.log(sigma**2)))
    found = module(losses, torch.tensor([True, True]))
    # Equation 10 for two classifications: L / σ² + log σ, summed.
    expected = sum(loss / s**2 + math.log(s) for loss, s in zip(losses.tolist(), sigma, strict=True))
    assert found.item() == pytest.approx(expected, rel=1e-6)
    found.backward()
    slopes = [-loss / s**2 + 0.5 for loss, s in zip(losses.tolist(), sigma, strict=True)]
    assert module.log_variances.grad.tolist() == pytest.approx(slopes, rel=1e-6)


def test_learned_weights_end_where_each_loss_counts_one_half():
    module = Uncertainty()
    losses = torch.tensor([7.0, 0.03])
    optimizer = torch.optim.Adam(module.parameters(), 0.05)
    for _ in range(600):
        optimizer.zero_grad()
        module(losses, torch.tensor([True, True])).backward()
        optimizer.step()
    assert (torch.exp(-module.log_variances) * losses).tolist() == pytest.approx([0.5, 0.5], rel=1e-3)


def test_a_loss_without_labels_moves_no_log_variance():
    module = Uncertainty()
    module(torch.tensor([0.0, 2.0]), torch.tensor([False, True])).backward()
    assert module.log_variances.grad.tolist() == [0.0, -1.5]


class Shared(nn.Module):
    """One layer that both tasks share, and one for each task."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Linear(6, 5, dtype=torch.float64)
        self.first, self.second = (nn.Linear(5, 2, dtype=torch.float64) for _ in range(2))

    def forward(self, x):
        common = torch.tanh(self.backbone(x))
        return self.first(common).square().sum(), (self.second(common) + self.first(common.detach())).sum()


def flat(tensors):
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def test_agreement_of_gradients_by_hand():
    net, x = Shared(), torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    terms, shared = net(x), list(net.backbone.parameters())
    by_hand = [flat(torch.autograd.grad(term, shared, retain_graph=True)).numpy() for term in terms]
    vectors = [gradient_vector(term, shared) for term in terms]
    for found, expected in zip(vectors, by_hand, strict=True):
        np.testing.assert_array_equal(found.numpy(), expected)
    found = agreement(*vectors)
    lengths = [np.sqrt((each**2).sum()) for each in by_hand]
    assert float(found.cosine) == pytest.approx((by_hand[0] * by_hand[1]).sum() / lengths[0] / lengths[1], rel=1e-12)
    assert float(found.norm_ratio) == pytest.approx(lengths[0] / lengths[1], rel=1e-12)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("scale", [1.0, 1024.0, 0.25])
def test_the_backward_pass_projects_the_shared_gradients_only(scale):
    net, x = Shared(), torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    shared = list(net.backbone.parameters())
    own = [*net.first.parameters(), *net.second.parameters()]
    terms = net(x)
    conflict = [flat(torch.autograd.grad(term, shared, retain_graph=True)).numpy() for term in terms]
    assert conflict[0] @ conflict[1] < 0
    plain = torch.autograd.grad(terms[0] + terms[1], own, retain_graph=True)
    pcgrad_backward(scale * (terms[0] + terms[1]), terms, shared, own)
    np.testing.assert_allclose(flat([p.grad for p in shared]), scale * paper(conflict), rtol=1e-10)
    torch.testing.assert_close(flat([p.grad for p in own]), scale * flat(plain), rtol=1e-12, atol=0)
    # A second batch is added, as gradients of accumulated batches are.
    before = [p.grad.clone() for p in net.parameters()]
    terms = net(x)
    pcgrad_backward(scale * (terms[0] + terms[1]), terms, shared, own)
    for parameter, once in zip(net.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * once)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"method": "pcgrd"}, "Did you mean 'pcgrad'"),
        ({"detection": 0.0}, "balance.detection is 0.0; allowed: a number above 0"),
        ({"segmentation": math.nan}, "balance.segmentation is nan"),
        ({"measure": -1}, "balance.measure is -1"),
    ],
)
def test_values_out_of_range_are_refused(values, said):
    with pytest.raises(InputError, match=said):
        Balance(**values)
