"""How the losses of two tasks become one step: fixed weights, learned uncertainty or projected gradients.

Tuned fixed weights match or beat the others in most comparisons (arXiv 2209.11379, 2505.10347); the measures of
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
    """How the two losses are weighed.

    Attributes:
        method: `fixed` takes the sum of the weighted losses; `uncertainty` learns a log-variance for each (Kendall,
            Gal, Cipolla, arXiv 1705.07115); `pcgrad` projects each task's gradient of the shared backbone onto the
            normal plane of the other's where they conflict (Yu et al., arXiv 2001.06782), for two backward passes.
        detection: weight of the detection loss, before any method.
        segmentation: weight of the segmentation loss.
        measure: log the cosine of the two tasks' gradients of the shared backbone, and the ratio of their norms, each
            so many steps, for two more backward passes; 0 never.
    """

    method: Method = "fixed"
    detection: PositiveFloat = 1.0
    segmentation: PositiveFloat = 1.0
    measure: NonNegativeInt = 0
    group: ClassVar[str] = "balance"


class Uncertainty(nn.Module):
    """A learned log-variance s for each loss; the sum of exp(-s) * loss + s / 2 is minimised.

    This is equation 10 of arXiv 1705.07115, of two losses that are no regressions, with s = log σ². At a loss's own
    minimum of s, exp(s) is twice the loss: each ends with a weight that makes it one half.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(2))

    def forward(self, losses: Tensor, present: Tensor) -> Tensor:
        """The number to minimise.

        Args:
            losses: (2,) those of detection and segmentation.
            present: (2,) whether any device has labels of the kind; without them a loss of 0 says nothing about its
                uncertainty.
        """
        terms = torch.exp(-self.log_variances) * losses + self.log_variances / 2
        return (terms * present).sum()


class Agreement(NamedTuple):
    """How two tasks' gradients of the same parameters stand to each other.

    Attributes:
        cosine: of the angle between them; below 0 a step for one task undoes some of the other's.
        norm_ratio: the first one's norm over the second one's.
    """

    cosine: Tensor
    norm_ratio: Tensor


def agreement(first: Tensor, second: Tensor) -> Agreement:
    """Of two gradients (N,); NaN or infinite where one is zero."""
    lengths = first.norm(), second.norm()
    return Agreement(_dot(first, second) / (lengths[0] * lengths[1]), lengths[0] / lengths[1])


def project_conflicts(first: Tensor, second: Tensor) -> Tensor:
    """PCGrad of two tasks: the sum of both gradients, each without its part against the other.

    Source: arXiv 2001.06782, algorithm 1.

    Args:
        first: (N,) gradient of the shared parameters.
        second: (N,) that of the other task.
    """
    dot = _dot(first, second).clamp(max=0)
    # A gradient of zero, as of a batch without the labels, conflicts with nothing.
    squares = [_dot(each, each) for each in (first, second)]
    of_second, of_first = (torch.where(square > 0, dot / square, 0.0) for square in (squares[1], squares[0]))
    return (first - of_second * second) + (second - of_first * first)


def gradient_vector(loss: Tensor, parameters: Sequence[Tensor], scale: Tensor | None = None) -> Tensor:
    """The gradient of a loss, (N,) over all elements of the parameters, the mean over all devices.

    The graph is kept, and no `.grad` is touched.

    Args:
        loss: a scalar.
        parameters: those that it need not depend on all have a gradient of zero.
        scale: what the gradient is multiplied by.
    """
    found = torch.autograd.grad(loss, parameters, scale, retain_graph=True, allow_unused=True)
    pairs = zip(found, parameters, strict=True)
    flat = torch.cat([(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in pairs])
    return all_reduce_sum(flat) / world_size() if world_size() > 1 else flat


def pcgrad_backward(
    loss: Tensor, terms: tuple[Tensor, Tensor], shared: Sequence[Tensor], own: Sequence[Tensor]
) -> None:
    """Take the place of `loss.backward()`: the shared parameters' gradients are projected, the others' are the sum's.

    Gradients are averaged over the devices before they are projected, so that several take the step of one.

    Args:
        loss: the sum of the terms, or a multiple of it, such as a scaler of half precision gives.
        terms: of detection and of segmentation.
        shared: parameters that both depend on.
        own: parameters of one or the other.
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
