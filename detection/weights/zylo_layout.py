"""zylo117's Yet-Another-EfficientDet-Pytorch: its keys renamed to effdet's. None of its code (LGPL-3.0) is used.

Settings that a file does not hold are those of that repository's published weights: 90 rows, row = category id - 1;
deltas in the order ty, tx, th, tw; ratios (1, 1), (1.4, 0.7), (0.7, 1.4) at three octaves; TensorFlow's padding;
batch-norm epsilon 1e-3; RGB with ImageNet's mean and deviation. These are the settings of the `tf_` members here.
A project file of its trainings that sets other anchors, mean or deviation leaves no trace in the weights: give them
as overrides. The renaming is tested against effdet's network, as the library itself is not available as a package.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from backbones.layouts.from_efficientnet_pytorch import ZYLO as ZYLO_BACKBONE
from backbones.layouts.members import member
from engine.errors import InputError


def effdet_keys_from_zylo(
    state: Mapping[str, Tensor], backbone: str, *, weighted: bool, origin: str
) -> dict[str, Tensor]:
    """Rename the tensors of a whole network.

    Args:
        state: keys such as `bifpn.0.conv6_up.pointwise_conv.conv.weight`.
        backbone: its name in timm; the file numbers the blocks through the whole network.
        weighted: whether the member weights its fusions; the file has weights even where they are not used.
        origin: what a message calls the file.

    Raises:
        InputError: a key is unknown, such as that of a block which the backbone does not have.
    """
    names = ZYLO_BACKBONE.keys(member(backbone)) or {}
    known = {f"backbone_net.model.{theirs}": f"backbone.{timm}" for timm, theirs in names.items()}
    coarsest = 8 if any(".conv8_down." in key for key in state) else 7
    unused = r"bifpn\.\d+\.p\d_w[12]" if not weighted else r"(?!)"
    return {
        known.get(key) or _effdet_key(key, coarsest, origin): tensor
        for key, tensor in state.items()
        if not re.fullmatch(unused, key)
    }


_HEADS = {"regressor": "box_net", "classifier": "class_net"}
_CONV_OR_NORM = {"0.conv": "conv", "1": "bn"}


def _effdet_key(key: str, coarsest: int, origin: str) -> str:
    key = key.replace("depthwise_conv.conv.", "conv_dw.").replace("pointwise_conv.conv.", "conv_pw.")
    # zylo117 calls the path from coarse to fine "up", because maps are upsampled there.
    if match := re.fullmatch(r"bifpn\.(\d+)\.conv([3-8])_(up|down)\.(.+)", key):
        cell, level, way, rest = match.groups()
        return f"fpn.cell.{cell}.fnode.{_node(int(level), way == 'up', coarsest)}.after_combine.conv.{rest}"
    if match := re.fullmatch(r"bifpn\.(\d+)\.p([3-8])_w([12])", key):
        cell, level, way = match.groups()
        return f"fpn.cell.{cell}.fnode.{_node(int(level), way == '1', coarsest)}.combine.edge_weights"
    if match := re.fullmatch(r"bifpn\.(\d+)\.p([345])_down_channel(_2)?\.(0\.conv|1)\.(\w+)", key):
        cell, level, second, part, leaf = match.groups()
        node, offset = _node(int(level), second is None, coarsest), int(level) - 3
        return f"fpn.cell.{cell}.fnode.{node}.combine.resample.{offset}.conv.{_CONV_OR_NORM[part]}.{leaf}"
    if match := re.fullmatch(r"bifpn\.0\.p5_to_p6\.(0\.conv|1)\.(\w+)", key):
        return f"fpn.resample.3.conv.{_CONV_OR_NORM[match[1]]}.{match[2]}"
    if match := re.fullmatch(r"(regressor|classifier)\.bn_list\.(\d+)\.(\d+)\.(\w+)", key):
        head, level, repeat, leaf = match.groups()
        return f"{_HEADS[head]}.bn_rep.{repeat}.{level}.bn.{leaf}"
    if match := re.fullmatch(r"(regressor|classifier)\.(?:conv_list(\.\d+)|header)\.(.+)", key):
        head, repeat, rest = match.groups()
        return f"{_HEADS[head]}.{'conv_rep' + repeat if repeat else 'predict'}.{rest}"
    msg = f"'{origin}' is in zylo117's layout, but its key '{key}' is not the network's. Check the file."
    raise InputError(msg)


def _node(level: int, top_down: bool, coarsest: int) -> int:
    """The number that effdet gives the node: down from the second coarsest level to P3, then up from P4."""
    return coarsest - 1 - level if top_down else (coarsest - 3) + (level - 4)
