"""The EfficientDet family: one name, `d0` ... `d7x` or `lite0` ... `lite4`, sets every value; each can be overridden.

Sources: Tan, Pang, Le, "EfficientDet" (arXiv 1911.09070), table 1 and section 4; where the released models
depart from the paper's equations, google/automl `efficientdet/hparams_config.py` (6a54c87) is followed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from engine.errors import InputError, check_choice

MemberName = Literal[
    "d0",
    "d1",
    "d2",
    "d3",
    "d4",
    "d5",
    "d6",
    "d7",
    "d7x",
    "lite0",
    "lite1",
    "lite2",
    "lite3",
    "lite3x",
    "lite4",
]
Fusion = Literal["fast_attention", "attention", "sum"]
Activation = Literal["silu", "relu6"]
Padding = Literal["same", "symmetric"]
Rgb = tuple[float, float, float]

IMAGENET_MEAN: Rgb = (0.485, 0.456, 0.406)
IMAGENET_STD: Rgb = (0.229, 0.224, 0.225)
HALF: Rgb = (0.5, 0.5, 0.5)  # maps 0..255 to -1..1: the Lite and the AdvProp members


@dataclass(frozen=True)
class Architecture:
    """Everything that shapes the network or what its numbers mean.

    Attributes:
        name: the family member it started from.
        backbone: a timm EfficientNet.
        image_size: height and width of the canvas that images are letter-boxed on, in pixels.
        fpn_channels: channels of every pyramid map, W_bifpn of the paper's equation 1.
        fpn_cells: BiFPN layers, D_bifpn.
        head_repeats: separable convolutions in each head before the predicting one, equation 2.
        fusion: how a node weighs its inputs: fast normalised (equation after section 3.3), softmax, or plain sum.
        max_level: coarsest pyramid level; the finest is 3.
        anchor_scale: side of the smallest square anchor in strides of its level.
        anchor_octaves: anchor sizes per octave.
        anchor_ratios: width and height of each anchor shape, for a unit square.
        activation: of the pyramid and the heads.
        padding: of strided layers: `same` puts the odd pixel right and below as TensorFlow does.
        norm_eps: batch-norm epsilon of pyramid and heads.
        norm_momentum: share of a new batch in the running statistics, in the backbone too.
        drop_path: stochastic depth of the backbone's last block (1 - survival_prob of the official code).
        mean: subtracted from RGB in 0..1.
        std: divides RGB in 0..1.
    """

    name: str
    backbone: str
    image_size: tuple[int, int]
    fpn_channels: int
    fpn_cells: int
    head_repeats: int
    fusion: Fusion = "fast_attention"
    max_level: int = 7
    anchor_scale: float = 4.0
    anchor_octaves: int = 3
    anchor_ratios: tuple[tuple[float, float], ...] = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))
    activation: Activation = "silu"
    padding: Padding = "same"
    norm_eps: float = 1e-3
    norm_momentum: float = 0.01
    drop_path: float = 0.2
    mean: Rgb = IMAGENET_MEAN
    std: Rgb = IMAGENET_STD

    def __post_init__(self) -> None:
        positive = ("fpn_channels", "fpn_cells", "head_repeats", "anchor_scale", "anchor_octaves", "norm_eps")
        for field in positive:
            if getattr(self, field) <= 0:
                msg = f"{field} is {getattr(self, field)}; it must be above 0"
                raise InputError(msg)
        if len(self.image_size) != 2 or min(self.image_size) < 32:
            msg = f"image_size is {self.image_size}; give height and width of at least 32 pixels"
            raise InputError(msg)
        if not 5 <= self.max_level <= 9:
            msg = f"max_level is {self.max_level}; the pyramid's coarsest level lies between 5 and 9"
            raise InputError(msg)
        if not self.anchor_ratios or any(len(r) != 2 or min(r) <= 0 for r in self.anchor_ratios):
            msg = f"anchor_ratios is {self.anchor_ratios}; give pairs of width and height above 0"
            raise InputError(msg)
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            msg = f"mean is {self.mean} and std {self.std}; give three numbers each, std above 0"
            raise InputError(msg)
        for field, kinds in (("fusion", Fusion), ("activation", Activation), ("padding", Padding)):
            check_choice(field, getattr(self, field), get_args(kinds))

    @property
    def levels(self) -> tuple[int, ...]:
        """Pyramid levels, finest first; level l has stride 2^l."""
        return tuple(range(3, self.max_level + 1))

    @property
    def stride(self) -> int:
        """Stride of the coarsest level: canvases are multiples of it."""
        return int(2**self.max_level)

    @property
    def anchors_per_cell(self) -> int:
        """A = octaves x ratios."""
        return self.anchor_octaves * len(self.anchor_ratios)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a checkpoint stores them."""
        plain = dataclasses.asdict(self)
        plain["anchor_ratios"] = [list(ratio) for ratio in self.anchor_ratios]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Architecture:
        """The inverse of `to_dict`.

        Raises:
            InputError: a key is not known to this version.
        """
        check_fields(stored)
        return cls(**{key: _tuples(value) for key, value in stored.items()})


