"""The layout of Keras applications: `block{stage}{letter}_expand_conv/kernel`, with TensorFlow's order of axes.

Source: Keras 3.15 `applications/efficientnet.py` and `efficientnet_v2.py`: both pad as TensorFlow does, with Keras'
epsilon 1e-3. The names of layers are the same in Keras 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from backbones.layouts.layout import Kind, Layout, Training

LAYER_NAME = r"(?:stem|top|block\d+\w)_\w+|predictions"

_NORM_LEAVES = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_CONV_LEAVES = {"weight": "kernel"}


class _Keras(Layout):
    def leaf(self, module: str, leaf: str) -> str:
        return (_NORM_LEAVES if module.endswith("bn") else _CONV_LEAVES).get(leaf, leaf)

    def tensor(self, key: str, tensor: Tensor) -> Tensor:
        if tensor.ndim == 2:
            return tensor.t()
        if tensor.ndim == 4:  # depthwise H W C 1, else H W I O
            return tensor.permute((2, 3, 0, 1) if "conv_dw" in key else (3, 2, 0, 1))
        return tensor


def _modules(depthwise: str) -> dict[Kind, Mapping[str, str]]:
    gate = {"se.conv_reduce": "se_reduce", "se.conv_expand": "se_expand"}
    return {
        "separable": gate | {"conv_dw": depthwise, "bn1": "bn", "conv_pw": "project_conv", "bn2": "project_bn"},
        "inverted": gate | {
            "conv_pw": "expand_conv", "bn1": "expand_bn", "conv_dw": depthwise, "bn2": "bn",
            "conv_pwl": "project_conv", "bn3": "project_bn",
        },
        "fused": {"conv_exp": "expand_conv", "bn1": "expand_bn", "conv_pwl": "project_conv", "bn2": "project_bn"},
        "plain": {"conv": "project_conv", "bn1": "project_bn"},
    }  # fmt: skip


# `default_size` of the builders, where the member of timm has another size.
_SIZES = {"v2_b0": 224, "v2_b1": 240, "v2_b2": 260, "v2_b3": 300, "v2_s": 384, "v2_m": 480, "v2_l": 480}

KERAS = _Keras(
    "Keras",
    stem="stem_conv/kernel",
    outer={
        "conv_stem": "stem_conv", "bn1": "stem_bn", "conv_head": "top_conv", "bn2": "top_bn",
        "classifier": "predictions",
    },
    block="block{stage}{letter}_",
    modules=_modules("dwconv"),
    separator="/",
    padding="same",
    sign="_dwconv/",
    licence="Apache-2.0, by Google and the Keras contributors",
)  # fmt: skip

KERAS_V2 = replace(
    KERAS,
    modules=_modules("dwconv2"),
    sign="_dwconv2/",
    training={short: Training(input_size=size) for short, size in _SIZES.items()},
)
