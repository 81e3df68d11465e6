"""Networks with fewer channels than their architecture says, as pruning leaves them.

Such a network is built whole, then its layers are cut to the widths that a setting holds, and then its weights are
loaded. The setting has one entry (NAME, INPUTS, OUTPUTS) for each convolution, linear layer and batch norm that was
cut; a null leaves that side as it is built, as the outputs of a last layer, whose number the class list decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from backbones.features import EfficientNetFeatures
from engine.errors import InputError
from engine.numbers import PositiveInt

Width: TypeAlias = tuple[str, PositiveInt | None, PositiveInt | None]
Widths: TypeAlias = tuple[Width, ...]

_REMEDY = "Give those that `python -m deployment prune` stored, or leave them out."


def check_widths(widths: object) -> None:
    """Do nothing if a setting is a list of widths: (name of a layer, inputs, outputs) each, every layer once.

    Raises:
        InputError: it is not.
    """
    names: set[str] = set()
    for entry in widths if isinstance(widths, list | tuple) else [widths]:
        name = _name_of(entry)
        if name is None:
            shown = repr(entry)[:60]
            msg = f"architecture.widths has {shown}; each is a layer's name, its inputs and its outputs. {_REMEDY}"
            raise InputError(msg)
        if name in names:
            msg = f"architecture.widths names the layer '{name}' twice. {_REMEDY}"
            raise InputError(msg)
        names.add(name)


def inside(widths: Widths, part: str) -> Widths:
    """The widths of one part of a network, with the names that its layers have there.

    >>> inside((("backbone.bn1", 24, 24), ("head.skip.1", 32, 32)), "backbone")
    (('bn1', 24, 24),)
    """
    before = f"{part}."
    return tuple((name.removeprefix(before), a, b) for name, a, b in widths if name.startswith(before))


def cut(network: nn.Module, widths: Widths) -> None:
    """Cut layers to the stored widths, in place: of each weight the first values stay, until others are loaded.

    Raises:
        InputError: a layer is not there, is of another kind, or is built with fewer channels.
    """
    for name, inputs, outputs in widths:
        layer = _found(network, name)
        if not isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            kind = "is no layer of this network" if layer is None else f"is a {type(layer).__name__}"
            msg = f"architecture.widths names '{name}', which {kind}. {_REMEDY}"
            raise InputError(msg)
        _cut_layer(name, layer, inputs, outputs)
    for module in network.modules():
        if isinstance(module, EfficientNetFeatures):
            module.count_channels()


def slim(network: nn.Module, widths: Widths, side: int) -> None:
    """Cut a whole network, as `cut`, and see that its layers still fit each other.

    Args:
        network: takes (B, 3, H, W) uint8 images.
        widths: may be empty, and then nothing is done.
        side: height and width of an image that it can compute, in pixels.

    Raises:
        InputError: as `cut`, or the layers do not fit each other.
    """
    if not widths:
        return
    cut(network, widths)
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            network(torch.zeros((1, 3, side, side), dtype=torch.uint8, device=next(network.parameters()).device))
    except RuntimeError as error:
        said = str(error).partition("\n")[0]
        msg = f"architecture.widths are of layers that do not fit each other: {said[:120]}. Leave them out."
        raise InputError(msg) from error
    finally:
        for module, mode in modes.items():
            module.training = mode


def widths_between(whole: nn.Module, slimmed: nn.Module) -> Widths:
    """The widths that make of one network the other.

    Args:
        whole: as it is built without widths.
        slimmed: a network with the same layers, some of them with fewer channels.
    """
    found: list[Width] = []
    others = dict(slimmed.named_modules())
    for name, layer in whole.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            (inputs, outputs), (built_inputs, built_outputs) = _sides(others[name]), _sides(layer)
            sides = inputs if inputs != built_inputs else None, outputs if outputs != built_outputs else None
            if sides != (None, None):
                found.append((name, *sides))
    return tuple(found)


def refuse_whole_weights(widths: Widths, weights: object) -> None:
    """Do nothing if a backbone that was cut is not to begin with ImageNet weights, which are of the whole one.

    Raises:
        InputError: it is.
    """
    if weights is not None and inside(widths, "backbone"):
        msg = "architecture.widths cut the backbone, which ImageNet weights do not fit. Set backbone_weights to null."
        raise InputError(msg)


def same_backbone(one: Iterable[Width], other: Iterable[Width]) -> bool:
    """Whether two lists of widths leave the same backbone."""
    return set(inside(tuple(one), "backbone")) == set(inside(tuple(other), "backbone"))


def _name_of(entry: object) -> str | None:
    """The name of the layer whose width this is; None if it is no width."""
    if not isinstance(entry, list | tuple) or len(entry) != 3 or not isinstance(entry[0], str):
        return None
    numbers = [side for side in entry[1:] if side is not None]
    right = all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in numbers)
    return entry[0] if right else None


def _found(network: nn.Module, name: str) -> nn.Module | None:
    try:
        return network.get_submodule(name)
    except AttributeError:
        return None


def _sides(layer: nn.Module) -> tuple[int, int]:
    """Input and output channels of a convolution, a linear layer or a batch norm."""
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels, layer.out_channels
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    assert isinstance(layer, nn.BatchNorm2d)
    return layer.num_features, layer.num_features


def _cut_layer(
    name: str, layer: nn.Conv2d | nn.Linear | nn.BatchNorm2d, inputs: int | None, outputs: int | None
) -> None:
    built_inputs, built_outputs = _sides(layer)
    inputs, outputs = built_inputs if inputs is None else inputs, built_outputs if outputs is None else outputs
    depthwise = isinstance(layer, nn.Conv2d) and layer.groups == built_inputs == built_outputs > 1
    one_number = depthwise or isinstance(layer, nn.BatchNorm2d)
    grouped = isinstance(layer, nn.Conv2d) and layer.groups > 1 and not depthwise
    if inputs > built_inputs or outputs > built_outputs or (one_number and inputs != outputs) or grouped:
        allowed = "equal numbers" if one_number and inputs != outputs else f"at most {built_inputs}, {built_outputs}"
        msg = f"architecture.widths has {inputs}, {outputs} for '{name}'; allowed: {allowed}. {_REMEDY}"
        raise InputError(msg)
    if isinstance(layer, nn.Conv2d | nn.Linear):
        if isinstance(layer, nn.Linear):
            layer.in_features, layer.out_features = inputs, outputs
        else:
            layer.in_channels, layer.out_channels = inputs, outputs
            layer.groups = inputs if depthwise else layer.groups
        layer.weight = _first(layer.weight, outputs, 1 if depthwise else inputs)
        if layer.bias is not None:
            layer.bias = _first(layer.bias, outputs)
        return
    layer.num_features = outputs
    layer.weight, layer.bias = _first(layer.weight, outputs), _first(layer.bias, outputs)
    for name in ("running_mean", "running_var"):
        statistic = getattr(layer, name)
        if statistic is not None:
            setattr(layer, name, statistic[:outputs].clone())


def _first(values: Tensor, *counts: int) -> nn.Parameter:
    kept = values.detach()
    for axis, count in enumerate(counts):
        kept = kept.narrow(axis, 0, count)
    return nn.Parameter(kept.clone(), requires_grad=values.requires_grad)
