"""Which layer of a network is the first that does not give numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn


def first_culprit(network: nn.Module, compute: Callable[[], object]) -> str:
    """What is not finite first: weights, the answer of a layer, or neither.

    Args:
        network: the network.
        compute: runs it once on the images in question; its norms and its random layers may change by this.

    Returns:
        A few words for a message.
    """
    for name, weights in (*network.named_parameters(), *network.named_buffers()):
        if weights.is_floating_point() and not bool(weights.isfinite().all()):
            return f"the weights '{name}' are no longer finite, by the steps before"
    found: list[str] = []

    def look(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, given: object, answer: object) -> None:
            if not found and not all(bool(part.isfinite().all()) for part in tensors(answer)):
                found.append(name)

        return hook

    with torch.no_grad(), ExitStack() as stack:
        for name, module in network.named_modules():
            if name:  # parts answer before what is made of them, so that the smallest is found
                stack.callback(module.register_forward_hook(look(name)).remove)
        compute()
    if found:
        return f"the first layer whose answer is not finite is '{found[0]}'"
    return "weights and answers of the network are finite, so that it comes from the labels or the loss"


def tensors(value: object) -> Iterator[Tensor]:
    """The tensors of real numbers in what a layer gives: itself, or in sequences and mappings."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors(part)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            yield from tensors(part)
