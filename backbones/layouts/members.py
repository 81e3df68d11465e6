"""The members of the family, which files must fit: the tensors of each member, its padding and its epsilon."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import timm
import torch
from timm.layers import Conv2dSame

from backbones.networks import BATCH_NORMS, create_classifier
from backbones.scaling import Padding, read_scaled_name

# The classification head in timm's names: it is part of every ImageNet file, but a feature extractor does not use it.
HEAD = ("conv_head.", "bn2.", "classifier.")

# Number of blocks -> members that have it, to find the member of a file.
_BY_BLOCKS = {
    16: ("b0", "lite0"), 21: ("lite1", "lite2", "v2_b0"), 23: ("b1", "b2"), 24: ("lite3",), 26: ("b3",),
    27: ("v2_b1",), 28: ("v2_b2",), 30: ("lite4",), 32: ("b4", "v2_b3"), 39: ("b5", "v2_rw_t"),
    40: ("v2_s", "v2_rw_s"), 45: ("b6",), 55: ("b7",), 57: ("v2_m",), 60: ("v2_rw_m",), 61: ("b8",),
    79: ("v2_l",), 88: ("l2",), 100: ("v2_xl",),
}  # fmt: skip


@dataclass(frozen=True)
class Member:
    """The whole ImageNet classifier of a name.

    Attributes:
        name: its name in `backbones.networks`, without a weight tag.
        shapes: shapes of its tensors, by timm's keys.
        padding: `same`, as TensorFlow pads, or `symmetric`.
        norm_eps: epsilon of its batch norms.
    """

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    padding: Padding
    norm_eps: float

    @property
    def short(self) -> str:
        """Its name within the family: `b0`, `lite0`, `v2_s`."""
        return self.name.removeprefix("tf_").removeprefix("efficientnet").lstrip("_")


def member(name: str) -> Member:
    """The member of a resolved name; a weight tag makes no difference."""
    return _member(untagged(name))


def untagged(name: str) -> str:
    """The name without a weight tag."""
    return name if read_scaled_name(name) else name.partition(".")[0]


@functools.lru_cache(maxsize=32)
def _member(name: str) -> Member:
    with torch.device("meta"):
        network = create_classifier(name)
    norms = [module for module in network.modules() if isinstance(module, BATCH_NORMS)]
    return Member(
        name=name,
        shapes={key: tuple(tensor.shape) for key, tensor in network.state_dict().items()},
        padding="same" if isinstance(network.conv_stem, Conv2dSame) else "symmetric",
        norm_eps=norms[0].eps if norms else 1e-5,
    )


def named(short: str, padding: Padding) -> str | None:
    """The timm name of a member with that padding; None if timm has no such member."""
    plain = f"efficientnet{short}" if short.startswith("v2") else f"efficientnet_{short}"
    name = f"tf_{plain}" if padding == "same" else plain
    return name if timm.is_model(name) else None


def of_blocks(count: int, padding: Padding | None) -> list[Member]:
    """The members with `count` blocks; if the padding is not known, only one of each two that differ in it alone."""
    order: tuple[Padding, ...] = (padding,) if padding else ("symmetric", "same")
    found = []
    for short in _BY_BLOCKS.get(count, ()):
        names = [name for way in order if (name := named(short, way))]
        found += [member(name) for name in names[:1]]
    return found
