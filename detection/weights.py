"""Published EfficientDet weights in effdet's layout: read, written, and folded into this network.

Layout and file names: rwightman/efficientdet-pytorch (effdet 0.4.1), whose checkpoints are conversions of
google/automl's. The published networks have a bias in front of many batch norms, where it can change nothing;
this network has none, so reading subtracts the bias from the running mean, which is exact.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from backbones.weights import read_state_dict
from detection.classes import ClassList
from detection.family import HALF, Architecture, architecture
from engine.download import check_hash, fetch
from engine.errors import InputError, check_choice

if TYPE_CHECKING:
    from detection.model import EfficientDet

BASE_URL = "https://github.com/rwightman/efficientdet-pytorch/releases/download/v0.1"
LICENCE = "Apache-2.0, by Google (google/automl) and Ross Wightman (effdet); trained on ImageNet and COCO 2017"


@dataclass(frozen=True)
class Published:
    """One published checkpoint.

    Attributes:
        file: name with the first digits of its SHA-256.
        member: which of the family it is.
        overrides: where it departs from that member.
        redundant_bias: whether it has biases in front of batch norms.
    """

    file: str
    member: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    redundant_bias: bool = True


_ADVPROP = {"mean": HALF, "std": HALF}  # Det-AdvProp.md: inputs scaled to -1..1


def _own(member: str, backbone: str, drop_path: float, file: str) -> Published:
    overrides = {"backbone": backbone, "padding": "symmetric", "drop_path": drop_path}
    return Published(file, member, overrides, redundant_bias=False)


PUBLISHED: dict[str, Published] = {
    "tf_efficientdet_d0": Published("tf_efficientdet_d0_34-f153e0cf.pth", "d0"),
    "tf_efficientdet_d1": Published("tf_efficientdet_d1_40-a30f94af.pth", "d1"),
    "tf_efficientdet_d2": Published("tf_efficientdet_d2_43-8107aa99.pth", "d2"),
    "tf_efficientdet_d3": Published("tf_efficientdet_d3_47-0b525f35.pth", "d3"),
    "tf_efficientdet_d4": Published("tf_efficientdet_d4_49-f56376d9.pth", "d4"),
    "tf_efficientdet_d5": Published("tf_efficientdet_d5_51-c79f9be6.pth", "d5"),
    "tf_efficientdet_d6": Published("tf_efficientdet_d6_52-4eda3773.pth", "d6"),
    "tf_efficientdet_d7": Published("tf_efficientdet_d7_53-6d1d7a95.pth", "d7"),
    "tf_efficientdet_d7x": Published("tf_efficientdet_d7x-f390b87c.pth", "d7x"),
    "tf_efficientdet_d0_ap": Published("tf_efficientdet_d0_ap-d0cdbd0a.pth", "d0", _ADVPROP),
    "tf_efficientdet_d1_ap": Published("tf_efficientdet_d1_ap-7721d075.pth", "d1", _ADVPROP),
    "tf_efficientdet_d2_ap": Published("tf_efficientdet_d2_ap-a2995c19.pth", "d2", _ADVPROP),
    "tf_efficientdet_d3_ap": Published("tf_efficientdet_d3_ap-e4a2feab.pth", "d3", _ADVPROP),
    "tf_efficientdet_d4_ap": Published("tf_efficientdet_d4_ap-f601a5fc.pth", "d4", _ADVPROP),
    "tf_efficientdet_d5_ap": Published("tf_efficientdet_d5_ap-3673ae5d.pth", "d5", _ADVPROP),
    "tf_efficientdet_lite0": Published("tf_efficientdet_lite0-dfacfc78.pth", "lite0"),
    "tf_efficientdet_lite1": Published("tf_efficientdet_lite1-6dc7ab30.pth", "lite1"),
    "tf_efficientdet_lite2": Published("tf_efficientdet_lite2-86c5d55b.pth", "lite2"),
    "tf_efficientdet_lite3": Published("tf_efficientdet_lite3-506852cb.pth", "lite3"),
    "tf_efficientdet_lite3x": Published("tf_efficientdet_lite3x-8404c57b.pth", "lite3x"),
    "tf_efficientdet_lite4": Published("tf_efficientdet_lite4-391ddabc.pth", "lite4"),
    "efficientdet_d0": _own("d0", "efficientnet_b0", 0.1, "efficientdet_d0-f3276ba8.pth"),
    "efficientdet_d1": _own("d1", "efficientnet_b1", 0.2, "efficientdet_d1-bb7e98fe.pth"),
}


def load_pretrained(
    source: str | Path, *, layout_of: str | None = None, freezing: Mapping[str, Any] | None = None, **overrides: Any
) -> EfficientDet:
    """A network with published weights.

    Args:
        source: a name of `PUBLISHED`, or the path of a file in effdet's layout.
        layout_of: for a file whose name does not tell, the published name whose network it holds.
        freezing: the constructor's `frozen_stages`, `freeze_norm` and `grad_checkpointing`.
        overrides: fields of `Architecture` that hold no weights.

    Raises:
        InputError: unknown name, failed download, wrong hash, or a file that does not fit the network.
    """
    path = Path(source)
    local = path.suffix in (".pth", ".pt", ".safetensors", ".ckpt") or path.is_file()
    name = (layout_of or _name_of_file(path)) if local else str(source)
    check_choice("pretrained detector", name, PUBLISHED)
    # Before the download: a wrong override should not cost one.
    config = architecture(PUBLISHED[name].member, **{**PUBLISHED[name].overrides, **overrides})
    if not local:
        path = fetch(BASE_URL, PUBLISHED[name].file)
        check_hash(path)
        print(f"{name}: {LICENCE}")  # noqa: T201 - whoever uses the weights should see their licence
    return _build(config, strip_wrappers(read_state_dict(path)), path, freezing or {})


def _name_of_file(path: Path) -> str:
    stems = {entry.file.rsplit("-", 1)[0]: name for name, entry in PUBLISHED.items()}
    stem = re.sub(r"-[0-9a-f]{8,64}$", "", path.stem)
    if stem in stems:
        return stems[stem]
    if stem in PUBLISHED:
        return stem
    msg = (
        f"the name of '{path}' does not tell which network it holds. Call it as it was published, such as "
        "tf_efficientdet_d0.pth; in Python, layout_of='tf_efficientdet_d0' does as well."
    )
    raise InputError(msg)


def _build(config: Architecture, state: dict[str, Tensor], path: Path, freezing: Mapping[str, Any]) -> EfficientDet:
    from detection.model import EfficientDet

    bias = state.get("class_net.predict.conv_pw.bias")
    if bias is None:
        msg = f"'{path}' is not in effdet's layout: 'class_net.predict.conv_pw.bias' is missing. Check the file."
        raise InputError(msg)
    classes = ClassList.numbered(len(bias) // config.anchors_per_cell)
    model = EfficientDet(config, classes=classes, **freezing)
    load_effdet(model, state, str(path))
    return model.eval()


def strip_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys without `module.` and `model.` in front, and without the anchors that effdet's benches store."""
    plain = {re.sub(r"^(?:module\.|model\.)+", "", key): value for key, value in state.items()}
    return {key: value for key, value in plain.items() if not key.startswith("anchors.")}


