"""Which network a state dict belongs to, recognised by its keys and shapes alone.

Padding, mean and deviation, anchors and image size leave no trace in a file, so some published networks look alike:
each of D0 to D5 and its AdvProp twin, D6 and D7. Then the name has to come from elsewhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from torch import Tensor

from detection.network.family import DetectorArchitecture, architecture
from detection.weights.check import few
from detection.weights.effdet_layout import has_level_first
from detection.weights.published import PUBLISHED, UNSUPPORTED, ZYLO, Published, refusal
from engine.errors import InputError

Layout = Literal["effdet", "zylo", "own"]

# A key that every network has in one layout and none in another.
_MARKS: dict[Layout, str] = {
    "effdet": "class_net.predict.conv_pw.bias",
    "zylo": "classifier.header.pointwise_conv.conv.bias",
    "own": "class_head.predict.pointwise.bias",
}
_PARTS: dict[Layout, set[str]] = {
    "effdet": {"backbone", "fpn", "class_net", "box_net"},
    "zylo": {"backbone_net", "bifpn", "classifier", "regressor"},
    "own": {"backbone", "fpn", "class_head", "box_head"},
}
_WRITER: dict[Layout, str] = {"effdet": "effdet's", "zylo": "zylo117's", "own": "this project's own"}


@dataclass(frozen=True)
class Traits:
    """What the keys tell about a network besides its backbone, in terms of `DetectorArchitecture` and `Published`."""

    fpn_channels: int
    fpn_cells: int
    head_repeats: int
    levels: int
    pyramid: str
    weighted: bool
    redundant_bias: bool
    level_first: bool

    @classmethod
    def of_published(cls, entry: Published) -> Traits:
        """What the keys of a published file must tell."""
        return cls.of_network(entry.architecture(), entry.redundant_bias, entry.level_first)

    @classmethod
    def of_network(cls, config: DetectorArchitecture, redundant_bias: bool, level_first: bool) -> Traits:
        """What the keys of such a network must tell."""
        sizes = (config.fpn_channels, config.fpn_cells, config.head_repeats, len(config.levels))
        return cls(*sizes, config.pyramid, config.fusion != "sum", redundant_bias, level_first)

    @classmethod
    def of_effdet(cls, state: Mapping[str, Tensor]) -> Traits:
        """Read from keys of effdet's layout."""
        level_first = has_level_first(state)
        number, other = ("0", r"(\d+)") if level_first else (r"(\d+)", "0")
        levels = _count(state, rf"class_net\.bn_rep\.{other}\.{number}\.")
        nodes = _count(state, r"fpn\.cell\.0\.fnode\.(\d+)\.")
        # Two paths of L - 1 nodes, or four and a join per level (effdet's fpn_config.py).
        kinds = {2 * (levels - 1): "bifpn", 4 * (levels - 1) + levels: "quad"}
        return cls(
            fpn_channels=_channels(state, _MARKS["effdet"]),
            fpn_cells=_count(state, r"fpn\.cell\.(\d+)\."),
            head_repeats=_count(state, r"class_net\.conv_rep\.(\d+)\."),
            levels=levels,
            pyramid=kinds.get(nodes, "another"),
            weighted=any(key.endswith("edge_weights") for key in state),
            redundant_bias="fpn.resample.3.conv.conv.bias" in state,
            level_first=level_first,
        )

    @classmethod
    def of_zylo(cls, state: Mapping[str, Tensor]) -> Traits:
        """Read from keys of zylo117's layout, which has fusion weights even where they are not used."""
        return cls(
            fpn_channels=_channels(state, _MARKS["zylo"]),
            fpn_cells=_count(state, r"bifpn\.(\d+)\."),
            head_repeats=_count(state, r"classifier\.conv_list\.(\d+)\."),
            levels=_count(state, r"classifier\.bn_list\.(\d+)\."),
            pyramid="bifpn",
            weighted=True,
            redundant_bias=True,
            level_first=True,
        )

    def differences(self, other: Traits) -> dict[str, tuple[Any, Any]]:
        """Names of the traits that differ, with the values of both."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def distance(self, other: Traits) -> float:
        """How far apart two networks are: sizes by the logarithm of their ratio, kinds by 1 each."""
        pairs = self.differences(other).values()
        return sum(abs(math.log(max(here, 1) / max(there, 1))) if type(here) is int else 1.0 for here, there in pairs)


def layout_of_keys(state: Mapping[str, Tensor], origin: str) -> Layout:
    """The layout of a detector's state dict.

    Raises:
        InputError: it is one of effdet's networks on another backbone, or is in no known layout.
    """
    refuse_other_backbones(state, origin)
    for layout, mark in _MARKS.items():
        if mark in state:
            return layout
    tops = {key.partition(".")[0] for key in state}
    nearest = max(_PARTS, key=lambda layout: len(_PARTS[layout] & tops))
    shared = len(_PARTS[nearest] & tops)
    if shared < 2:
        msg = (
            f"'{origin}' is not a detector in effdet's, zylo117's or this project's layout: its keys are {few(state)}."
        )
    else:
        strange = [key for key in state if key.partition(".")[0] not in _PARTS[nearest]]
        msg = (
            f"'{origin}' is in no known layout. The nearest is {_WRITER[nearest]}, but '{_MARKS[nearest]}' is missing "
            f"and has no place: {few(strange)}."
        )
    raise InputError(msg)


def published_alike(state: Mapping[str, Tensor]) -> list[str]:
    """The names in `PUBLISHED` whose keys a state dict in effdet's layout has."""
    given = Traits.of_effdet(state)
    return [name for name, entry in PUBLISHED.items() if Traits.of_published(entry) == given]


