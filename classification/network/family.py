"""Which classifiers there are: one name, `b0` ... `b7`, `lite0` ... `lite4` or `v2_s` ..., sets every value.

Sources: Tan and Le, "EfficientNet" (arXiv 1905.11946): resolutions by the official `efficientnet_builder.py`
(tensorflow/tpu `models/official/efficientnet`), dropout rising from 0.2 for B0 to 0.5 for B7, stochastic depth 0.2;
its `lite/efficientnet_lite_builder.py` for Lite; Tan and Le, "EfficientNetV2" (arXiv 2104.00298) and google/automl
`efficientnetv2/effnetv2_configs.py` for V2. The share of the picture that an evaluation sees is size / (size + 32) in
the official code; crop and interpolation are those with which timm states the accuracy of the converted weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from backbones.slimming import Widths, check_widths
from classification.data.framing import CropMode, Interpolation
from engine.errors import check_choice
from engine.numbers import AboveZeroToOne, CanvasSide, OpenUnitInterval, PositiveInt, ZeroToBelowOne
from engine.reading.options import Reading
from engine.settings import NetworkSettings, Overrides

MemberName = Literal[
    "b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7",
    "lite0", "lite1", "lite2", "lite3", "lite4",
    "v2_s", "v2_m", "v2_l",
]  # fmt: skip
PerChannel = tuple[float, float, float]


@dataclass(frozen=True)
class ClassifierArchitecture(NetworkSettings):
    """Everything that decides what the network is and what its numbers mean.

    Attributes:
        name: the family member it started from.
        backbone: a timm EfficientNet.
        image_size: side of the square that the network sees, in pixels.
        crop_pct: share of the scaled picture's side that this square is.
        crop_mode: `center` scales the shorter side and cuts the middle out, `squash` scales both sides to the square,
            `border` scales the longer side and fills what is beside the picture.
        interpolation: of the scaling.
        dropout: probability of dropout before the last layer.
        drop_path: stochastic depth of the backbone.
        norm_eps: epsilon of the batch norms; None is the member's own.
        norm_momentum: weight of a new batch in the running statistics; the paper's 0.99 as TensorFlow counts it.
        mean: per channel for images in 0..1; None takes the backbone's own.
        std: likewise.
        bands: numbers, from 1, of the bands of rasters that are red, green and blue, or of one grey band; None leaves
            it to each file.
        value_range: values of rasters and 16-bit pictures that become 0 and 255; None needs 8-bit rasters.
        nodata: value of a raster's pixels without data, if files do not state it.
        widths: name, inputs and outputs of each layer that was pruned, see `backbones.slimming`; else empty.

    Raises:
        InputError: a value is out of range.
    """

    name: str = "b0"
    backbone: str = "tf_efficientnet_b0"
    image_size: CanvasSide = 224
    crop_pct: AboveZeroToOne = 0.875
    crop_mode: CropMode = "center"
    interpolation: Interpolation = "bicubic"
    dropout: ZeroToBelowOne = 0.2
    drop_path: ZeroToBelowOne = 0.2
    norm_eps: OpenUnitInterval | None = None
    norm_momentum: AboveZeroToOne = 0.01
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

    @property
    def reading(self) -> Reading:
        """How rasters become the 8-bit RGB that the network is trained on."""
        return Reading(self.bands, self.value_range, self.nodata)


class ClassifierOverrides(Overrides, of=ClassifierArchitecture):
    """Values in place of the member's own; None leaves it."""


# Side of the images, share of the scaled picture, dropout.
_MEMBERS: dict[str, tuple[int, float, float]] = {
    "b0": (224, 0.875, 0.2), "b1": (240, 0.882, 0.2), "b2": (260, 0.890, 0.3), "b3": (300, 0.904, 0.3),
    "b4": (380, 0.922, 0.4), "b5": (456, 0.934, 0.4), "b6": (528, 0.942, 0.5), "b7": (600, 0.949, 0.5),
    "lite0": (224, 0.875, 0.2), "lite1": (240, 0.882, 0.2), "lite2": (260, 0.890, 0.3), "lite3": (280, 0.897, 0.3),
    "lite4": (300, 0.904, 0.3),
    "v2_s": (384, 1.0, 0.2), "v2_m": (480, 1.0, 0.3), "v2_l": (480, 1.0, 0.4),
}  # fmt: skip
FAMILY: dict[str, ClassifierArchitecture] = {
    name: ClassifierArchitecture(
        name,
        f"tf_efficientnet{name}" if name.startswith("v2") else f"tf_efficientnet_{name}",
        image_size=side,
        crop_pct=share,
        crop_mode="squash" if name in ("v2_m", "v2_l") else "center",
        interpolation="bilinear" if name in ("lite3", "lite4") else "bicubic",
        dropout=dropout,
    )
    for name, (side, share, dropout) in _MEMBERS.items()
}


def architecture(member: str, **overrides: object) -> ClassifierArchitecture:
    """The network of a member, with some values replaced.

    Raises:
        InputError: unknown member or field, or a value out of range.
    """
    check_choice("member", member, FAMILY)
    given = {key: value for key, value in overrides.items() if value is not None}
    for key in given:
        check_choice("field of the architecture", key, ClassifierOverrides.names())
    return ClassifierArchitecture.from_dict(FAMILY[member].to_dict() | given)
