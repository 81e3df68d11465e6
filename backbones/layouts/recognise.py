"""Which layout a state dict is in, by its keys; for one that is in none, the nearest."""

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

_SHOWN = 3  # keys in one message; more would be a wall
LAYOUTS = (TIMM, TORCHVISION, EFFICIENTNET_PYTORCH, ZYLO, KERAS, KERAS_V2)


@dataclass(frozen=True)
class Recognised:
    """An EfficientNet found in a file.

    Attributes:
        layout: of its keys.
        origin: the library, or the kind of network that carries it.
        state: its tensors, by the layout's keys.
        prefix: what stands before these keys in the file.
        padding: of the library's networks; None where the keys do not tell.
    """

    layout: Layout
    origin: str
    state: StateDict
    prefix: str
    padding: Padding | None

    def nearest(self) -> Member | None:
        """The member that names and sizes of the tensors fit best; None if none has as many blocks."""
        candidates = of_blocks(self.layout.count_blocks(self.state), self.padding)
        return min(candidates, key=lambda candidate: _misfits(self, candidate), default=None)

    def check_padding(self, wanted: Member) -> None:
        """Do nothing if the library's networks pad as a member does, or the keys do not tell how they do.

        Raises:
            InputError: they pad otherwise; the message is the fault alone, with the member that fits.
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
        InputError: there is none or more than one. The message is the fault alone, for the caller to say of which
            file; it names the nearest layout and the first keys that differ from it.
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
    """How many keys the file and the member do not share, or share with another number of values."""
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
    """For every layout and member that may be meant: keys shared of all keys, and the keys expected."""
    found = []
    for layout in LAYOUTS:
        default = member("tf_efficientnetv2_b0" if layout is KERAS_V2 else "tf_efficientnet_b0")
        for candidate in of_blocks(layout.count_blocks(given), layout.padding) or [default]:
            keys = layout.keys(candidate)
            if keys is not None:
                # Of the head, which many files lack, only what is there counts.
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
    """The first names of a list."""
    return ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")
