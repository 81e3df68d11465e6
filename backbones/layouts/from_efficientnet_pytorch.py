"""efficientnet_pytorch's layout (`_blocks.{number}._expand_conv.weight`) and that of zylo117, who wraps convolutions.

Source: efficientnet_pytorch 0.7.1 `model.py`; efficientnet_lite_pytorch and smp's `efficientnet-b0` ... have the same
keys. All pad as TensorFlow does, with epsilon 1e-3. Their padding is fixed for the size that a network was built for;
at other sizes it differs from TensorFlow's, while timm's padding does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from backbones.layouts.layout import Kind, Layout

EFFICIENTNET_PYTORCH = Layout(
    "efficientnet_pytorch",
    stem="_conv_stem.weight",
    outer={"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"},
    block="_blocks.{number}.",
    modules={
        "separable": {
            "conv_dw": "_depthwise_conv", "bn1": "_bn1", "se.conv_reduce": "_se_reduce",
            "se.conv_expand": "_se_expand", "conv_pw": "_project_conv", "bn2": "_bn2",
        },
        "inverted": {
            "conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
            "se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand", "conv_pwl": "_project_conv", "bn3": "_bn2",
        },
    },
    padding="same",
    licence="Apache-2.0, by Google and the efficientnet_pytorch contributors",
)  # fmt: skip


def _wrapped(names: Mapping[str, str]) -> dict[str, str]:
    return {timm: f"{theirs}.conv" if "conv" in timm else theirs for timm, theirs in names.items()}


def _wrapped_blocks(modules: Mapping[Kind, Mapping[str, str]]) -> dict[Kind, dict[str, str]]:
    return {kind: _wrapped(names) for kind, names in modules.items()}


# zylo117/Yet-Another-EfficientDet-Pytorch embeds efficientnet_pytorch with `Conv2dStaticSamePadding`, which holds the
# convolution as its member `conv`.
ZYLO = replace(
    EFFICIENTNET_PYTORCH,
    library="zylo117's Yet-Another-EfficientDet",
    stem="_conv_stem.conv.weight",
    outer=_wrapped(EFFICIENTNET_PYTORCH.outer),
    modules=_wrapped_blocks(EFFICIENTNET_PYTORCH.modules),
    licence="LGPL-3.0, by zylo117; converted from Google's",
)