def load_effdet(model: EfficientDet, state: Mapping[str, Tensor], origin: str) -> None:
    """Load a state dict in effdet's layout, folding redundant biases into running means.

    Raises:
        InputError: keys are missing or left over, shapes differ, or a value is not finite; nothing is loaded then.
    """
    own = model.state_dict()
    keys = {key: effdet_key(key, len(model.config.levels)) for key in own}
    biases = dict(_redundant_biases(own, len(model.config.levels)))
    optional = {theirs for ours, theirs in keys.items() if ours.endswith("num_batches_tracked")}
    missing = sorted(set(keys.values()) - set(state) - optional)
    unexpected = sorted(set(state) - set(keys.values()) - set(biases))
    if missing or unexpected:
        msg = (
            f"'{origin}' does not fit {model.config.name}: {len(missing)} keys are missing ({_few(missing)}), "
            f"{len(unexpected)} have no place ({_few(unexpected)}). Check the member and the file."
        )
        raise InputError(msg)
    loaded = {ours: state[theirs].clone() if theirs in state else own[ours] for ours, theirs in keys.items()}
    given = {theirs: (loaded[ours].shape, own[ours].shape) for ours, theirs in keys.items()}
    given |= {bias: (state[bias].shape, own[means[0]].shape) for bias, means in biases.items() if bias in state}
    wrong = [f"{key} {tuple(has)} for {tuple(needs)}" for key, (has, needs) in given.items() if has != needs]
    if wrong:
        msg = f"'{origin}' does not fit {model.config.name}: {len(wrong)} shapes differ ({_few(wrong)})."
        raise InputError(msg)
    for bias, means in biases.items():
        for mean in means if bias in state else ():
            loaded[mean] = loaded[mean] - state[bias]
    broken = [keys[key] for key, value in loaded.items() if not value.isfinite().all()]
    if broken:
        msg = f"'{origin}' holds values that are not finite ({_few(broken)}). Take an earlier checkpoint."
        raise InputError(msg)
    model.load_state_dict(loaded)


