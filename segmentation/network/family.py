"""Which networks there are: one name, `b0` ... `b7`, `lite0` ... `lite4` or `v2_s` ..., sets every value.

Sources: Chen et al., "Encoder-Decoder with Atrous Separable Convolution" (arXiv 1802.02611; DeepLabv3+) for the
rates, the skip and the channels; tensorflow/models `research/deeplab`, g3doc/cityscapes.md; the rates at stride 32 from
google-research/deeplab2, g3doc/faq.md.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

from backbones.slimming import Widths, check_widths
from engine.errors import InputError, check_choice
from engine.numbers import AboveZeroToOne, OpenUnitInterval, PositiveInt, ZeroToBelowOne
from engine.reading.options import Reading
from engine.settings import NetworkSettings, Overrides, tuples

MemberName = Literal[
    "b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7",
    "lite0", "lite1", "lite2", "lite3", "lite4",
    "v2_s", "v2_m", "v2_l",
]  # fmt: skip
DecoderName = Literal["deeplabv3plus", "unet", "unetplusplus", "fpn", "pan", "manet", "linknet", "upernet"]
Alignment = Literal["grid", "corners"]
PerChannel = tuple[float, float, float]
Rates = tuple[PositiveInt, PositiveInt, PositiveInt]
OutputStride = Literal[8, 16, 32]

RATES: dict[int, Rates] = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}
_DEEPLAB_FIELDS = (
    "atrous_rates",
    "decoder_channels",
    "skip_channels",
    "separable_aspp",
    "image_pooling",
    "dropout",
    "aux_head",
    "alignment",
)
_STRIDES: dict[str, tuple[int, ...]] = {"deeplabv3plus": (16, 8, 32), "pan": (16, 32)}


@dataclass(frozen=True)
class SegmenterArchitecture(NetworkSettings):
    """Everything that decides what the network is and what its numbers mean.

    Attributes:
        name: the family member it started from.
        backbone: a timm EfficientNet.
        decoder: DeepLabv3+, or one of segmentation-models-pytorch's decoders with its own defaults; the fields from
            `atrous_rates` to `alignment` are DeepLabv3+'s.
        output_stride: stride of the coarsest map; below 32, strides become dilations.
        exact_gates: the backbone's squeeze-and-excitation averages over the cells that the network of stride 32 has,
            so that its features lie unchanged in the dense ones; see `EfficientNetFeatures`.
        atrous_rates: of the three dilated convolutions of ASPP; 6, 12, 18 at stride 16, doubled at 8, halved at 32.
        decoder_channels: channels of ASPP and decoder.
        skip_channels: number of channels to which the map of stride 4 is reduced.
        separable_aspp: whether the dilated convolutions are depthwise separable.
        image_pooling: the branch of ASPP that sees the whole image; without it an output pixel depends on a bounded
            neighbourhood alone.
        dropout: probability of dropout after ASPP's projection.
        aux_head: whether there is a fully convolutional head on the map of level 4, for training only.
        alignment: `grid` samples every map where its cells lie on the image; `corners` stretches corner to corner,
            as networks of segmentation-models-pytorch were trained.
        norm_eps: epsilon of the backbone's batch norms; None is the member's own.
        norm_momentum: weight of a new batch in the running statistics.
        drop_path: stochastic depth of the backbone.
        mean: per channel for images in 0..1; None takes the backbone's own.
        std: likewise.
        bands: numbers, from 1, of the bands of rasters that are red, green and blue, or of one grey band; None leaves
            it to each file.
        value_range: values of rasters and 16-bit pictures that become 0 and 255; None needs 8-bit rasters.
        nodata: value of a raster's pixels without data, if files do not state it.
        widths: name, inputs and outputs of each layer that was pruned, see `backbones.slimming`; else empty.

    Raises:
        InputError: a value is out of range, or does not fit the decoder.
    """

    name: str = "b0"
    backbone: str = "tf_efficientnet_b0"
    decoder: DecoderName = "deeplabv3plus"
    output_stride: OutputStride = 16
    exact_gates: bool = False
    atrous_rates: Rates = RATES[16]
    decoder_channels: PositiveInt = 256
    skip_channels: PositiveInt = 48
    separable_aspp: bool = True
    image_pooling: bool = True
    dropout: ZeroToBelowOne = 0.1
    aux_head: bool = False
    alignment: Alignment = "grid"
    norm_eps: OpenUnitInterval | None = None
    norm_momentum: AboveZeroToOne = 0.1
    drop_path: ZeroToBelowOne = 0.2
    mean: PerChannel | None = None
    std: PerChannel | None = None
    bands: tuple[PositiveInt, ...] | None = None
    value_range: tuple[float, float] | None = None
    nodata: float | None = None
    widths: Widths = ()
    group: ClassVar[str] = "architecture"

    def __post_init__(self) -> None:
        check_widths(self.widths)
        super().__post_init__()
        Reading(self.bands, self.value_range, self.nodata)  # which checks them
        allowed = strides(self.decoder)
        if self.output_stride not in allowed:
            listed = " or ".join(map(str, allowed))
            msg = f"architecture.output_stride is {self.output_stride}; allowed: {listed} for {self.decoder}."
            raise InputError(msg)

    @property
    def reading(self) -> Reading:
        """How rasters become the 8-bit RGB that the network is trained on."""
        return Reading(self.bands, self.value_range, self.nodata)

    def at_stride(self, output_stride: OutputStride) -> SegmenterArchitecture:
        """The same weights at another output stride: the rates grow as the stride falls, so ASPP sees equally far."""
        if self.decoder != "deeplabv3plus":
            msg = f"a network with decoder {self.decoder} has the one output stride {self.output_stride}. Leave it out."
            raise InputError(msg)
        check_choice("output stride", str(output_stride), map(str, RATES))
        first, second, third = (max(1, rate * self.output_stride // output_stride) for rate in self.atrous_rates)
        return dataclasses.replace(self, output_stride=output_stride, atrous_rates=(first, second, third))


class SegmenterOverrides(Overrides, of=SegmenterArchitecture):
    """Values in place of the member's own; None leaves it."""

    output_stride: OutputStride | None


