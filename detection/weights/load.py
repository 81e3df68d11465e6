"""A detector from a checkpoint, a published name or a file of any known layout, recognised by its keys.

`load_network` takes all of these; `load_pretrained` reads published weights and foreign files only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbones.contract import Freezing
from backbones.weights.load import read_state_dict
from detection.data.classes import BoxClasses
from detection.network.build import build_detector
from detection.network.detector import Detector
from detection.network.family import DetectorArchitecture, architecture, replaced
from detection.network.model import EfficientDet
from detection.weights.check import check_keys, check_shapes
from detection.weights.effdet_layout import export_effdet, load_effdet
from detection.weights.finest_level import with_finest_level
from detection.weights.own_layout import build_own, own_metadata
from detection.weights.published import (
    BASE_URL,
    LICENCE,
    PUBLISHED,
    UNSUPPORTED,
    ZYLO,
    Published,
    check_published,
    name_of_file,
    refusal,
)
from detection.weights.recognise import Layout, layout_of_keys, published_alike, published_name, zylo_name
from detection.weights.zylo_layout import effdet_keys_from_zylo
from engine.download import check_hash, fetch
from engine.errors import InputError, check_choice
from engine.training.checkpoint_files import found_source
from engine.training.checkpoints import described, is_checkpoint, read_checkpoint

__all__ = [
    "LICENCE",
    "PUBLISHED",
    "SUFFIXES",
    "Published",
    "export_effdet",
    "load_effdet",
    "load_network",
    "load_pretrained",
    "read_pretrained",
    "strip_wrappers",
]

SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt")
_ZYLO_LICENCE = "of zylo117/Yet-Another-EfficientDet-Pytorch (LGPL-3.0), or of whoever trained it"


def load_network(
    source: str | Path, *, layout_of: str | None = None, freezing: Freezing | None = None, **overrides: Any
) -> Detector:
    """The bare network, in evaluation mode on the CPU: to train it further, or as a part of another network.

    Args:
        source: a checkpoint written by `python -m detection fit`, under any name, or `best` or `last` of the latest
            run; or another source that `load_pretrained` reads: the name of a published detector such as
            `tf_efficientdet_d0`, or a weight file.
        layout_of: see `load_pretrained`; checkpoints of this project state what they hold.
        freezing: the constructor's `frozen_stages`, `freeze_norm` and `grad_checkpointing`.
        overrides: fields of `DetectorArchitecture` that hold no weights, such as `image_size`.

    Raises:
        InputError: the file is missing, damaged or of another kind, the name is unknown, or the weights do not fit
            what was asked for.
    """
    source = found_source(source, "detection")
    path = Path(source)
    name = not path.suffix and not path.exists()
    own = layout_of is None and is_checkpoint(path)
    if not own and (name or layout_of is not None or (path.suffix in SUFFIXES and path.suffix != ".ckpt")):
        pretrained = load_pretrained(source, layout_of=layout_of, freezing=freezing, **overrides)
        return pretrained.to(memory_format=torch.channels_last)
    checkpoint = read_checkpoint(path, "detection")
    state = {key.removeprefix("detector."): value for key, value in checkpoint.state_dict.items()}
    settings = checkpoint.model
    with described(source):
        config = DetectorArchitecture.from_settings(settings)
        classes = BoxClasses.from_dict(settings["classes"])
    model = build_detector(replaced(config, **overrides), classes=classes, **(freezing or {}))
    needed = model.state_dict()
    check_keys(state, set(needed), set(), str(source), "the architecture that was asked for")
    check_shapes(state, needed, str(source), "the architecture that was asked for")
    model.load_state_dict(state)
    return model.eval().to(memory_format=torch.channels_last)


def load_pretrained(
    source: str | Path, *, layout_of: str | None = None, freezing: Freezing | None = None, **overrides: Any
) -> Detector:
    """A network with the weights of a file.

    A file's layout is recognised by its keys: effdet's, zylo117's, or the project's own that
    `python -m detection convert` writes. The network that it holds is given by `layout_of`, else by the file's name if
    that is a published one, else by its keys.

    Args:
        source: a name of `PUBLISHED`, or a file's path: of weights, or of a checkpoint that `fit` wrote.
        layout_of: the name of `PUBLISHED`, or of `ZYLO` such as `efficientdet-d6`, whose network the file holds.
        freezing: the constructor's `frozen_stages`, `freeze_norm` and `grad_checkpointing`.
        overrides: fields of `DetectorArchitecture` that hold no weights; `min_level` 2 adds a level to a network of 3.

    Raises:
        InputError: unknown name, failed download, wrong hash, or a file that fits no network or several networks.
    """
    finest = overrides.pop("min_level", None)
    network = read_pretrained(source, layout_of=layout_of, freezing=freezing, **overrides)[0]
    return with_finest_level(network, finest, freezing or {}, str(source))


def read_pretrained(
    source: str | Path, *, layout_of: str | None = None, freezing: Freezing | None = None, **overrides: Any
) -> tuple[Detector, dict[str, str]]:
    """As `load_pretrained`, with what is known of the file: its name, layout, network and licence, as texts."""
    if layout_of is None and is_checkpoint(found := found_source(source, "detection")):
        return load_network(found, freezing=freezing, **overrides), {"name": str(source)}
    path, freezing = Path(source), freezing or {}
    if layout_of is not None and layout_of not in ZYLO:
        check_published(layout_of)
    if path.suffix not in SUFFIXES and not path.is_file():
        path = _fetched(str(source), overrides)
        layout_of = layout_of or str(source)
    about = own_metadata(path)
    state = strip_wrappers(read_state_dict(path))
    if about is not None:
        if layout_of is not None:
            msg = f"'{path}' states which network it holds. Leave layout_of out."
            raise InputError(msg)
        return build_own(about, state, str(path), freezing, **overrides), dict(about.get("origin", {}))

    layout = layout_of_keys(state, str(path))
    told = name_of_file(path)
    name = layout_of or told
    if layout == "zylo":
        name = layout_of or (told if told in ZYLO else zylo_name(state, str(path)))
        check_choice("zylo117's detector", name, ZYLO)
        model = _from_zylo(architecture(ZYLO[name], **overrides), state, path, freezing)
        return model, _origin(path, layout, name, _ZYLO_LICENCE)
    if layout == "own":
        msg = f"'{path}' is a bare state dict of this project, which does not say what network it belongs to."
        raise InputError(msg + " Give the .ckpt file, or a file written by `python -m detection convert`.")
    if name in UNSUPPORTED:
        raise refusal(str(path), name)
    if name in ZYLO and name == layout_of:
        msg = f"'{path}' is in effdet's layout, and layout_of is zylo117's '{name}'. Give a published name."
        raise InputError(msg)
    name = name if name in PUBLISHED else published_name(state, str(path))
    config = PUBLISHED[name].architecture(**overrides)
    try:
        model = _from_effdet(config, state, path, freezing)
    except InputError as error:
        alike = published_alike(state)
        if not alike or name in alike:
            raise
        msg = f"{error} Its keys are those of {' and '.join(alike)}."
        raise InputError(msg) from None
    return model, _origin(path, layout, name, LICENCE if _is_published(path) else "of whoever trained it")


def strip_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys without `module.` and `model.` in front, and without the anchors that effdet's benches store."""
    plain = {re.sub(r"^(?:module\.|model\.)+", "", key): value for key, value in state.items()}
    return {key: value for key, value in plain.items() if not key.startswith("anchors.")}


