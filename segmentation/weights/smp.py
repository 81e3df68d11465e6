"""DeepLabv3+ networks of segmentation-models-pytorch, read so that the logits stay equal.

Layout: segmentation-models-pytorch 0.6.0, `decoders/deeplabv3/{model,decoder}.py` and `base/hub_mixin.py`
(`config.json` beside `model.safetensors`). Such networks were trained with maps stretched corner to corner, so that
alignment is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbones.contract import Freezing
from backbones.networks import resolve_name
from backbones.weights.load import read_state_dict
from engine.errors import InputError
from engine.training.checkpoints import misfits
from segmentation.data.classes import MaskClasses
from segmentation.network.family import FAMILY, OutputStride, SegmenterArchitecture
from segmentation.network.model import Segmenter

_PARTS = (
    (r"^(?:module\.|model\.)+(?=encoder\.|decoder\.|segmentation_head\.)", ""),  # DataParallel, Lightning modules
    (r"^encoder\.model\.", "backbone."),
    (r"^decoder\.aspp\.", "head.aspp."),
    (r"^decoder\.block1\.", "head.skip."),
    (r"^decoder\.block2\.", "head.fuse."),
    (r"^segmentation_head\.0\.", "head.classifier."),
)
_CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def load_smp(
    source: str | Path,
    *,
    encoder: str | None = None,
    output_stride: OutputStride = 16,
    atrous_rates: tuple[int, int, int] = (12, 24, 36),
    classes: MaskClasses | None = None,
    freezing: Freezing | None = None,
    **overrides: Any,
) -> Segmenter:
    """A `DeepLabV3Plus("tu-…efficientnet…")` of segmentation-models-pytorch with its weights, in evaluation mode.

    Args:
        source: a folder that `save_pretrained` wrote, which states all of the following except the class names; or a
            file with a state dict.
        encoder: for a file, its `encoder_name`, such as `tu-tf_efficientnet_b0`.
        output_stride: for a file, its `encoder_output_stride`.
        atrous_rates: for a file, its `decoder_atrous_rates`; the library's default is given.
        classes: the K classes; numbered ones where none are given. A network of one
            class becomes one of two, the background first.
        freezing: the constructor's `frozen_stages`, `freeze_norm` and `grad_checkpointing`.
        overrides: fields of `SegmenterArchitecture` that hold no weights, such as `norm_momentum` or `mean`.

    Raises:
        InputError: the folder or file is missing, holds another network, or does not fit.
    """
    path = Path(source)
    if not path.exists():
        msg = f"'{path}' does not exist. Give a folder that smp's save_pretrained wrote, or a file with a state dict."
        raise InputError(msg)
    stored: dict[str, Any] = {}
    if path.is_dir():
        stored = _read_config(path)
        encoder, output_stride = stored["encoder_name"], stored["encoder_output_stride"]
        atrous_rates = tuple(stored["decoder_atrous_rates"])
        path = next((path / name for name in _WEIGHTS if (path / name).is_file()), path / _WEIGHTS[0])
    if encoder is None:
        msg = f"'{path}' does not say which encoder it has. Give its folder with {_CONFIG}, or encoder='tu-…'."
        raise InputError(msg)
    state = {_own_key(key): value for key, value in read_state_dict(path).items()}
    _add_background(state)
    config = _config(encoder, output_stride, atrous_rates, state, path, stored)
    config = SegmenterArchitecture.from_dict(config.to_dict() | {k: v for k, v in overrides.items() if v is not None})
    return _build(config, state, path, classes, freezing or {})


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / _CONFIG
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"cannot read '{file}': {error}. Give a folder that smp's save_pretrained wrote, or a state dict's file."
        raise InputError(msg) from error
    kind = stored.get("_model_class") if isinstance(stored, dict) else None
    if kind != "DeepLabV3Plus":
        msg = f"'{file}' describes a {kind}; only smp's DeepLabV3Plus can be read. Train the other decoder yourself."
        raise InputError(msg)
    if stored.get("in_channels", 3) != 3 or stored.get("upsampling", 4) != 4:
        msg = (
            f"'{file}' has in_channels {stored.get('in_channels')} and upsampling {stored.get('upsampling')}; "
            "allowed are 3 and 4."
        )
        raise InputError(msg)
    needed = ("encoder_name", "encoder_output_stride", "decoder_atrous_rates")
    if missing := [key for key in needed if key not in stored]:
        msg = f"'{file}' does not say '{missing[0]}'. Save the network again with segmentation-models-pytorch 0.6.0."
        raise InputError(msg)
    known: dict[str, Any] = stored
    return known


def _own_key(key: str) -> str:
    for theirs, ours in _PARTS:
        key = re.sub(theirs, ours, key)
    return key


def _add_background(state: dict[str, Tensor]) -> None:
    """Give a network of one class, trained with a sigmoid, a background of logit 0: softmax gives the same."""
    for key in ("head.classifier.weight", "head.classifier.bias"):
        if key in state and len(state[key]) == 1:
            state[key] = torch.cat((torch.zeros_like(state[key]), state[key]))


def _config(
    encoder: str,
    output_stride: OutputStride,
    atrous_rates: tuple[int, int, int],
    state: Mapping[str, Tensor],
    path: Path,
    stored: Mapping[str, Any],
) -> SegmenterArchitecture:
    if not encoder.startswith("tu-"):
        msg = (
            f"the encoder of '{path}' is '{encoder}'; only those named 'tu-…efficientnet…' are timm's networks. smp's "
            "own EfficientNets dilate the wrong convolutions, so their weights fit no correct network. Retrain."
        )
        raise InputError(msg)
    backbone = resolve_name(encoder.removeprefix("tu-"))
    needed = ("head.classifier.weight", "head.skip.0.weight", "head.aspp.0.project.0.weight")
    if missing := [key for key in needed if key not in state]:
        msg = f"'{path}' is not smp's DeepLabV3Plus: '{missing[0]}' (as named here) is missing. Check the file."
        raise InputError(msg)
    member = next((name for name, known in FAMILY.items() if known.backbone == backbone.split(".")[0]), "b0")
    return SegmenterArchitecture(
        name=member,
        backbone=backbone,
        output_stride=output_stride,
        atrous_rates=atrous_rates,
        decoder_channels=state["head.classifier.weight"].shape[1],
        skip_channels=state["head.skip.0.weight"].shape[0],
        separable_aspp="head.aspp.0.convs.1.0.1.weight" in state,
        dropout=float(stored.get("decoder_aspp_dropout", 0.5)),
        alignment="corners",
        drop_path=0.0,
    )


def _build(
    config: SegmenterArchitecture,
    state: dict[str, Tensor],
    path: Path,
    classes: MaskClasses | None,
    freezing: Freezing,
) -> Segmenter:
    rows = len(state["head.classifier.weight"])
    model = Segmenter(config, None if classes else rows, classes=classes, **freezing)
    # smp has no auxiliary head; one that is asked for starts from random values.
    own = {key: value for key, value in model.state_dict().items() if not key.startswith("aux_head.")}
    differ = misfits(own, state)
    if differ:
        msg = (
            f"'{path}' does not fit DeepLabv3+ on {config.backbone} with {len(model.classes)} classes: "
            f"{len(differ)} weights differ, first '{differ[0]}'. Check encoder and classes."
        )
        raise InputError(msg)
    broken = [key for key, value in state.items() if not value.isfinite().all()]
    if broken:
        msg = f"'{path}' holds values that are not finite, first in '{broken[0]}'. Take an earlier checkpoint."
        raise InputError(msg)
    model.load_state_dict(state, strict=False)  # everything that matters was compared above
    return model.eval()