def published_name(state: Mapping[str, Tensor], origin: str) -> str:
    """The name in `PUBLISHED` of the one network whose keys a state dict in effdet's layout has.

    Raises:
        InputError: several look alike, or none fits.
    """
    same = published_alike(state)
    if not same:
        given = Traits.of_effdet(state)
        expected = {name: Traits.of_published(entry) for name, entry in PUBLISHED.items()}
        nearest = min(expected, key=lambda name: given.distance(expected[name]))
        differs = [f"{k} {has}, not {needs}" for k, (has, needs) in given.differences(expected[nearest]).items()]
        msg = (
            f"'{origin}' is in effdet's layout but none of its published networks. The nearest is {nearest}; the file "
            f"has {few(differs)}. In Python, give layout_of='{nearest}' and what differs."
        )
        raise InputError(msg)
    return _only(same, origin)


def zylo_name(state: Mapping[str, Tensor], origin: str) -> str:
    """The name in `ZYLO` of the one network whose keys a state dict in zylo117's layout has.

    Raises:
        InputError: several look alike, or none fits.
    """
    given = Traits.of_zylo(state)
    same = []
    for name, member in ZYLO.items():
        needs = Traits.of_network(architecture(member), redundant_bias=True, level_first=True)
        if not set(given.differences(needs)) - {"weighted"}:
            same.append(name)
    if not same:
        msg = f"'{origin}' is in zylo117's layout but has the sizes of none of {', '.join(ZYLO)}. Check the file."
        raise InputError(msg)
    return _only(same, origin)


def refuse_other_backbones(state: Mapping[str, Tensor], origin: str) -> None:
    """Refuse effdet's networks on ResNet and CSP backbones.

    Raises:
        InputError: the keys are those of such a network; the message names it.
    """
    if "backbone.conv_stem.weight" in state or not {"fpn", "class_net"} <= {key.partition(".")[0] for key in state}:
        return
    stages = _count(state, r"backbone\.stages[._](\d+)\.")  # timm's feature networks join names by an underscore
    if any(key.startswith("backbone.layer1.") for key in state):
        name = "resdet50"
    elif stages == 5:
        name = "cspdarkdet53m"
    elif stages and _count(state, r"fpn\.cell\.0\.fnode\.(\d+)\.") == 10:  # effdet's PAN: L nodes down, L up
        name = "cspresdext50pan"
    elif stages:
        name = "cspresdet50"
    else:
        return
    assert name in UNSUPPORTED
    raise refusal(origin, name)


def _channels(state: Mapping[str, Tensor], bias: str) -> int:
    """Input channels of the convolution with this bias."""
    weight = state.get(bias.replace("bias", "weight"))
    return weight.shape[1] if weight is not None and weight.dim() == 4 else 0


def _only(names: Iterable[str], origin: str) -> str:
    first, *others = names
    if others:
        msg = (
            f"'{origin}' fits {' and '.join([first, *others])} alike. Say which by layout_of, such as '{first}'; "
            "`python -m detection convert` takes it too."
        )
        raise InputError(msg)
    return first


def _count(state: Iterable[str], pattern: str) -> int:
    """How many different numbers the pattern's group has among the keys."""
    return len({match[1] for key in state if (match := re.match(pattern, key))})
