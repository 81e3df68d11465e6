"""Layers that compute in floating point with values of int8, so that a training gets used to them.

    with Int8Simulation(network) as simulation:
        loss(network(images)).backward()
        optimizer.step()
        simulation.follow()

Quantisation-aware training as in Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference" (arXiv 1712.05877), sections 3.1 and 3.2: weights and the values that go into a layer
are rounded to the grid of int8, and gradients pass the rounding unchanged. The parameters stay those of the network:
its checkpoint is one in floating point like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

SHARE = 0.01  # of a batch in the running ranges: the paper's averages span thousands of steps, a fine-tuning hundreds
_LEAST = 1e-8  # of a scale, for values that are all zero
Layer = nn.Conv2d | nn.Linear


class Int8Simulation:
    """Rounds the weights and the inputs of all convolutions and linear layers of a network, from `start` to `stop`.

    Weights are symmetric with a range for each output channel, the layout that all int8 runtimes of `deployment` use; a
    batch norm that is folded into them later scales each channel as a whole and changes nothing. Inputs have one range,
    which contains 0 and follows the batches of the training.

    Args:
        network: the network.
        weight_bits: 7 where processors add two products in 16 bits (x86 without VNNI), as the files for them have.
    """

    def __init__(self, network: nn.Module, weight_bits: Literal[7, 8] = 8) -> None:
        self._layers: Mapping[str, Layer] = {
            name: module for name, module in network.named_modules() if isinstance(module, Layer)
        }
        self._most = 2 ** (weight_bits - 1) - 1
        self._ranges: dict[str, Tensor] = {}
        self._seen: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    @property
    def ranges(self) -> Mapping[str, Tensor]:
        """Least and largest input of each layer that has computed, (2,), by its name."""
        return self._ranges

    def restore(self, ranges: Mapping[str, Tensor]) -> None:
        """Go on with the ranges of an earlier training."""
        self._ranges = {name: ranges[name] for name in self._layers if name in ranges}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Round from the next pass on."""
        for name, layer in self._layers.items():
            self._handles.append(layer.register_forward_pre_hook(self._before(name)))
            self._handles.append(layer.register_forward_hook(_after, always_call=True))

    def stop(self) -> None:
        """Compute in floating point again."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def follow(self, reduce: Callable[[Tensor], Tensor] = lambda ranges: ranges) -> None:
        """Let the ranges take in what the layers have seen in training since the last call.

        Args:
            reduce: takes (layers, 2), the largest -input and input of each layer on this device, and gives the largest
                on all devices.
        """
        if not self._seen:
            return
        names = sorted(self._seen)
        seen = reduce(torch.stack([self._seen[name] for name in names]))
        found = torch.stack([-seen[:, 0], seen[:, 1]], dim=1)
        known = [self._ranges.get(name, new).to(found) for name, new in zip(names, found.unbind(), strict=True)]
        self._ranges |= zip(names, torch.stack(known).lerp(found, SHARE).unbind(), strict=True)
        self._seen = {}

    def _before(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
        def round_both(layer: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            assert isinstance(layer, Layer)
            inputs, *rest = given
            if layer.training:
                low, high = torch.aminmax(inputs.detach())
                seen = torch.stack([-low, high]).float().clamp(min=0)
                self._seen[name] = torch.maximum(self._seen[name], seen) if name in self._seen else seen
            known = self._ranges.get(name)
            if known is None:  # the first pass
                low, high = torch.aminmax(inputs.detach())
                known = torch.stack([low.clamp(max=0), high.clamp(min=0)]).float()
            # An instance's own attribute is found before the parameter, which stays where it is.
            layer.__dict__["weight"] = rounded_weight(layer.weight, self._most)
            return (rounded(inputs, known.to(inputs.device)), *rest)

        return round_both


def _after(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
    layer.__dict__.pop("weight", None)


def rounded(values: Tensor, low_high: Tensor) -> Tensor:
    """Values on the grid of unsigned 8-bit integers over a range that contains 0, which 0 is a point of.

    Args:
        values: any shape.
        low_high: (2,) least and largest value; what lies beyond is cut.
    """
    low, high = low_high.unbind()
    scale = ((high - low) / 255).clamp(min=_LEAST)
    zero = (-low / scale).round().clamp(0, 255).to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(values.float(), scale, zero, 0, 255).to(values.dtype)


def rounded_weight(weight: Tensor, most: int) -> Tensor:
    """Weights on a grid of -most..most steps, with a step for each output channel.

    Args:
        weight: (output channels, ...).
        most: 127 for 8 bits.
    """
    scale = (weight.detach().abs().flatten(1).amax(1).float() / most).clamp(min=_LEAST)
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight.float(), scale, zero, 0, -most, most).to(weight.dtype)
