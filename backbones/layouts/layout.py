"""A layout: for each tensor of a timm EfficientNet, its name in another library.

All libraries build the same blocks, so a layout is a table of names: those of the modules outside the blocks, of the
modules in each kind of block, and of the place of a block.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from backbones.layouts.members import Member
from backbones.scaling import Padding

StateDict = dict[str, Tensor]

# timm's `_efficientnet_blocks.py`: DepthwiseSeparableConv, InvertedResidual, EdgeResidual, ConvBnAct.
Kind = Literal["separable", "inverted", "fused", "plain"]

_BLOCK = re.compile(r"blocks\.(\d+)\.(\d+)\.(.+)\.(\w+)")
_OUTER = re.compile(r"(\w+)\.(\w+)")


@dataclass(frozen=True)
class Training:
    """The training settings of a library for a member, where they differ from those of timm's member."""

    input_size: int | None = None
    norm_eps: float | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Layout:
    """How one library names an EfficientNet's tensors.

    Attributes:
        library: name of the library.
        stem: key of the first convolution's weight, by which the layout is recognised.
        outer: timm's modules outside the blocks -> theirs; `{last}` stands for the number of stages plus one.
        block: the prefix of a block's modules, made of `{number}` (from 0 through the network), `{stage}`
            (from 1), `{index}` (from 0 within the stage) and `{letter}` (a, b, ... within the stage).
        modules: for each kind of block, timm's modules -> theirs.
        leaves: timm's parameters and buffers -> theirs, where they differ.
        separator: the text between module and leaf.
        padding: padding of the library's networks; None if the keys do not tell it.
        sign: a part that some key must have, if the stem alone does not tell the layout.
        training: training settings by the member's short name.
        licence: licence of the weights that the library publishes.
    """

    library: str
    stem: str
    outer: Mapping[str, str] = field(default_factory=dict)
    block: str = ""
    modules: Mapping[Kind, Mapping[str, str]] = field(default_factory=dict)
    leaves: Mapping[str, str] = field(default_factory=dict)
    separator: str = "."
    padding: Padding | None = None
    sign: str = ""
    training: Mapping[str, Training] = field(default_factory=dict)
    licence: str = ""

    def keys(self, member: Member) -> dict[str, str] | None:
        """Keys of timm -> theirs, for every tensor of the member; None if the library has no such blocks."""
        kinds = _kinds(member.shapes)
        numbers = {place: number for number, place in enumerate(kinds)}
        last = 1 + len({stage for stage, _ in kinds})
        renamed = {}
        for key in member.shapes:
            match = _BLOCK.fullmatch(key)
            if match:
                place = (int(match[1]), int(match[2]))
                name = self.modules.get(kinds[place], {}).get(match[3])
                before = self._before(*place, numbers[place])
            else:
                match = _OUTER.fullmatch(key)
                name = self.outer.get(match[1], "").format(last=last) if match else ""
                before = ""
            if not name or not match:
                return None
            leaf = match[match.lastindex or 0]
            renamed[key] = f"{before}{name}{self.separator}{self.leaf(name, leaf)}"
        return renamed

    def leaf(self, module: str, leaf: str) -> str:
        """The library's name of a parameter or buffer of one of its modules."""
        return self.leaves.get(leaf, leaf)

    def tensor(self, key: str, tensor: Tensor) -> Tensor:
        """A tensor of the library with the order of axes that timm has under this key."""
        return tensor

    def count_blocks(self, keys: Iterable[str]) -> int:
        """The number of blocks of a network that has these keys of the library."""
        pattern = re.escape(self.block)
        for name, digits in (("number", r"\d+"), ("stage", r"[1-9]\d*"), ("index", r"\d+"), ("letter", r"\w")):
            pattern = pattern.replace(re.escape(f"{{{name}}}"), digits)
        return len({match[0] for key in keys if (match := re.match(pattern, key))})

    def _before(self, stage: int, index: int, number: int) -> str:
        return self.block.format(stage=stage + 1, index=index, number=number, letter=chr(ord("a") + index))


def _kinds(keys: Iterable[str]) -> dict[tuple[int, int], Kind]:
    """The kind of every block by its stage and index, in the order of computation."""
    inside: dict[tuple[int, int], set[str]] = {}
    for key in keys:
        if match := _BLOCK.fullmatch(key):
            inside.setdefault((int(match[1]), int(match[2])), set()).add(match[3])
    return {place: _kind(modules) for place, modules in inside.items()}


def _kind(modules: set[str]) -> Kind:
    if "conv_exp" in modules:
        return "fused"
    if "conv" in modules:
        return "plain"
    return "inverted" if "conv_pwl" in modules else "separable"
