"""The operations of an exported file as groups of layers that become int8, or stay in float, together."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Operation(NamedTuple):
    """One operation of a file's graph.

    Attributes:
        name: its name in the file.
        weight: of a convolution or a linear layer, the name of its weight as the network calls it; None for others.
        sources: names of the operations whose results it reads.
    """

    name: str
    weight: str | None
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Layer:
    """A convolution or a linear layer with what follows it, up to the next one.

    Attributes:
        name: its name in the network, such as `backbone.blocks.1.0.conv_pw`.
        operations: their names in the file; a head's layer has those of every level.
    """

    name: str
    operations: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Layers that become int8, or stay in float, together: a block, a cell of the pyramid, a repeat of a head.

    Attributes:
        name: the common part of the layers' names.
        layers: the layers.
    """

    name: str
    layers: tuple[Layer, ...]

    @property
    def operations(self) -> frozenset[str]:
        """The names of all operations."""
        return frozenset(name for layer in self.layers for name in layer.operations)


def groups_of(operations: Sequence[Operation]) -> tuple[Group, ...]:
    """The groups of a graph, from the image on.

    An operation without a weight belongs to the layer whose result it reads first. What no layer follows, and what
    reads none, belongs to no group: sizes, anchors, and all that becomes of the last layers' results.

    Args:
        operations: all of them, each after those that it reads.
    """
    body = _followed(operations)
    layer_of: dict[str, str] = {}
    for operation in operations:
        if operation.weight is not None:
            layer_of[operation.name] = layer_name(operation.weight)
        elif operation.name in body:
            above = next((layer_of[source] for source in operation.sources if source in layer_of), None)
            if above is not None:
                layer_of[operation.name] = above
    layers: dict[str, list[str]] = {}
    for name, layer in layer_of.items():
        layers.setdefault(layer, []).append(name)
    groups: dict[str, list[Layer]] = {}
    for layer, names in layers.items():
        groups.setdefault(group_name(layer), []).append(Layer(layer, tuple(names)))
    return tuple(Group(name, tuple(members)) for name, members in groups.items())


def last_layers(operations: Sequence[Operation]) -> tuple[str, ...]:
    """The names of the layers after which none follows: those that give logits and box deltas."""
    body = _followed(operations)
    return tuple(each.name for each in operations if each.weight is not None and each.name not in body)


def layer_name(weight: str) -> str:
    """The name of a layer, from that of its weight in a graph."""
    # So ONNX Runtime names a weight that took up the norm or factor that followed it.
    inner = re.sub(r"^(Conv(Bn|Mul|Add)Fusion_W_)+|(_token_\d+)+$", "", weight)
    # A graph holds the network under this name, and a head of torchvision under the other.
    return inner.removeprefix("network.").removeprefix("boxes.").removesuffix(".weight")


def group_name(layer: str) -> str:
    """The group of a layer: its name up to the first numbers, or else without its last part."""
    if numbered := re.match(r"(.*?\.\d+(\.\d+)*)(\.|$)", layer):
        return numbered[1]
    parts = layer.split(".")
    return ".".join(parts[:-1]) if len(parts) > 2 else layer


def in_float(groups: Sequence[Group], kept: Collection[str]) -> frozenset[str]:
    """The names of the operations of those groups that are kept."""
    return frozenset(name for group in groups if group.name in kept for name in group.operations)


def _followed(operations: Sequence[Operation]) -> frozenset[str]:
    """The names of operations whose results a layer reads, at once or by way of others."""
    by_name: Mapping[str, Operation] = {each.name: each for each in operations}
    found: set[str] = set()
    waiting = [source for each in operations if each.weight is not None for source in each.sources]
    while waiting:
        name = waiting.pop()
        if name not in found and name in by_name:
            found.add(name)
            waiting += by_name[name].sources
    return frozenset(found)
