"""The sizes of all gradients of a step, without a wait for the device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn


class GradientNorms(NamedTuple):
    """How large the gradient of each layer's weights is.

    Attributes:
        names: of P parameters, in the order of their modules.
        norms: (P,) on the device; not finite where any element of the gradient is not.
    """

    names: tuple[str, ...]
    norms: Tensor

    @classmethod
    def of(cls, named: Iterable[tuple[str, nn.Parameter]]) -> GradientNorms | None:
        """The norms of those that have a gradient; None where none has."""
        found = [(name, parameter.grad) for name, parameter in named if parameter.grad is not None]
        if not found:
            return None
        # The largest element, of which no square overflows.
        norms = torch._foreach_norm([gradient.detach() for _, gradient in found], float("inf"))
        return cls(tuple(name for name, _ in found), torch.stack([norm.float() for norm in norms]))

    @property
    def sound(self) -> Tensor:
        """() whether all are finite, on the device."""
        return self.norms.isfinite().all()

    def culprit(self) -> str | None:
        """The last of the bad layers, where the way back from the loss begins; None if all are finite. Waits."""
        bad = (~self.norms.isfinite()).nonzero().flatten().tolist()
        return self.names[bad[-1]].rpartition(".")[0] if bad else None
