"""What detectors and segmenters need of any backbone; EfficientNet is one such backbone.

A backbone is a `torch.nn.Module` with the attributes of `Features`. It does its own freezing and recomputing: parts
that shall not learn have `requires_grad=False`, and stay in evaluation mode through `train()`. Folding for prediction
(`backbones.folding`) sees which convolution feeds which norm while the network runs, and needs nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypedDict

from torch import Tensor, nn

from backbones.grid import Grid
from engine.errors import InputError

GIVEN = "given:"  # in settings and checkpoints, stands before the class of a backbone that was given as an object


@dataclass(frozen=True)
class ImageNorm:
    """Mean and standard deviation of each channel, for images in [0, 1], that the weights were trained with."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Features(Protocol):
    """A backbone: it takes normalised images and returns one map per pyramid level, finest first.

    `nn.Module` itself is no protocol, so `check_features` checks at run time that a backbone is one.
    """

    @property
    def levels(self) -> tuple[int, ...]:
        """Pyramid levels of the maps, increasing; level l has stride 2^l, or less where it was made dense."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Image pixels per cell of each map."""

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each map."""

    @property
    def image_norm(self) -> ImageNorm:
        """The mean and deviation that images are normalised with."""

    def __call__(self, images: Tensor) -> list[Tensor]:
        """One map (B, channels[i], ceil(H / strides[i]), ceil(W / strides[i])) per level of images (B, 3, H, W)."""

    def grids(self, image_hw: tuple[int, int]) -> list[Grid]:
        """The places of each map's cells on an image of this height and width, in pixels."""


class Freezing(TypedDict, total=False):
    """Arguments of `backbones.features.EfficientNetFeatures` that say which parts learn, and at what cost."""

    frozen_stages: int
    freeze_norm: bool
    grad_checkpointing: bool


def check_features(backbone: Features, levels: Sequence[int], coarsest: int = 32) -> None:
    """Do nothing if an object can be the backbone of a network that reads these levels.

    Args:
        backbone: the object that was given.
        levels: the levels that the network reads, finest first.
        coarsest: the largest stride that the network takes; coarser levels have to be made dense.

    Raises:
        InputError: the object is no module, lacks an attribute of `Features`, or has other levels or strides.
    """
    given: object = backbone
    name = type(given).__name__
    if not isinstance(given, nn.Module):
        msg = f"the backbone is a {name}; give a torch.nn.Module with the attributes of backbones.contract.Features."
        raise InputError(msg)
    for attribute in ("levels", "strides", "channels", "image_norm", "grids"):
        if not hasattr(given, attribute):
            msg = f"the backbone {name} has no '{attribute}'; see backbones.contract.Features for what is needed."
            raise InputError(msg)
    strides = tuple(min(2**level, coarsest) for level in levels)
    if tuple(backbone.levels) != tuple(levels) or tuple(backbone.strides) != strides:
        msg = (
            f"the backbone {name} has levels {tuple(backbone.levels)} with strides {tuple(backbone.strides)}; this "
            f"network reads {tuple(levels)} with strides {strides}."
        )
        raise InputError(msg)
    if len(backbone.channels) != len(levels):
        msg = f"the backbone {name} has {len(backbone.channels)} numbers of channels for {len(levels)} levels."
        raise InputError(msg)


def check_untouched(weights: object, freezing: Freezing) -> None:
    """Do nothing if no weights and no freezing are asked for, which only a backbone built by name can take.

    Raises:
        InputError: weights or freezing are asked for.
    """
    asked = [name for name, value in freezing.items() if value] + (["backbone_weights"] if weights is not None else [])
    if asked:
        msg = f"{asked[0]} is for backbones that are built by name. Load and freeze the one that is given yourself."
        raise InputError(msg)


def given_name(backbone: object) -> str:
    """The name, in settings and checkpoints, of a backbone that was given as an object."""
    return f"{GIVEN}{type(backbone).__module__}.{type(backbone).__qualname__}"


def check_named(name: str) -> None:
    """Do nothing if a backbone can be built from its name.

    Raises:
        InputError: the backbone was given as an object, of which only the name of the class was kept.
    """
    if name.startswith(GIVEN):
        msg = (
            f"the backbone of this network, {name.removeprefix(GIVEN)}, was given as an object, which no file "
            "holds. Give the same kind of backbone again: from_settings(settings, backbone=...)."
        )
        raise InputError(msg)


def chosen_features(
    given: str | Features | None,
    make: Callable[[], Features],
    name: str,
    *,
    levels: Sequence[int],
    coarsest: int = 32,
    weights: str | Path | None,
    freezing: Freezing,
) -> Features:
    """The backbone of a network: the object that its constructor was given, or else one that is made by its name.

    Args:
        given: what the constructor was given.
        make: makes the one of the name.
        name: its name.
        levels: the levels that the network reads, finest first.
        coarsest: the largest stride that the network takes.
        weights: what a backbone is to begin with; an object has its own.
        freezing: which parts learn, which an object decides itself.

    Raises:
        InputError: the object lacks what a backbone needs or is to be changed, or the name cannot be made again.
    """
    if given is None or isinstance(given, str):
        check_named(name)
        return make()
    check_features(given, levels, coarsest)
    check_untouched(weights, freezing)
    return given
