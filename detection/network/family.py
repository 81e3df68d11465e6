"""The EfficientDet family: one name, `d0` ... `d7x` or `lite0` ... `lite4`, sets every value; each can be overridden.

Networks between the members, of any other φ, have names such as `phi1.5`.

Sources: Tan, Pang, Le, "EfficientDet" (arXiv 1911.09070), table 1 and section 4; where the released models
depart from the paper's equations, google/automl `efficientdet/hparams_config.py` (6a54c87) is followed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from backbones.scaling import member_phi, round_channels, scaled_name
from backbones.slimming import Widths, check_widths
from engine.errors import InputError, check_choice
from engine.numbers import AboveZeroToOne, CanvasSide, PositiveFloat, PositiveInt, ZeroToBelowOne
from engine.reading.options import Reading
from engine.settings import NetworkSettings, Overrides

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


class PhiName(str):
    """A name such as `phi1.5`, of the network at any φ.

    Raises:
        ValueError: the text is not such a name.
    """

    def __new__(cls, text: str) -> PhiName:
        """The text, if it is such a name."""
        if not _PHI_NAME.fullmatch(text):
            msg = f"'{text}' is not phi and a number"
            raise ValueError(msg)
        return super().__new__(cls, text)


_PHI_NAME = re.compile(r"phi(-?\d+(?:\.\d+)?)")
Fusion = Literal["fast_attention", "attention", "sum"]
Activation = Literal["silu", "relu6"]
Padding = Literal["same", "symmetric"]
Pyramid = Literal["bifpn", "quad"]
Resampling = Literal["pool", "bilinear"]
Fill = Literal["mean", "black"]
PerChannel = tuple[float, float, float]
Deviations = tuple[PositiveFloat, PositiveFloat, PositiveFloat]

IMAGENET_MEAN: PerChannel = (0.485, 0.456, 0.406)
IMAGENET_STD: PerChannel = (0.229, 0.224, 0.225)
HALF: PerChannel = (0.5, 0.5, 0.5)  # maps 0..255 to -1..1: the Lite and the AdvProp members


@dataclass(frozen=True)
class DetectorArchitecture(NetworkSettings):
    """Everything that decides what the network is and what its numbers mean.

    Attributes:
        name: the family member it started from, or `phi` and a number.
        backbone: a timm EfficientNet.
        image_size: height and width of the canvas that images are letter-boxed on, in pixels.
        fpn_channels: channels of every pyramid map, W_bifpn of the paper's equation 1.
        fpn_cells: BiFPN layers, D_bifpn.
        head_repeats: separable convolutions in each head before the predicting one, equation 2.
        fusion: how a node weighs its inputs: fast normalised (equation after section 3.3), softmax, or plain sum.
        max_level: coarsest pyramid level.
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
        fill: colour of the canvas beside the image, the mean or black.
        pyramid: `bifpn`, or effdet's `quad` with two bidirectional layers side by side in each cell.
        resampling: between pyramid levels: `pool` is max-pooling downwards and nearest neighbour upwards, as
            published; `bilinear` is bilinear both ways, as in some of effdet's own networks.
        pads_canvas: whether images are padded to multiples of the coarsest stride, as this project did before it
            computed a canvas of any size as the published networks do; checkpoints of that time keep their answers.
        bands: numbers, from 1, of the bands of rasters that are red, green and blue, or of one grey band; None leaves
            it to each file.
        value_range: values of rasters and 16-bit pictures that become 0 and 255; None needs 8-bit rasters.
        nodata: value of a raster's pixels without data, if files do not state it.
        widths: name, inputs and outputs of each layer that was pruned, see `backbones.slimming`; else empty.
        min_level: finest pyramid level: 3, or 2 for small objects, with four times as many cells as level 3.
    """

    name: str
    backbone: str
    image_size: tuple[CanvasSide, CanvasSide]
    fpn_channels: PositiveInt
    fpn_cells: PositiveInt
    head_repeats: PositiveInt
    fusion: Fusion = "fast_attention"
    max_level: int = 7
    anchor_scale: PositiveFloat = 4.0
    anchor_octaves: PositiveInt = 3
    anchor_ratios: tuple[tuple[PositiveFloat, PositiveFloat], ...] = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))
    activation: Activation = "silu"
    padding: Padding = "same"
    norm_eps: PositiveFloat = 1e-3
    norm_momentum: AboveZeroToOne = 0.01
    drop_path: ZeroToBelowOne = 0.2
    mean: PerChannel = IMAGENET_MEAN
    std: Deviations = IMAGENET_STD
    fill: Fill = "mean"
    pyramid: Pyramid = "bifpn"
    resampling: Resampling = "pool"
    pads_canvas: bool = False
    bands: tuple[PositiveInt, ...] | None = None
    value_range: tuple[float, float] | None = None
    nodata: float | None = None
    widths: Widths = ()
    min_level: Literal[2, 3] = 3

    def __post_init__(self) -> None:
        check_widths(self.widths)
        super().__post_init__()
        Reading(self.bands, self.value_range, self.nodata)  # which checks them
        if not 5 <= self.max_level <= 9:
            msg = f"max_level is {self.max_level}; allowed are 5 to 9, the pyramid's coarsest level."
            raise InputError(msg)
        if not self.anchor_ratios or len(self.mean) != 3:
            msg = (
                f"anchor_ratios is {self.anchor_ratios} and mean {self.mean}; give one ratio at least, and three means."
            )
            raise InputError(msg)

    @property
    def reading(self) -> Reading:
        """How rasters become the 8-bit RGB that the network is trained on."""
        return Reading(self.bands, self.value_range, self.nodata)

    @property
    def levels(self) -> tuple[int, ...]:
        """Pyramid levels, finest first; level l has stride 2^l."""
        return tuple(range(self.min_level, self.max_level + 1))

    @property
    def stride(self) -> int:
        """Stride of the coarsest level, in pixels of a canvas whose sides are multiples of it."""
        return int(2**self.max_level)

    @classmethod
    def from_settings(cls, settings: Mapping[str, object]) -> DetectorArchitecture:
        """As `NetworkSettings.from_settings`; a network that was stored before `pads_canvas` existed does pad.

        Raises:
            InputError: as `from_dict`.
        """
        stored = settings["architecture"]
        assert isinstance(stored, Mapping)
        stored = {"pads_canvas": True, **stored}
        return super().from_settings({**settings, "architecture": stored})

    @property
    def finest_stride(self) -> int:
        """Pixels from one cell of the finest map to the next."""
        return 1 << self.levels[0]

    @property
    def anchors_per_cell(self) -> int:
        """A = octaves x ratios."""
        return self.anchor_octaves * len(self.anchor_ratios)


class DetectorOverrides(Overrides, of=DetectorArchitecture):
    """Values in place of the member's own; None leaves it. One number as `image_size` is a square canvas."""

    image_size: CanvasSide | tuple[CanvasSide, CanvasSide] | None


