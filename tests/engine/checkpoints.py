"""Whether two checkpoints are the same training, to the last bit, and if not, what differs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

# What the next step depends on: the averaged weights, those that are trained, the optimiser's moments, the learning
# rate's course, and where the training is. Paths, times and the loops' own counters may differ.
STATE = ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers", "global_step", "epoch")
SHOWN = 5


def assert_same_training(one: Mapping[str, object] | Path, other: Mapping[str, object] | Path) -> None:
    """Fail with the names of what differs, if any part of the state of two checkpoints does.

    Args:
        one: a checkpoint, or its file.
        other: another.
    """
    contents = [
        torch.load(given, weights_only=True, map_location="cpu") if isinstance(given, Path) else given
        for given in (one, other)
    ]
    for content in contents:
        for part in STATE:
            assert part in content, f"a checkpoint has no {part}"
            assert content[part] not in ({}, []), f"the {part} of a checkpoint is empty"
    found = [difference for part in STATE for difference in differences(*(c[part] for c in contents), part)]
    more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    assert not found, "; ".join(found[:SHOWN]) + more


def differences(one: object, other: object, name: str = "") -> list[str]:
    """What differs between two values, by its place within them; NaN equals itself, and 0 is not -0."""
    if type(one) is not type(other):
        return [f"{name}: {type(one).__name__} and {type(other).__name__}"]
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return _tensors(one, other, name)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        lone = [f"{name}.{key}: only in one" for key in one.keys() ^ other.keys()]
        return lone + [d for key in one if key in other for d in differences(one[key], other[key], f"{name}.{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return [f"{name}: {len(one)} and {len(other)} items"]
        return [
            d for place, pair in enumerate(zip(one, other, strict=True)) for d in differences(*pair, f"{name}[{place}]")
        ]
    same = one.hex() == other.hex() if isinstance(one, float) and isinstance(other, float) else one == other
    return [] if same else [f"{name}: {one} and {other}"]


def _tensors(one: torch.Tensor, other: torch.Tensor, name: str) -> list[str]:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return [f"{name}: {one.dtype} {tuple(one.shape)} and {other.dtype} {tuple(other.shape)}"]
    bits = [tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)]
    if torch.equal(*bits):
        return []
    wrong = (bits[0] != bits[1]).reshape(one.numel(), -1).any(1)
    return [f"{name}: {int(wrong.sum())} of {one.numel()} values"]
