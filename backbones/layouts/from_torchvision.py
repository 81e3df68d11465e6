"""torchvision's layout: `features.{stage}.{block}.block.{step}.{convolution or norm}.weight`.

Source: torchvision 0.29 `models/efficientnet.py` (`MBConv`, `FusedMBConv`, `EfficientNet`, builders and weights): all
pad symmetrically; B0 to B4 have torch's epsilon, B5 to B7 and V2 have 1e-3. Stage 0 is the stem, the last is the head.
"""

from __future__ import annotations

from backbones.layouts.layout import Layout, Training

_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

# The crop sizes of the published weights, and the epsilon of the builders.
_TRAINING = {
    "b0": Training(224, 1e-5, **_IMAGENET),
    "b1": Training(240, 1e-5, **_IMAGENET),
    "b2": Training(288, 1e-5, **_IMAGENET),
    "b3": Training(300, 1e-5, **_IMAGENET),
    "b4": Training(380, 1e-5, **_IMAGENET),
    "b5": Training(456, 1e-3, **_IMAGENET),
    "b6": Training(528, 1e-3, **_IMAGENET),
    "b7": Training(600, 1e-3, **_IMAGENET),
    "v2_s": Training(384, 1e-3, **_IMAGENET),
    "v2_m": Training(480, 1e-3, **_IMAGENET),
    "v2_l": Training(480, 1e-3, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
}

TORCHVISION = Layout(
    "torchvision",
    stem="features.0.0.weight",
    outer={
        "conv_stem": "features.0.0", "bn1": "features.0.1", "conv_head": "features.{last}.0",
        "bn2": "features.{last}.1", "classifier": "classifier.1",
    },
    block="features.{stage}.{index}.block.",
    modules={
        "separable": {
            "conv_dw": "0.0", "bn1": "0.1", "se.conv_reduce": "1.fc1", "se.conv_expand": "1.fc2",
            "conv_pw": "2.0", "bn2": "2.1",
        },
        "inverted": {
            "conv_pw": "0.0", "bn1": "0.1", "conv_dw": "1.0", "bn2": "1.1",
            "se.conv_reduce": "2.fc1", "se.conv_expand": "2.fc2", "conv_pwl": "3.0", "bn3": "3.1",
        },
        "fused": {"conv_exp": "0.0", "bn1": "0.1", "conv_pwl": "1.0", "bn2": "1.1"},
        "plain": {"conv": "0.0", "bn1": "0.1"},
    },
    padding="symmetric",
    training=_TRAINING,
    licence="BSD-3-Clause, by the torchvision contributors",
)  # fmt: skip
