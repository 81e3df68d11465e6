"""The tensors of a file renamed to timm's keys, after a strict comparison with the member."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from backbones.layouts.layout import StateDict
from backbones.layouts.members import HEAD, Member
from backbones.layouts.recognise import Recognised, listed
from engine.errors import InputError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

_COUNTER = "num_batches_tracked"  # absent from many files; no computation uses it


def under_timm_keys(found: Recognised, member: Member, required: Collection[str] | None = None) -> StateDict:
    """The tensors by timm's keys.

    The classification head may be absent or have other classes, and the stem may have other input channels; counters
    of batches may be absent.

    Args:
        found: the EfficientNet in the file.
        member: the member that it should be.
        required: timm's keys that must be there; None means all keys but those of the head.

    Raises:
        InputError: keys are missing or left over, or shapes, types or values do not fit. The message names only the
            fault, with the names of the file.
    """
    keys = found.layout.keys(member)
    if keys is None:
        message = f"{found.layout.library} has no network with the blocks of {member.name}."
        raise InputError(message)
    if required is None:
        required = [key for key in keys if not key.startswith(HEAD)]
    needed = {keys[key] for key in required if key in keys and not key.endswith(_COUNTER)}
    known = set(keys.values())
    faults = [
        *listed("missing", [found.prefix + key for key in keys.values() if key in needed - set(found.state)]),
        *listed("unexpected", [found.prefix + key for key in found.state if key not in known]),
    ]
    given = {key: found.layout.tensor(key, found.state[keys[key]]) for key in keys if keys[key] in found.state}
    faults += listed("of another shape", [_shapes(key, given[key], keys, found, member) for key in given
                                          if not _same_shape(key, given[key], member.shapes[key])])  # fmt: skip
    faults = faults or _wrong_values(given, {key: found.prefix + keys[key] for key in given})
    if faults:
        raise InputError("; ".join(faults) + ".")
    return given


def _shapes(key: str, tensor: Tensor, keys: Mapping[str, str], found: Recognised, member: Member) -> str:
    return f"{found.prefix}{keys[key]} {tuple(tensor.shape)}, not {member.shapes[key]}"


def _same_shape(key: str, tensor: Tensor, wanted: tuple[int, ...]) -> bool:
    shape = tuple(tensor.shape)
    if key.startswith("classifier."):
        return len(shape) == len(wanted) and shape[1:] == wanted[1:]
    if key == "conv_stem.weight" and len(shape) == 4:
        return shape[:1] + shape[2:] == wanted[:1] + wanted[2:] and shape[1] > 0
    return shape == wanted


def _wrong_values(given: Mapping[str, Tensor], names: Mapping[str, str]) -> list[str]:
    floats = {key: tensor for key, tensor in given.items() if not key.endswith(_COUNTER)}
    kinds = [f"{names[key]} is {str(tensor.dtype).removeprefix('torch.')}" for key, tensor in floats.items()
             if tensor.dtype not in FLOATS]  # fmt: skip
    return listed("not floating point", kinds) or listed(
        "not finite", [names[key] for key, tensor in floats.items() if not tensor.isfinite().all()]
    )
