"""A detector from a file of any known layout, or from a published one: recognised by its keys, loaded strictly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from backbones.weights.load import read_state_dict
from detection.data.classes import BoxClasses
from detection.network.family import DetectorArchitecture, architecture
from detection.weights.effdet_layout import export_effdet, load_effdet
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

if TYPE_CHECKING:
    from detection.network.model import EfficientDet

__all__ = [
    "LICENCE",
    "PUBLISHED",
    "SUFFIXES",
    "Published",
    "export_effdet",
    "load_effdet",
    "load_pretrained",
    "read_pretrained",
    "strip_wrappers",
]

SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt")
_ZYLO_LICENCE = "of zylo117/Yet-Another-EfficientDet-Pytorch (LGPL-3.0), or of whoever trained it"


def load_pretrained(
    source: str | Path, *, layout_of: str | None = None, freezing: Mapping[str, Any] | None = None, **overrides: Any
) -> EfficientDet:
    """A network with the weights of a file.

    A file's layout is told by its keys: effdet's, zylo117's, or the project's own that `python -m detection convert`
    writes. Which network it holds is told by `layout_of`, else by its name where that is a published one, else by
    its keys.

    Args:
        source: a name of `PUBLISHED`, or a file's path.
        layout_of: the name of `PUBLISHED`, or of `ZYLO` such as `efficientdet-d6`, whose network the file holds.
        freezing: the constructor's `frozen_stages`, `freeze_norm` and `grad_checkpointing`.
        overrides: fields of `DetectorArchitecture` that hold no weights.

    Raises:
        InputError: unknown name, failed download, wrong hash, or a file that fits no network or several.
    """
    return read_pretrained(source, layout_of=layout_of, freezing=freezing, **overrides)[0]


def read_pretrained(
    source: str | Path, *, layout_of: str | None = None, freezing: Mapping[str, Any] | None = None, **overrides: Any
) -> tuple[EfficientDet, dict[str, str]]:
    """As `load_pretrained`, with what is known of the file: its name, layout, network and licence, as texts."""
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
            msg = f"'{path}' says itself what network it holds. Leave layout_of out."
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
    entry.architecture(**overrides)  # before the download: a wrong override should not cost one
    path = fetch(BASE_URL, entry.file)
    check_hash(path)
    print(f"{name}: {LICENCE}")  # noqa: T201 - whoever uses the weights should see their licence
    return path


def _from_effdet(
    config: DetectorArchitecture, state: Mapping[str, Tensor], path: Path, freezing: Mapping[str, Any]
) -> EfficientDet:
    from detection.network.model import EfficientDet

    rows = state["class_net.predict.conv_pw.bias"].numel()
    model = EfficientDet(config, classes=BoxClasses.numbered(max(rows // config.anchors_per_cell, 1)), **freezing)
    load_effdet(model, state, str(path))
    return model.eval()


def _from_zylo(
    config: DetectorArchitecture, state: Mapping[str, Tensor], path: Path, freezing: Mapping[str, Any]
) -> EfficientDet:
    from detection.network.model import EfficientDet

    rows = state["classifier.header.pointwise_conv.conv.bias"].numel()
    model = EfficientDet(config, classes=BoxClasses.numbered(max(rows // config.anchors_per_cell, 1)), **freezing)
    weighted = config.fusion != "sum"
    renamed = effdet_keys_from_zylo(state, config.backbone, weighted=weighted, origin=str(path))
    load_effdet(model, renamed, str(path))
    return model.eval()


def _is_published(path: Path) -> bool:
    """Whether it is one of the published files, unchanged: by its name and the hash in it."""
    if path.name not in {entry.file for entry in PUBLISHED.values()}:
        return False
    try:
        check_hash(path)
    except InputError:
        return False
    return True


def _origin(path: Path, layout: Layout, name: str, licence: str) -> dict[str, str]:
    return {"file": path.name, "layout": layout, "network": name, "licence": licence}