def _standard(
    phi: int,
    backbone: int,
    size: int,
    channels: int,
    cells: int,
    repeats: int,
    *,
    fusion: Fusion = "fast_attention",
    max_level: int = 7,
    anchor_scale: float = 4.0,
    name: str | None = None,
) -> DetectorArchitecture:
    # The official code drops no path in B0 (hparams_config.py: survival_prob is None for D0).
    drop_path = 0.0 if backbone == 0 else 0.2
    return DetectorArchitecture(
        name or f"d{phi}",
        f"tf_efficientnet_b{backbone}",
        (size, size),
        channels,
        cells,
        repeats,
        fusion=fusion,
        max_level=max_level,
        anchor_scale=anchor_scale,
        drop_path=drop_path,
    )


def _lite(
    name: str, backbone: int, size: int, channels: int, cells: int, repeats: int, scale: float
) -> DetectorArchitecture:
    return DetectorArchitecture(
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


# As published. The equations (`pyramid_channels` to `image_side`) agree except for these: D2 has 112 channels, not
# 120, and D4 224, not 216; D5 has 7 cells, not 8, D6 8, not 9, and D7 8, not 10; D5 is for 1280 pixels, not 1152, and
# D7 for 1536, not 1408; D7 has D6's backbone and channels, and D7x the backbone of the equations.
# D6 and above sum without weights, as the weighted fusion diverged at that size (hparams_config.py).
FAMILY: dict[str, DetectorArchitecture] = {
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


PHI_RANGE = (-2.0, 8.0)  # below it, no cell of the pyramid is left; the largest published member is 7


def pyramid_channels(phi: float) -> int:
    """W = 64 · 1.35^φ (equation 1), rounded as the backbone's channels are."""
    return round_channels(64, 1.35**phi)


def pyramid_cells(phi: float) -> int:
    """D = 3 + φ (equation 1), to the nearest whole number, halves up."""
    return math.floor(3 + phi + 0.5)


def head_repeats(phi: float) -> int:
    """3 + ⌊φ / 3⌋ (equation 2)."""
    return 3 + math.floor(phi / 3)


def image_side(phi: float) -> int:
    """R = 512 + 128 · φ (equation 3), to the nearest multiple of 128, the stride of level 7; halves up."""
    return 128 * math.floor(4 + phi + 0.5)


def scaled_member(phi: float) -> DetectorArchitecture:
    """The detector at φ: a published member where φ is 0, 1, ... 7, else what the equations give.

    The equations name no backbone between the published ones; it is the EfficientNet whose cost lies between theirs
    (`backbones.scaling.member_phi`). Drop path and fusion are those of the member below.

    Raises:
        InputError: φ is not a number from -2 to 8.
    """
    low, high = PHI_RANGE
    if not low <= phi <= high:  # not true for NaN either
        msg = f"phi is {phi:g}; a detector's lies between {low:g} and {high:g}, as d0 to d7 are 0 to 7."
        raise InputError(msg)
    if f"d{phi:g}" in FAMILY:
        return FAMILY[f"d{phi:g}"]
    side = image_side(phi)
    written = f"{phi:.6f}".rstrip("0").rstrip(".")
    return DetectorArchitecture(
        f"phi{written}",
        scaled_name(round(member_phi(phi), 2)),
        (side, side),
        pyramid_channels(phi),
        pyramid_cells(phi),
        head_repeats(phi),
        fusion="sum" if phi > 6 else "fast_attention",
        drop_path=0.0 if phi < 1 else 0.2,
    )


def architecture(name: str, **overrides: object) -> DetectorArchitecture:
    """The member called `name`, with some values replaced; a value of None leaves the member's own.

    `image_size` may be one number for a square canvas. `phi` and a number is `scaled_member`.

    Raises:
        InputError: unknown member, unknown field, or a value out of range.
    """
    if match := _PHI_NAME.fullmatch(name):
        return replaced(scaled_member(float(match[1])), **overrides)
    if name.startswith("phi"):
        low, high = PHI_RANGE
        msg = f"'{name}' is not a member; write phi and a number from {low:g} to {high:g}, as in phi1.5."
        raise InputError(msg)
    check_choice("member", name, FAMILY)
    return replaced(FAMILY[name], **overrides)


def replaced(config: DetectorArchitecture, **overrides: object) -> DetectorArchitecture:
    """An architecture with some values replaced, as `architecture` takes them.

    Raises:
        InputError: unknown field, or a value out of range.
    """
    config.check_fields(overrides)
    given = {key: value for key, value in overrides.items() if value is not None}
    size = given.get("image_size")
    if isinstance(size, int):
        given["image_size"] = (size, size)
    return DetectorArchitecture.from_dict({**config.to_dict(), **given})
