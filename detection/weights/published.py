"""The published EfficientDet checkpoints: file names, settings that no tensor shows, and networks that cannot be read.

Source: the configurations of effdet 0.4.1 (rwightman/efficientdet-pytorch, `effdet/config/model_config.py`), whose
`tf_` checkpoints are conversions of google/automl's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detection.network.family import HALF, DetectorArchitecture, architecture
from engine.errors import InputError, check_choice

BASE_URL = "https://github.com/rwightman/efficientdet-pytorch/releases/download/v0.1"
LICENCE = "Apache-2.0, by Google (google/automl) and Ross Wightman (effdet); trained on ImageNet and COCO 2017"


@dataclass(frozen=True)
class Published:
    """One published checkpoint.

    Attributes:
        file: name with the first digits of its SHA-256.
        member: the family member that it is, or is based on.
        overrides: values in which it differs from that member.
        redundant_bias: whether it has biases in front of batch norms.
        level_first: whether the batch norms of its heads are numbered by level, then repeat, or the other way.
    """

    file: str
    member: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    redundant_bias: bool = True
    level_first: bool = False

    def architecture(self, **overrides: Any) -> DetectorArchitecture:
        """The network it belongs to, with some values replaced."""
        return architecture(self.member, **{**self.overrides, **overrides})


_Entry = tuple[str, Published]


def _tf(name: str, digits: str, score: str = "", **overrides: Any) -> _Entry:
    """A conversion of one of Google's checkpoints; the file's name has its COCO score too."""
    file = f"tf_efficientdet_{name}{score}-{digits}.pth"
    return f"tf_efficientdet_{name}", Published(file, name.removesuffix("_ap"), overrides)


def _own(name: str, file: str, member: str, backbone: str, *, level_first: bool = True, **overrides: Any) -> _Entry:
    """A checkpoint that effdet's author trained on another backbone."""
    values = {"backbone": backbone, "padding": "symmetric", "drop_path": 0.2, **overrides}
    return name, Published(f"{file}.pth", member, values, redundant_bias=False, level_first=level_first)


# Det-AdvProp.md: inputs scaled to -1..1; effdet `config/model_config.py`: fill_color 0.
_ADVPROP: dict[str, Any] = {"mean": HALF, "std": HALF, "fill": "black"}
# Ratios of width to height 1, 2 and 1/2 at equal area; Google's members round them to 1.4 and 0.7.
_ROOT_RATIOS = tuple((math.sqrt(ratio), 1 / math.sqrt(ratio)) for ratio in (1.0, 2.0, 0.5))
_V2: dict[str, Any] = {"anchor_ratios": _ROOT_RATIOS, "resampling": "bilinear"}

PUBLISHED: dict[str, Published] = dict([
    _tf("d0", "f153e0cf", "_34"),
    _tf("d1", "a30f94af", "_40"),
    _tf("d2", "8107aa99", "_43"),
    _tf("d3", "0b525f35", "_47"),
    _tf("d4", "f56376d9", "_49"),
    _tf("d5", "c79f9be6", "_51"),
    _tf("d6", "4eda3773", "_52"),
    _tf("d7", "6d1d7a95", "_53"),
    _tf("d7x", "f390b87c"),
    _tf("d0_ap", "d0cdbd0a", **_ADVPROP),
    _tf("d1_ap", "7721d075", **_ADVPROP),
    _tf("d2_ap", "a2995c19", **_ADVPROP),
    _tf("d3_ap", "e4a2feab", **_ADVPROP),
    _tf("d4_ap", "f601a5fc", **_ADVPROP),
    _tf("d5_ap", "3673ae5d", **_ADVPROP),
    _tf("lite0", "dfacfc78"),
    _tf("lite1", "6dc7ab30"),
    _tf("lite2", "86c5d55b"),
    _tf("lite3", "506852cb"),
    _tf("lite3x", "8404c57b"),
    _tf("lite4", "391ddabc"),
    _own("efficientdet_d0", "efficientdet_d0-f3276ba8", "d0", "efficientnet_b0", level_first=False, drop_path=0.1),
    _own("efficientdet_d1", "efficientdet_d1-bb7e98fe", "d1", "efficientnet_b1", level_first=False),
    _own("efficientdet_q0", "efficientdet_q0-bdf1bdb5", "d0", "efficientnet_b0", pyramid="quad", drop_path=0.1),
    _own("efficientdet_q1", "efficientdet_q1b-d0612140", "d1", "efficientnet_b1", pyramid="quad", fpn_cells=3,
         resampling="bilinear"),
    _own("efficientdet_q2", "efficientdet_q2-0f7564e5", "d2", "efficientnet_b2", pyramid="quad", fpn_cells=4),
    _own("efficientdetv2_dt", "efficientdetv2_rw_dt_agc-ad8b8c96", "d2", "efficientnetv2_rw_t", fpn_channels=128,
         **_V2),
    _own("efficientdetv2_ds", "efficientnetv2_rw_ds_agc-cf589293", "d4", "efficientnetv2_rw_s", fpn_channels=256,
         **_V2),
])  # fmt: skip

# effdet's others, on backbones that this project does not have: file name without digits, backbone.
UNSUPPORTED: dict[str, tuple[str, str]] = {
    "resdet50": ("resdet50_416", "ResNet-50"),
    "cspresdet50": ("cspresdet50b", "CSPResNet-50"),
    "cspresdext50pan": ("cspresdext50pan", "CSPResNeXt-50"),
    "cspdarkdet53m": ("cspdarkdet53m", "CSPDarknet-53"),
}

# zylo117's file names (Yet-Another-EfficientDet-Pytorch, README): `d8` is D7x.
ZYLO: dict[str, str] = {f"efficientdet-d{phi}": "d7x" if phi == 8 else f"d{phi}" for phi in range(9)}


def check_published(name: str) -> None:
    """Do nothing if `name` is one of `PUBLISHED`.

    Raises:
        InputError: it is not; for effdet's other networks the message names their backbone.
    """
    if name in UNSUPPORTED:
        raise refusal(name, name)
    check_choice("pretrained detector", name, PUBLISHED)


def refusal(origin: str, name: str) -> InputError:
    """The error for one of `UNSUPPORTED`."""
    return InputError(
        f"'{origin}' is effdet's {name}, on a {UNSUPPORTED[name][1]} backbone. Only EfficientNet backbones are read."
    )


def name_of_file(path: Path) -> str | None:
    """The name in `PUBLISHED`, `UNSUPPORTED` or `ZYLO` that a file's own name contains; None if it has none of them.

    zylo117's training writes `efficientdet-d2_{epoch}_{step}.pth`.
    """
    stems = {entry.file.rsplit("-", 1)[0]: name for name, entry in PUBLISHED.items()}
    stems |= {stem: name for name, (stem, _) in UNSUPPORTED.items()}
    stem = re.sub(r"-[0-9a-f]{8,64}$", "", path.stem)
    zylo = re.sub(r"(_\d+){1,2}$", "", path.stem)
    known = {**PUBLISHED, **UNSUPPORTED}
    return stems.get(stem) or (stem if stem in known else zylo if zylo in ZYLO else None)
