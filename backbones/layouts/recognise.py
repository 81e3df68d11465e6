"""The layout of a state dict, recognised by its keys; if no layout fits, the nearest one for the message."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from backbones.layouts.carriers import CARRIERS
from backbones.layouts.from_efficientnet_pytorch import EFFICIENTNET_PYTORCH, ZYLO
from backbones.layouts.from_keras import KERAS, KERAS_V2
from backbones.layouts.from_timm import TIMM
from backbones.layouts.from_torchvision import TORCHVISION
from backbones.layouts.layout import Layout, StateDict
from backbones.layouts.members import HEAD, Member, member, of_blocks
from backbones.scaling import Padding
from engine.errors import InputError

_SHOWN = 3  # keys in one message; more would be hard to read
LAYOUTS = (TIMM, TORCHVISION, EFFICIENTNET_PYTORCH, ZYLO, KERAS, KERAS_V2)


@dataclass(frozen=True)
class Recognised:
    """An EfficientNet found in a file.

    Attributes:
        layout: layout of its keys.
        origin: the library, or the kind of network that holds it.
        state: its tensors, by the layout's keys.
        prefix: the prefix of these keys in the file.
        padding: padding of the library's networks; None if the keys do not tell it.
    """

    layout: Layout
    origin: str
    state: StateDict
    prefix: str
    padding: Padding | None

    def nearest(self) -> Member | None:
        """The member that fits the names and sizes of the tensors best; None if no member has as many blocks."""
        candidates = of_blocks(self.layout.count_blocks(self.state), self.padding)
        return min(candidates, key=lambda candidate: _misfits(self, candidate), default=None)

    def check_padding(self, wanted: Member) -> None:
        """Do nothing if the library's networks pad as a member does, or if the keys do not tell their padding.

        Raises:
            InputError: they pad in another way; the message names only the fault, with the member that fits.
        """
        if self.padding and self.padding != wanted.padding:
            nearest = self.nearest()
            right = f" Take {nearest.name}." if nearest and nearest.padding == self.padding else ""
            ways = {"same": "as TensorFlow does", "symmetric": "symmetrically"}
            message = f"networks of {self.origin} pad {ways[self.padding]}, {wanted.name} does not.{right}"
            raise InputError(message)


def recognise(state: StateDict) -> Recognised:
    """Find the EfficientNet in a state dict.

    Raises:
        InputError: there is none or more than one. The message names only the fault, the nearest layout and the first
            keys that differ from it; the caller adds the name of the file.
    """
    found = [
        (layout, key.removesuffix(layout.stem))
        for layout in LAYOUTS
        for key in state
        if (key == layout.stem or key.endswith(f".{layout.stem}")) and any(layout.sign in key for key in state)
    ]
    if not found:
        raise InputError(_unknown(state))
    if len(found) > 1:
        places = ", ".join(f"'{prefix}'" for _, prefix in found[:3])
        message = f"it holds {len(found)} EfficientNets, with keys that begin with {places}; save the one you mean."
        raise InputError(message)
    layout, prefix = found[0]
    inner = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    rest = [key for key in state if not key.startswith(prefix)]
    for carrier in CARRIERS if rest else ():
        outer = prefix.removesuffix(carrier.prefix)
        parts = tuple(outer + part for part in carrier.parts)
        if carrier.layout is layout and outer != prefix and all(key.startswith(parts) for key in rest):
            others = [key.removeprefix(outer) for key in rest]
            return Recognised(layout, carrier.name, inner, prefix, carrier.padding(others))
    if rest:
        message = (
            f"beside the EfficientNet under '{prefix}' it holds {len(rest)} keys of no known kind of network "
            f"({few(rest)}); save the EfficientNet alone."
        )
        raise InputError(message)
    return Recognised(layout, layout.library, inner, prefix, layout.padding)


def _misfits(found: Recognised, candidate: Member) -> int:
    """The number of keys that only the file or only the member has, or that have another number of values."""
    keys = found.layout.keys(candidate)
    if keys is None:
        return len(found.state) + len(candidate.shapes)
    sizes = {theirs: math.prod(candidate.shapes[key]) for key, theirs in keys.items() if _essential(key)}
    return sum(key not in found.state or found.state[key].numel() != size for key, size in sizes.items())


def _essential(key: str) -> bool:
    return not key.startswith(HEAD) and not key.endswith("num_batches_tracked")


def _unknown(state: StateDict) -> str:
    given = _without_common_prefix(state)
    ranked = sorted(_resemblances(given), key=lambda entry: entry[0], reverse=True)
    known = "timm, torchvision, efficientnet_pytorch, Keras, effdet, zylo117 and smp"
    if not ranked or ranked[0][0] == 0:
        return f"it has no key of an EfficientNet in the layouts of {known}; its first keys are {few(sorted(given))}."
    _, layout, candidate, expected = ranked[0]
    faults = [
        *listed("missing", [key for key in expected if key not in given]),
        *listed("unexpected", [key for key in given if key not in expected]),
    ]
    name = candidate.short if layout.padding is None else candidate.name
    return f"it fits no known layout; nearest is {layout.library}'s as {name}: {'; '.join(faults)}."


def _resemblances(given: Collection[str]) -> list[tuple[float, Layout, Member, list[str]]]:
    """For every layout and member that may be meant: the share of common keys, and the expected keys."""
    found = []
    for layout in LAYOUTS:
        default = member("tf_efficientnetv2_b0" if layout is KERAS_V2 else "tf_efficientnet_b0")
        for candidate in of_blocks(layout.count_blocks(given), layout.padding) or [default]:
            keys = layout.keys(candidate)
            if keys is not None:
                # Many files lack the head, so only those of its keys that are there count.
                expected = [theirs for key, theirs in keys.items() if _essential(key) or theirs in given]
                shared = len(set(expected) & set(given))
                found.append((shared / len(set(expected) | set(given)), layout, candidate, expected))
    return found


def _without_common_prefix(state: StateDict) -> dict[str, None]:
    keys = list(state)
    while keys and all("." in key for key in keys) and len({key.partition(".")[0] for key in keys}) == 1:
        keys = [key.partition(".")[2] for key in keys]
    return dict.fromkeys(key for key in keys if not key.endswith("num_batches_tracked"))


def listed(fault: str, keys: list[str]) -> list[str]:
    """`["4 keys missing (a, b, c, ...)"]`, or nothing for no keys."""
    return [f"{len(keys)} {'key' if len(keys) == 1 else 'keys'} {fault} ({few(keys)})"] if keys else []


def few(keys: list[str]) -> str:
    """The first names of a list, in one text."""
    return ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")
