"""EfficientNets by name: timm's own, and those at any φ, built from timm's blocks.

The blocks of B0 (paper, table 1) are written in timm's notation as in its `_gen_efficientnet`; everything else of a
scaled network, from the squeeze-and-excitation to the initialisation, is timm's own class.
"""

from __future__ import annotations

import functools
from typing import Any

import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models._efficientnet_builder import BN_EPS_TF_DEFAULT, decode_arch_def
from timm.models.efficientnet import EfficientNet, EfficientNetFeatures
from torch import nn

from backbones.scaling import BASE_CHANNELS, BASE_HEAD, BASE_STEM, Padding, Point, read_scaled_name, round_channels

# By stage: the kind of block, then kernel, stride and expansion (paper, table 1).
_STAGES = (
    ("ds", "k3_s1_e1"),
    ("ir", "k3_s2_e6"),
    ("ir", "k5_s2_e6"),
    ("ir", "k3_s2_e6"),
    ("ir", "k5_s1_e6"),
    ("ir", "k5_s2_e6"),
    ("ir", "k3_s1_e6"),
)


def create_features(
    name: str,
    *,
    out_indices: tuple[int, ...] = (0, 1, 2, 3, 4),
    output_stride: int = 32,
    in_chans: int = 3,
    drop_path_rate: float = 0.0,
) -> nn.Module:
    """The feature network of that name, of timm's class, with random weights.

    Args:
        name: a timm name, or that of a scaled network (`backbones.scaling.ScaledNetwork`).
        out_indices: pyramid levels less one.
        output_stride: the coarsest stride.
        in_chans: image channels.
        drop_path_rate: stochastic depth of the last block.

    Raises:
        InputError: there is no scaled network of that name.
    """
    options: dict[str, Any] = {
        "out_indices": out_indices,
        "output_stride": output_stride,
        "in_chans": in_chans,
        "drop_path_rate": drop_path_rate,
    }
    scaled = read_scaled_name(name)
    if scaled is None:
        network: nn.Module = timm.create_model(name, features_only=True, **options)
        return network
    return _built(EfficientNetFeatures, scaled.point, scaled.padding, **options)


def create_classifier(network: str | Point, padding: Padding = "same") -> nn.Module:
    """The whole ImageNet classifier of 1000 classes, with random weights.

    Args:
        network: a timm name, that of a scaled network, or the network's multiples of B0.
        padding: of a `Point`; a name says its own.

    Raises:
        InputError: there is no scaled network of that name.
    """
    if isinstance(network, Point):
        return _built(EfficientNet, network, padding, num_features=round_channels(BASE_HEAD, network.width))
    scaled = read_scaled_name(network)
    if scaled is not None:
        return create_classifier(scaled.point, scaled.padding)
    classifier: nn.Module = timm.create_model(network)
    return classifier


def _built(kind: type[nn.Module], point: Point, padding: Padding, **options: Any) -> nn.Module:
    """A network of timm's class, with the entries of timm's configuration that its users read."""
    stages = zip(_STAGES, point.repeats, BASE_CHANNELS, strict=True)
    # The repeats are scaled already; the channels are scaled by the builder, with the function given below.
    blocks = [[f"{block}_r{count}_{shape}_c{width}_se0.25"] for (block, shape), count, width in stages]
    same = padding == "same"
    network = kind(
        block_args=decode_arch_def(blocks),
        stem_size=BASE_STEM,
        round_chs_fn=functools.partial(round_channels, width=point.width),
        pad_type="same" if same else "",
        act_layer=nn.SiLU,
        # timm's `tf_` members have TensorFlow's epsilon, the others torch's.
        norm_layer=functools.partial(nn.BatchNorm2d, eps=BN_EPS_TF_DEFAULT) if same else nn.BatchNorm2d,
        **options,
    )
    network.pretrained_cfg = {  # type: ignore[assignment]
        "input_size": (3, point.resolution, point.resolution),
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
    }
    return network