def strides(decoder: str) -> tuple[int, ...]:
    """The output strides that a decoder allows, its default first."""
    return _STRIDES.get(decoder, (32,))


def _backbone(member: str) -> str:
    return f"tf_efficientnet{member}" if member.startswith("v2") else f"tf_efficientnet_{member}"


FAMILY: dict[str, SegmenterArchitecture] = {
    name: SegmenterArchitecture(name, _backbone(name))
    for name in (*(f"b{phi}" for phi in range(8)), *(f"lite{phi}" for phi in range(5)), "v2_s", "v2_m", "v2_l")
}


def architecture(member: str, **overrides: object) -> SegmenterArchitecture:
    """The network of a member, with some values replaced.

    Output stride and rates depend on the decoder if they are not given.

    Raises:
        InputError: unknown member, field or choice, or a value that does not fit the decoder.
    """
    check_choice("member", member, FAMILY)
    given = {key: value for key, value in overrides.items() if value is not None}
    for key in given:
        check_choice("field of the architecture", key, SegmenterOverrides.names())
    decoder = str(given.get("decoder", FAMILY[member].decoder))
    stride = given.get("output_stride", strides(decoder)[0])
    rates = RATES.get(stride, RATES[16]) if isinstance(stride, int) else RATES[16]
    usual = FAMILY[member].to_dict() | {"output_stride": stride, "atrous_rates": rates}
    config = SegmenterArchitecture.from_dict(usual | given)
    # A checkpoint holds all fields, also those that mean nothing to its decoder.
    misplaced = [key for key in _DEEPLAB_FIELDS if getattr(config, key) != tuples(usual[key])]
    if decoder != "deeplabv3plus" and misplaced:
        msg = f"architecture.{misplaced[0]} is DeepLabv3+'s, but the decoder is {decoder}. Leave it out."
        raise InputError(msg)
    return config