def export_effdet(model: EfficientDet, *, redundant_bias: bool) -> dict[str, Tensor]:
    """The network's state in effdet's layout; redundant biases, if that member has them, are zero."""
    own = model.state_dict()
    levels = len(model.config.levels)
    state = {effdet_key(key, levels): value.clone() for key, value in own.items()}
    if redundant_bias:
        state |= {bias: torch.zeros_like(own[means[0]]) for bias, means in _redundant_biases(own, levels)}
    return state


def effdet_key(key: str, levels: int) -> str:
    """Name in effdet of one of our tensors.

    Its pyramid nodes are numbered in the order of computing: top-down from the second coarsest level, then
    bottom-up from the second finest; a lateral lies in the node that reads through it.
    """
    last = levels - 1
    if key.startswith("backbone."):
        return key
    key = key.replace("depthwise", "conv_dw").replace("pointwise", "conv_pw")
    if match := re.match(r"fpn\.coarser\.(conv|norm)\.(.+)", key):
        return f"fpn.resample.3.conv.{_bn(match[1])}.{match[2]}"
    if match := re.match(r"fpn\.cells\.(\d+)\.laterals_(down|up)\.(\d+)\.(conv|norm)\.(.+)", key):
        cell, way, index, part, rest = match.groups()
        level = int(index) if way == "down" else int(index) + 1
        node = last - 1 - level if way == "down" else last + level - 1
        return f"fpn.cell.{cell}.fnode.{node}.combine.resample.{level}.conv.{_bn(part)}.{rest}"
    if match := re.match(r"fpn\.cells\.(\d+)\.(top_down|bottom_up)\.(\d+)\.(.+)", key):
        cell, way, index, rest = match.groups()
        node = last - 1 - int(index) if way == "top_down" else last + int(index)
        rest = rest.replace("edge_weights", "combine.edge_weights")
        rest = re.sub(r"^conv\.", "after_combine.conv.", rest)
        rest = re.sub(r"^norm\.", "after_combine.conv.bn.", rest)
        return f"fpn.cell.{cell}.fnode.{node}.{rest}"
    key = key.replace("class_head.", "class_net.").replace("box_head.", "box_net.")
    key = re.sub(r"\.norms\.(\d+)\.(\d+)\.", r".bn_rep.\2.\1.bn.", key)
    return key.replace(".convs.", ".conv_rep.")


def _bn(part: str) -> str:
    return "bn" if part == "norm" else part


def _redundant_biases(own: Mapping[str, Tensor], levels: int) -> Iterator[tuple[str, list[str]]]:
    """Bias keys of effdet in front of batch norms, each with our running means that take it up."""
    for key in own:
        if match := re.match(r"(fpn\..+)\.conv(?:\.pointwise)?\.weight$", key):
            yield effdet_key(key, levels).replace(".weight", ".bias"), [f"{match[1]}.norm.running_mean"]
        elif match := re.match(r"(class_head|box_head)\.convs\.(\d+)\.pointwise\.weight$", key):
            means = [f"{match[1]}.norms.{level}.{match[2]}.running_mean" for level in range(levels)]
            yield effdet_key(key, levels).replace(".weight", ".bias"), means


def _few(names: list[str]) -> str:
    return ", ".join(names[:2]) + (", ..." if len(names) > 2 else "") if names else "none"
