"""effdet's layout of a detector's weights (rwightman/efficientdet-pytorch, effdet 0.4.1): keys, reading, writing.

Many published networks have a bias in front of batch norms, where it can change nothing; this network has none, so
reading subtracts the bias from the running mean, which is exact, and writing gives biases of zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from detection.network.model import EfficientDet
from detection.weights.check import check_finite, check_keys, check_shapes


def has_level_first(state: Mapping[str, Tensor]) -> bool:
    """Whether the batch norms of the heads are numbered by level, then repeat; effdet also has the other order."""
    return "class_net.bn_rep.0.0.weight" in state


def load_effdet(model: EfficientDet, state: Mapping[str, Tensor], origin: str) -> None:
    """Load a state dict in effdet's layout, folding redundant biases into running means.

    Args:
        model: the network.
        state: its weights, by effdet's keys.
        origin: what a message calls them.

    Raises:
        InputError: keys are missing or unknown, shapes differ, or a value is not finite; nothing is loaded then.
    """
    name, own = model.config.name, model.state_dict()
    keys = {key: _key(model, key, level_first=has_level_first(state)) for key in own}
    biases = dict(redundant_biases(model))
    optional = {theirs for ours, theirs in keys.items() if ours.endswith("num_batches_tracked")}
    check_keys(state, set(keys.values()), optional | set(biases), origin, name)
    needed = {theirs: own[ours] for ours, theirs in keys.items()}
    needed |= {bias: own[means[0]] for bias, means in biases.items()}
    check_shapes(state, needed, origin, name)
    check_finite(state, origin)
    loaded = {ours: state[theirs].clone() if theirs in state else own[ours] for ours, theirs in keys.items()}
    for bias, means in biases.items():
        for mean in means if bias in state else ():
            loaded[mean] = loaded[mean] - state[bias]
    model.load_state_dict(loaded)


def export_effdet(model: EfficientDet, *, redundant_bias: bool, level_first: bool = False) -> dict[str, Tensor]:
    """The network's state in effdet's layout.

    Args:
        model: the network.
        redundant_bias: whether effdet's network has biases in front of batch norms; they are zero.
        level_first: its configuration's `head_bn_level_first`.
    """
    own = model.state_dict()
    state = {_key(model, key, level_first=level_first): value.clone() for key, value in own.items()}
    if redundant_bias:
        state |= {bias: torch.zeros_like(own[means[0]]) for bias, means in redundant_biases(model)}
    return state


def redundant_biases(model: EfficientDet) -> Iterator[tuple[str, list[str]]]:
    """Bias keys of effdet in front of batch norms, each with our running means that absorb it."""
    for key in model.state_dict():
        if match := re.match(r"(fpn\..+)\.conv(?:\.pointwise)?\.weight$", key):
            yield _key(model, key).replace(".weight", ".bias"), [f"{match[1]}.norm.running_mean"]
        elif match := re.match(r"(class_head|box_head)\.convs\.(\d+)\.pointwise\.weight$", key):
            levels = range(len(model.config.levels))
            means = [f"{match[1]}.norms.{level}.{match[2]}.running_mean" for level in levels]
            yield _key(model, key).replace(".weight", ".bias"), means


def _key(model: EfficientDet, key: str, *, level_first: bool = False) -> str:
    return effdet_key(key, len(model.config.levels), level_first=level_first)


def effdet_key(key: str, levels: int, *, level_first: bool = False) -> str:
    """Name in effdet of one of our tensors.

    Args:
        key: our name.
        levels: pyramid levels, L.
        level_first: the configuration's `head_bn_level_first`.
    """
    if key.startswith("backbone."):
        return key
    key = key.replace("depthwise", "conv_dw").replace("pointwise", "conv_pw")
    if match := re.match(r"fpn\.coarser\.(conv|norm)\.(.+)", key):
        return f"fpn.resample.3.conv.{_bn(match[1])}.{match[2]}"
    if match := re.match(r"fpn\.cells\.(\d+)\.(.+\.)?laterals_(down|up)\.(\d+)\.(conv|norm)\.(.+)", key):
        cell, half, way, index, part, rest = match.groups()
        # Only this half leaves out the finest level, which its upward path does not read.
        level = int(index) + (way == "up" and half != "up_down.")
        node = _reader(half or "", way, level, levels)
        return f"fpn.cell.{cell}.fnode.{node}.combine.resample.{level}.conv.{_bn(part)}.{rest}"
    if match := re.match(r"fpn\.cells\.(\d+)\.(.+\.)?(top_down|bottom_up|joins)\.(\d+)\.(.+)", key):
        cell, half, path, index, rest = match.groups()
        rest = rest.replace("edge_weights", "combine.edge_weights")
        rest = re.sub(r"^conv\.", "after_combine.conv.", rest)
        rest = re.sub(r"^norm\.", "after_combine.conv.bn.", rest)
        return f"fpn.cell.{cell}.fnode.{_node(half or '', path, int(index), levels)}.{rest}"
    key = key.replace("class_head.", "class_net.").replace("box_head.", "box_net.")
    norm = r".bn_rep.\1.\2." if level_first else r".bn_rep.\2.\1.bn."
    return re.sub(r"\.norms\.(\d+)\.(\d+)\.", norm, key).replace(".convs.", ".conv_rep.")


def _node(half: str, path: str, index: int, levels: int) -> int:
    """The number that effdet gives a node: they are counted in the order of computing.

    Each of the two or four paths has L - 1 nodes; downwards they start with the second coarsest level, upwards with
    the second finest. The quad cell's joins follow, finest first.
    """
    steps = levels - 1
    if path == "joins":
        return 4 * steps + index
    downwards = path == "top_down"
    earlier = (0 if downwards else 1) if half != "up_down." else (3 if downwards else 2)
    return earlier * steps + (steps - 1 - index if downwards else index)


def _reader(half: str, way: str, level: int, levels: int) -> int:
    """The number that effdet gives the node that reads a backbone level through a lateral: there it keeps the lateral.

    A path's node at a level reads that level. The finest has no upward node, so the one above reads it.
    """
    path, index = ("top_down", level) if way == "down" else ("bottom_up", max(level - 1, 0))
    return _node(half, path, index, levels)


def _bn(part: str) -> str:
    return "bn" if part == "norm" else part