@dataclass(frozen=True)
class Overrides:
    """Values in place of the member's own; None leaves it. Each is described in `Architecture`."""

    backbone: str | None = None
    image_size: int | tuple[int, int] | None = None
    fpn_channels: int | None = None
    fpn_cells: int | None = None
    head_repeats: int | None = None
    fusion: Fusion | None = None
    max_level: int | None = None
    anchor_scale: float | None = None
    anchor_octaves: int | None = None
    anchor_ratios: tuple[tuple[float, float], ...] | None = None
    activation: Activation | None = None
    padding: Padding | None = None
    norm_eps: float | None = None
    norm_momentum: float | None = None
    drop_path: float | None = None
    mean: Rgb | None = None
    std: Rgb | None = None

    def given(self) -> dict[str, Any]:
        """Those that are not None."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def _standard(
    phi: int, backbone: int, size: int, channels: int, cells: int, repeats: int, **other: Any
) -> Architecture:
    name = other.pop("name", f"d{phi}")
    # The official code drops no path in B0 (hparams_config.py: survival_prob is None for D0).
    drop_path = 0.0 if backbone == 0 else 0.2
    return Architecture(
        name,
        f"tf_efficientnet_b{backbone}",
        (size, size),
        channels,
        cells,
        repeats,
        drop_path=drop_path,
        **other,
    )


def _lite(name: str, backbone: int, size: int, channels: int, cells: int, repeats: int, scale: float) -> Architecture:
    return Architecture(
        name,
        f"tf_efficientnet_lite{backbone}",
        (size, size),
        channels,
        cells,
        repeats,
        fusion="sum",
        anchor_scale=scale,
        activation="relu6",
        drop_path=0.0 if backbone == 0 else 0.2,
        mean=HALF,
        std=HALF,
    )


# Paper: W = 64 * 1.35^phi, D = 3 + phi, heads 3 + floor(phi / 3), size 512 + 128 phi. Departures of its table 1:
# widths are rounded, D5's depth stays at D4's 7, D6 keeps D5's size, D7 and D7x grow only in size or backbone.
# D6 and above sum without weights, as the weighted fusion diverged at that size (hparams_config.py).
FAMILY: dict[str, Architecture] = {
    member.name: member
    for member in (
        _standard(0, 0, 512, 64, 3, 3),
        _standard(1, 1, 640, 88, 4, 3),
        _standard(2, 2, 768, 112, 5, 3),
        _standard(3, 3, 896, 160, 6, 4),
        _standard(4, 4, 1024, 224, 7, 4),
        _standard(5, 5, 1280, 288, 7, 4),
        _standard(6, 6, 1280, 384, 8, 5, fusion="sum"),
        _standard(7, 6, 1536, 384, 8, 5, fusion="sum", anchor_scale=5.0),
        _standard(7, 7, 1536, 384, 8, 5, fusion="sum", max_level=8, name="d7x"),
        _lite("lite0", 0, 320, 64, 3, 3, 3.0),
        _lite("lite1", 1, 384, 88, 4, 3, 3.0),
        _lite("lite2", 2, 448, 112, 5, 3, 3.0),
        _lite("lite3", 3, 512, 160, 6, 4, 4.0),
        _lite("lite3x", 3, 640, 200, 6, 4, 3.0),
        _lite("lite4", 4, 640, 224, 7, 4, 4.0),
    )
}


def architecture(name: str, **overrides: Any) -> Architecture:
    """The member called `name`, with some values replaced; a value of None leaves the member's own.

    `image_size` may be one number for a square canvas.

    Raises:
        InputError: unknown member, unknown field, or a value out of range.
    """
    check_choice("member", name, FAMILY)
    check_fields(overrides)
    given = {key: _tuples(value) for key, value in overrides.items() if value is not None}
    size = given.get("image_size")
    if isinstance(size, int):
        given["image_size"] = (size, size)
    return dataclasses.replace(FAMILY[name], **given)


def _tuples(value: Any) -> Any:
    """Lists, as JSON and checkpoints have them, as the tuples of a frozen architecture, to any depth."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def check_fields(given: Mapping[str, Any]) -> None:
    """Raise InputError when a key is no field of `Architecture`, naming the nearest."""
    allowed = [field.name for field in dataclasses.fields(Architecture)]
    for key in given:
        check_choice("architecture value", key, allowed)