def _fetched(name: str, overrides: Mapping[str, Any]) -> Path:
    check_published(name)
    entry = PUBLISHED[name]
    entry.architecture(**overrides)  # before the download, so that a wrong override does not cost one
    path = fetch(BASE_URL, entry.file)
    check_hash(path)
    print(f"{name}: {LICENCE}")  # noqa: T201 - whoever uses the weights should see their licence
    return path


def _from_effdet(
    config: DetectorArchitecture, state: Mapping[str, Tensor], path: Path, freezing: Freezing
) -> EfficientDet:
    rows = state["class_net.predict.conv_pw.bias"].numel()
    model = EfficientDet(config, classes=BoxClasses.numbered(max(rows // config.anchors_per_cell, 1)), **freezing)
    load_effdet(model, state, str(path))
    return model.eval()


def _from_zylo(
    config: DetectorArchitecture, state: Mapping[str, Tensor], path: Path, freezing: Freezing
) -> EfficientDet:
    rows = state["classifier.header.pointwise_conv.conv.bias"].numel()
    model = EfficientDet(config, classes=BoxClasses.numbered(max(rows // config.anchors_per_cell, 1)), **freezing)
    weighted = config.fusion != "sum"
    renamed = effdet_keys_from_zylo(state, config.backbone, weighted=weighted, origin=str(path))
    load_effdet(model, renamed, str(path))
    return model.eval()


def _is_published(path: Path) -> bool:
    """Whether a file is a published one, unchanged, judged by its name and the hash in the name."""
    if path.name not in {entry.file for entry in PUBLISHED.values()}:
        return False
    try:
        check_hash(path)
    except InputError:
        return False
    return True


def _origin(path: Path, layout: Layout, name: str, licence: str) -> dict[str, str]:
    return {"file": path.name, "layout": layout, "network": name, "licence": licence}
