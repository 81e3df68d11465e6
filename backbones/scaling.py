"""Compound scaling: one number φ sets the depth, width and resolution of an EfficientNet, and names it.

Source: Tan, Le, "EfficientNet" (arXiv 1905.11946), equation 3: against B0 a network is α^φ times as deep, β^φ times
as wide and sees images γ^φ times as large on a side, with α, β, γ >= 1. Cost grows with depth and with the squares of
width and resolution, so α·β²·γ² ≈ 2 makes it grow as 2^φ; the paper's coefficients give 1.92^φ.

Blocks, channels and pixels are whole numbers, and how they are rounded decides what φ costs. There are two rules:

`nearest`: each stage has the whole number of blocks nearest to α^φ times B0's. Counted on the real networks, MACs
    follow 2^φ within 16 % from φ = 0 to 3.7. Beyond, 1.92 instead of 2 tells (they stay near 1.92^φ); below 0
    cost falls more slowly, as stages of one block and narrow layers cannot shrink.
`official`: the rule of the released networks (tensorflow/tpu `models/official/efficientnet/efficientnet_builder.py`
    and `efficientnet_model.py`): multipliers of one decimal, and repeats rounded up. φ = 0, 0.5, 1, 2 and 3.3 give
    the blocks and channels of B0 to B4. Rounding up gives each of the seven stages up to a block more: at a depth of
    1.1 the 16 blocks of B0 are 23. So φ = 0.5 costs 26 %, 0.6 44 % and 1.5 32 % more than 2^φ.

The paper's own exceptions: B5, B6 and B7 are on no φ (2.2, 2.6 and 3.1 times as deep are φ of 4.3, 5.2 and 6.2, and
1.6, 1.8 and 2.0 times as wide are 4.9, 6.2 and 7.3), and resolutions are chosen by hand (260 for 257.6, 380 for 355,
456 for 450.5).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from backbones.published import PUBLISHED
from engine.errors import InputError, check_choice

Rounding = Literal["nearest", "official"]
Padding = Literal["same", "symmetric"]

# EfficientNet-B0 (paper, table 1): the stem's channels, blocks and channels by stage, the head's channels, pixels.
BASE_STEM = 32
BASE_REPEATS = (1, 2, 2, 3, 3, 4, 1)
BASE_CHANNELS = (16, 24, 40, 80, 112, 192, 320)
BASE_HEAD = 1280
BASE_RESOLUTION = 224

RESOLUTION_STEP = 4  # pixels; the largest number that divides the resolutions of all of B0 to B7
PHI_RANGE = (-4.0, 10.0)  # 0.06 to 700 times the cost of B0; B7 lies near 7
_MULTIPLIERS = (0.1, 16.0)
_RESOLUTIONS = (32, 4096)
_DECIMALS = 6  # of the numbers in a name


@dataclass(frozen=True)
class Point:
    """A network of the family, as multiples of B0.

    Attributes:
        width: multiple of the channels of every layer.
        depth: multiple of the blocks of every stage.
        resolution: height and width of the images it is meant for, in pixels.
        rounding: how repeats become whole numbers: rounded to the nearest, or up as the official code does.
    """

    width: float
    depth: float
    resolution: int
    rounding: Rounding = "nearest"

    def __post_init__(self) -> None:
        for what, value, (low, high) in (
            ("width", self.width, _MULTIPLIERS),
            ("depth", self.depth, _MULTIPLIERS),
            ("resolution", self.resolution, _RESOLUTIONS),
        ):
            if not low <= value <= high:
                msg = (
                    f"{what} of the scaled network is {value:g}; allowed is {low:g} to {high:g}. "
                    "Take φ nearer to 0 or smaller coefficients."
                )
                raise InputError(msg)
        check_choice("rounding", self.rounding, ("nearest", "official"))

    @property
    def repeats(self) -> tuple[int, ...]:
        """Blocks of each of the seven stages."""
        return tuple(round_repeats(count, self.depth, self.rounding) for count in BASE_REPEATS)

    @property
    def channels(self) -> tuple[int, ...]:
        """Output channels of each of the seven stages."""
        return tuple(round_channels(count, self.width) for count in BASE_CHANNELS)


@dataclass(frozen=True)
class Coefficients:
    """α, β and γ: how much deeper, wider and larger a network becomes when φ grows by 1.

    Raises:
        InputError: a coefficient is below 1 or is no finite number.
    """

    alpha: float = 1.2
    beta: float = 1.1
    gamma: float = 1.15

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "gamma"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 1):
                msg = f"{name} is {value:g}; it must be at least 1, and 1 leaves its dimension as it is."
                raise InputError(msg)

    @property
    def cost(self) -> float:
        """α·β²·γ², the factor of the cost when φ grows by 1 and nothing is rounded; the paper asks for about 2."""
        return self.alpha * self.beta**2 * self.gamma**2

    def at(self, phi: float, rounding: Rounding = "nearest") -> Point:
        """The network at φ (equation 3).

        Raises:
            InputError: φ is no number from -4 to 10, or gives a useless network with these coefficients.
        """
        low, high = PHI_RANGE
        if not low <= phi <= high:  # also true of NaN
            msg = f"phi is {phi:g}; give a number from {low:g} to {high:g}. B0 is 0 and B7 lies near 7."
            raise InputError(msg)
        width, depth = self.beta**phi, self.alpha**phi
        if rounding == "official":
            width, depth = _half_up(10 * width) / 10, _half_up(10 * depth) / 10
        resolution = RESOLUTION_STEP * _half_up(BASE_RESOLUTION * self.gamma**phi / RESOLUTION_STEP)
        return Point(width, depth, resolution, rounding)


PAPER = Coefficients()

# tensorflow/tpu `models/official/efficientnet/efficientnet_builder.py`, `efficientnet_params`.
MEMBERS: dict[str, Point] = {
    "b0": Point(1.0, 1.0, 224, "official"),
    "b1": Point(1.0, 1.1, 240, "official"),
    "b2": Point(1.1, 1.2, 260, "official"),
    "b3": Point(1.2, 1.4, 300, "official"),
    "b4": Point(1.4, 1.8, 380, "official"),
    "b5": Point(1.6, 2.2, 456, "official"),
    "b6": Point(1.8, 2.6, 528, "official"),
    "b7": Point(2.0, 3.1, 600, "official"),
}


def round_channels(channels: int, width: float, divisor: int = 8) -> int:
    """`width` times the channels, to the nearest multiple of `divisor` that loses at most a tenth.

    Source: `round_filters` of the official `efficientnet_model.py`.

    >>> [round_channels(channels, 1.4) for channels in (32, 16, 24)]  # stem and first stages of B4
    [48, 24, 32]
    """
    wanted = channels * width
    rounded = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * wanted else rounded


def round_repeats(repeats: int, depth: float, rounding: Rounding = "official") -> int:
    """`depth` times the blocks of a stage, at least one: rounded up as by the official code, or to the nearest.

    The official code is `round_repeats` of `efficientnet_model.py`; timm has both ways, as `depth_trunc` of its
    `decode_arch_def`.

    >>> round_repeats(3, 1.1), round_repeats(3, 1.1, "nearest")
    (4, 3)
    """
    wanted = repeats * depth
    return max(1, math.ceil(wanted) if rounding == "official" else _half_up(wanted))


def member_phi(index: float) -> float:
    """The φ at which the paper's coefficients reach the cost of B`index`: log(MACs / MACs of B0) / log(α·β²·γ²).

    The MACs are those of the paper's table 2.

    The paper gives no φ for its members, and because their repeats are rounded up, each costs more than the φ of its
    multipliers. For B1 to B7 this gives 0.9, 1.4, 2.3, 3.6, 5.0, 6.0 and 7.0. Between two members φ is interpolated;
    below the first and above the last it is extrapolated from the nearest two.
    """
    costs = [PUBLISHED[name].macs_billions[0].value for name in MEMBERS]
    phis = [math.log(cost / costs[0]) / math.log(PAPER.cost) for cost in costs]
    below = min(max(math.floor(index), 0), len(phis) - 2)
    return phis[below] + (index - below) * (phis[below + 1] - phis[below])


@dataclass(frozen=True)
class ScaledNetwork:
    """A scaled EfficientNet with a name, which can be used wherever a timm name can.

    `tf_efficientnet_phi1.5` has TensorFlow's padding and epsilon, like timm's `tf_` members. `efficientnet_phi1.5` has
    symmetric padding, `efficientnet_phi1_a1.4_b1.05_g1.1` has other coefficients than the paper's, and
    `efficientnet_phi1_official` has the official rounding.
    """

    phi: float
    coefficients: Coefficients = PAPER
    padding: Padding = "same"
    rounding: Rounding = "nearest"

    @property
    def name(self) -> str:
        """The name, with numbers of up to six decimals."""
        parts = ["tf_efficientnet" if self.padding == "same" else "efficientnet", f"phi{_written(self.phi)}"]
        given = self.coefficients
        if given != PAPER:
            parts += [f"a{_written(given.alpha)}", f"b{_written(given.beta)}", f"g{_written(given.gamma)}"]
        if self.rounding == "official":
            parts.append("official")
        return "_".join(parts)

    @property
    def point(self) -> Point:
        """The multiples of B0 that it is built with."""
        return self.coefficients.at(self.phi, self.rounding)


def scaled_name(
    phi: float, coefficients: Coefficients = PAPER, padding: Padding = "same", rounding: Rounding = "nearest"
) -> str:
    """The name of the network at φ, for everything that takes a backbone's name.

    Raises:
        InputError: there is no network at φ.

    >>> scaled_name(1.5), scaled_name(1.5, padding="symmetric")
    ('tf_efficientnet_phi1.5', 'efficientnet_phi1.5')
    """
    scaled = ScaledNetwork(phi, coefficients, padding, rounding)
    scaled.point  # noqa: B018 - raises where there is no network to name
    return scaled.name


_NUMBER = r"(-?\d+(?:\.\d+)?)"
_NAME = re.compile(rf"(tf_)?efficientnet_phi{_NUMBER}(?:_a{_NUMBER}_b{_NUMBER}_g{_NUMBER})?(_official)?")


def read_scaled_name(name: str) -> ScaledNetwork | None:
    """The inverse of `scaled_name`; None if the name is not that of a scaled network.

    Raises:
        InputError: the name begins like one of a scaled network but is none, or there is no network at its φ.
    """
    if not name.startswith(("efficientnet_phi", "tf_efficientnet_phi")):
        return None
    match = _NAME.fullmatch(name)
    if match is None:
        msg = (
            f"'{name}' names no network. Give efficientnet_phi1.5 or, with coefficients other than the paper's, "
            "efficientnet_phi1_a1.4_b1.05_g1.1."
        )
        raise InputError(msg)
    tf, phi, alpha, beta, gamma, official = match.groups()
    coefficients = PAPER if alpha is None else Coefficients(float(alpha), float(beta), float(gamma))
    scaled = ScaledNetwork(
        float(phi), coefficients, "same" if tf else "symmetric", "official" if official else "nearest"
    )
    scaled.point  # noqa: B018 - raises where there is no network
    return scaled


def _half_up(value: float) -> int:
    """Round to the nearest whole number, halves up; Python's own rounding takes halves to the even neighbour."""
    return math.floor(value + 0.5)


def _written(value: float) -> str:
    digits = f"{value:.{_DECIMALS}f}".rstrip("0").rstrip(".")
    return "0" if digits == "-0" else digits
