"""How the losses of two tasks become one step: fixed weights, learned uncertainty or projected gradients.

Tuned fixed weights equal or beat the other methods in most comparisons (arXiv 2209.11379, 2505.10347); the measures of
agreement tell whether there is a conflict to be solved at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from engine.checked import Checked
from engine.distributed import all_reduce_sum, world_size
from engine.numbers import NonNegativeInt, PositiveFloat

Method = Literal["fixed", "uncertainty", "pcgrad"]


@dataclass(frozen=True)
class Balance(Checked):
    """The weighting of the two losses.

    Attributes:
        method: `fixed` takes the sum of the weighted losses; `uncertainty` learns a log-variance for each (Kendall,
            Gal, Cipolla, arXiv 1705.07115); `pcgrad` projects each task's gradient of the shared backbone onto the
            normal plane of the other gradient where they conflict (Yu et al., arXiv 2001.06782); it takes two backward
            passes.
        detection: weight of the detection loss, before any method.
        segmentation: weight of the segmentation loss.
        measure: every N steps, log the cosine of the two tasks' gradients of the shared backbone and the ratio of their
            norms, at the cost of two more backward passes; 0 logs neither.
    """

    method: Method = "fixed"
    detection: PositiveFloat = 1.0
    segmentation: PositiveFloat = 1.0
    measure: NonNegativeInt = 0
    group: ClassVar[str] = "balance"


class Uncertainty(nn.Module):
    """A learned log-variance s for each loss; the sum of exp(-s) * loss + s / 2 is minimised.

    This is equation 10 of arXiv 1705.07115 for two losses that are no regressions, with s = log σ². At the minimum over
    s, exp(s) is twice the loss, so that each loss ends with a weight that makes it one half.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(2))

    def forward(self, losses: Tensor, present: Tensor) -> Tensor:
        """The number to minimise.

        Args:
            losses: (2,) the losses of detection and segmentation.
            present: (2,) whether any device has labels of the kind; without them a loss of 0 says nothing about its
                uncertainty.
        """
        terms = torch.exp(-self.log_variances) * losses + self.log_variances / 2
        return (terms * present).sum()


class Agreement(NamedTuple):
    """The relation of two tasks' gradients of the same parameters.

    Attributes:
        cosine: cosine of the angle between them; below 0, a step for one task undoes a part of the other's.
        norm_ratio: norm of the first gradient divided by that of the second.
    """

    cosine: Tensor
    norm_ratio: Tensor


def agreement(first: Tensor, second: Tensor) -> Agreement:
    """The agreement of two gradients (N,); its values are NaN or infinite if one gradient is zero."""
    lengths = first.norm(), second.norm()
    return Agreement(_dot(first, second) / (lengths[0] * lengths[1]), lengths[0] / lengths[1])


def project_conflicts(first: Tensor, second: Tensor) -> Tensor:
    """PCGrad for two tasks: the sum of both gradients, each without the part that points against the other.

    Source: arXiv 2001.06782, algorithm 1.

    Args:
        first: (N,) gradient of the shared parameters.
        second: (N,) gradient of the same parameters for the other task.
    """
    dot = _dot(first, second).clamp(max=0)
    # A gradient of zero, such as that of a batch without these labels, conflicts with nothing.
    squares = [_dot(each, each) for each in (first, second)]
    of_second, of_first = (torch.where(square > 0, dot / square, 0.0) for square in (squares[1], squares[0]))
    return (first - of_second * second) + (second - of_first * first)


def gradient_vector(loss: Tensor, parameters: Sequence[Tensor], scale: Tensor | None = None) -> Tensor:
    """The gradient of a loss, (N,) over all elements of the parameters, as the mean over all devices.

    The graph is kept, and no `.grad` is changed.

    Args:
        loss: a scalar.
        parameters: the parameters; the gradient is zero for those that the loss does not depend on.
        scale: factor on the gradient.
    """
    found = torch.autograd.grad(loss, parameters, scale, retain_graph=True, allow_unused=True)
    pairs = zip(found, parameters, strict=True)
    flat = torch.cat([(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in pairs])
    return all_reduce_sum(flat) / world_size() if world_size() > 1 else flat


def pcgrad_backward(
    loss: Tensor, terms: tuple[Tensor, Tensor], shared: Sequence[Tensor], own: Sequence[Tensor]
) -> None:
    """Replace `loss.backward()`: gradients of shared parameters are projected, all others are those of the sum.

    Gradients are averaged over the devices before they are projected, so that several devices take the step of one.

    Args:
        loss: the sum of the terms, or a multiple of it, such as the gradient scaler of half precision gives.
        terms: the losses of detection and of segmentation.
        shared: parameters that both losses depend on.
        own: parameters that only one of them depends on.
    """
    scales = torch.autograd.grad(loss, terms, retain_graph=True)
    parameters = [*shared, *own]
    first, second = (gradient_vector(term, parameters, scale) for term, scale in zip(terms, scales, strict=True))
    total = first + second
    count = sum(p.numel() for p in shared)
    total[:count] = project_conflicts(first[:count], second[:count])
    for parameter, part in zip(parameters, total.split([p.numel() for p in parameters]), strict=True):
        gradient = part.view(parameter.shape).to(parameter.dtype)
        if parameter.grad is None:
            parameter.grad = gradient
        else:
            parameter.grad += gradient


def _dot(first: Tensor, second: Tensor) -> Tensor:
    # Not torch.dot, which does not sum pairwise: see detection.network.losses.
    return (first * second).sum()
