"""EfficientNets by name, in any spelling: timm's own, and those at any φ, built from timm's blocks.

The blocks of B0 (paper, table 1) are written in timm's notation as in its `_gen_efficientnet`; everything else of a
scaled network, from the squeeze-and-excitation to the initialisation, is timm's own class.

All that is used of timm is in its public modules. Two names in `timm.models.efficientnet` are not in its `__all__`,
because it imports them from private modules, and no public name can replace them: `decode_arch_def`, which reads the
notation of the blocks, and `SqueezeExcite`, the class of their gates (`timm.layers.SqueezeExcite` is another class).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NotRequired, Protocol, TypedDict, TypeVar

import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import FeatureInfo
from timm.models.efficientnet import EfficientNet, EfficientNetFeatures, SqueezeExcite, decode_arch_def
from torch import nn

from backbones.scaling import BASE_CHANNELS, BASE_HEAD, BASE_STEM, Padding, Point, read_scaled_name, round_channels
from engine.errors import InputError, did_you_mean

__all__ = [
    "BATCH_NORMS",
    "FeatureInfo",
    "FeatureNetwork",
    "ImageConfig",
    "SqueezeExcite",
    "create_classifier",
    "create_features",
    "resolve_name",
    "scaled_config",
]

# timm's norms with an activation are among their subclasses.
BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)

# TensorFlow's epsilon of batch norms, which timm's `tf_` members have (tensorflow/tpu `efficientnet_builder.py`,
# `batch_norm_epsilon`); the others have torch's.
_TF_EPSILON = 1e-3

# timm's efficientnet module also holds MNASNet, MixNet, TinyNet and others; these are the EfficientNets.
_FAMILY = ("efficientnet", "tf_efficientnet", "gc_efficientnet")

# For each stage: the kind of block, then kernel, stride and expansion (paper, table 1).
_STAGES = (
    ("ds", "k3_s1_e1"),
    ("ir", "k3_s2_e6"),
    ("ir", "k5_s2_e6"),
    ("ir", "k3_s2_e6"),
    ("ir", "k5_s1_e6"),
    ("ir", "k5_s2_e6"),
    ("ir", "k3_s1_e6"),
)


class ImageConfig(TypedDict):
    """The entries of timm's configuration of a network that are read here."""

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    license: NotRequired[str | None]


class _Configured(Protocol):
    """A network of timm."""

    pretrained_cfg: ImageConfig


class FeatureNetwork(_Configured, Protocol):
    """The attributes that are read from timm's feature network."""

    feature_info: FeatureInfo
    conv_stem: nn.Module
    bn1: nn.Module
    blocks: nn.Sequential


_Network = TypeVar("_Network", bound=_Configured)


def create_features(
    name: str,
    *,
    out_indices: tuple[int, ...] = (0, 1, 2, 3, 4),
    output_stride: int = 32,
    in_chans: int = 3,
    drop_path_rate: float = 0.0,
) -> FeatureNetwork:
    """The feature network of a name, an object of timm's class, with random weights.

    Args:
        name: a timm name, or that of a scaled network (`backbones.scaling.ScaledNetwork`).
        out_indices: the pyramid levels, each less one.
        output_stride: the coarsest stride.
        in_chans: image channels.
        drop_path_rate: stochastic-depth rate of the last block.

    Raises:
        InputError: there is no scaled network of that name.
    """
    options: dict[str, object] = {
        "out_indices": out_indices,
        "output_stride": output_stride,
        "in_chans": in_chans,
        "drop_path_rate": drop_path_rate,
    }
    scaled = read_scaled_name(name)
    if scaled is None:
        network: FeatureNetwork = timm.create_model(name, features_only=True, **options)
        return network
    built: FeatureNetwork = _built(EfficientNetFeatures, scaled.point, scaled.padding, options)
    return built


def create_classifier(network: str | Point, padding: Padding = "same") -> nn.Module:
    """The whole ImageNet classifier of 1000 classes, with random weights.

    Args:
        network: a timm name, the name of a scaled network, or the network's multiples of B0.
        padding: padding of a `Point`; a name decides its own.

    Raises:
        InputError: there is no scaled network of that name.
    """
    if isinstance(network, Point):
        head = {"num_features": round_channels(BASE_HEAD, network.width)}
        built: nn.Module = _built(EfficientNet, network, padding, head)
        return built
    scaled = read_scaled_name(network)
    if scaled is not None:
        return create_classifier(scaled.point, scaled.padding)
    classifier: nn.Module = timm.create_model(network)
    return classifier


def scaled_config(point: Point) -> ImageConfig:
    """The image configuration of a scaled network, as timm has it for its own: with the normalisation of B0."""
    size = (3, point.resolution, point.resolution)
    return {"input_size": size, "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}


def _built(kind: Callable[..., _Network], point: Point, padding: Padding, options: Mapping[str, object]) -> _Network:
    """A network of timm's class."""
    stages = zip(_STAGES, point.repeats, BASE_CHANNELS, strict=True)
    # The repeats are scaled already; the builder scales the channels with the function given below.
    blocks = [[f"{block}_r{count}_{shape}_c{width}_se0.25"] for (block, shape), count, width in stages]
    same = padding == "same"
    network = kind(
        block_args=decode_arch_def(blocks),
        stem_size=BASE_STEM,
        round_chs_fn=functools.partial(round_channels, width=point.width),
        pad_type="same" if same else "",
        act_layer=nn.SiLU,
        norm_layer=functools.partial(nn.BatchNorm2d, eps=_TF_EPSILON) if same else nn.BatchNorm2d,
        **options,
    )
    network.pretrained_cfg = scaled_config(point)
    return network


def resolve_name(name: str) -> str:
    """The current timm name of an EfficientNet in any spelling, with its tag if one was given.

    Names of scaled networks, such as `efficientnet_phi1.5`, are brought to one spelling too.

    Raises:
        InputError: timm has no such model, the model is no EfficientNet, or there is no network at that φ.
    """
    scaled = read_scaled_name(name)
    if scaled is not None:
        return scaled.name
    name = timm.models.get_deprecated_models("efficientnet").get(name) or name
    known = _efficientnet_names()
    if name in known:
        return name
    if name.split(".")[0] in timm.list_models():
        architecture = name.split(".")[0]
        tags = [other.partition(".")[2] for other in known if other.startswith(f"{architecture}.")]
        if tags:
            message = f"'{name}' has no such weight tag; {architecture} has: {', '.join(tags)}."
            raise InputError(message)
        message = f"'{name}' is no EfficientNet; allowed are timm's efficientnet and efficientnetv2 models."
        raise InputError(message)
    hint = did_you_mean(name, known) or " List them with timm.list_models('*efficientnet*')."
    message = f"timm has no EfficientNet named '{name}'.{hint}"
    raise InputError(message)


@functools.cache
def _efficientnet_names() -> tuple[str, ...]:
    plain = timm.list_models(module="efficientnet")
    tagged = timm.list_models(module="efficientnet", include_tags=True)
    return tuple(dict.fromkeys(name for name in plain + tagged if name.startswith(_FAMILY)))
