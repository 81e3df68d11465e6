"""The project's own layout of a detector: a safetensors file whose metadata say how to rebuild the network.

The tensors are the network's state dict. The metadata hold one entry of JSON,

    "effdense_detector": {"format": 1, "model": {...}, "origin": {...}, "versions": {...}}

in the words of a training checkpoint (`engine.training.checkpoints`): `model` has the member, the architecture with
padding, mean, std and image size, and the classes; `origin` has the file that was read, its layout and its licence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from backbones.contract import Freezing
from detection.data.classes import BoxClasses
from detection.network.build import build_detector
from detection.network.detector import Detector
from detection.network.family import DetectorArchitecture, replaced
from detection.weights.check import check_finite, check_keys, check_shapes
from engine.errors import InputError
from engine.outputs import atomic_path
from engine.training.checkpoints import FORMAT, versions

ENTRY = "effdense_detector"  # a backbone's file of the project has another (`backbones.layouts.own`)


def write_own(model: Detector, path: str | Path, origin: Mapping[str, str]) -> None:
    """Write a network; the file appears only when it is complete.

    Args:
        model: the network.
        path: a `.safetensors` file.
        origin: `file`, `layout`, `licence` and the like, as texts.

    Raises:
        InputError: the file cannot be written.
    """
    about = {"format": FORMAT, "model": model.settings(), "origin": dict(origin), "versions": versions()}
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    with atomic_path(path) as temporary:
        # One entry: safetensors writes several in an order that changes from run to run.
        safetensors.torch.save_file(tensors, temporary, {ENTRY: json.dumps(about, sort_keys=True, allow_nan=False)})


def own_metadata(path: Path) -> dict[str, Any] | None:
    """What a file says about itself; None if it is not a safetensors file of this project.

    Raises:
        InputError: the file is damaged, or of a newer format.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            stored = (opened.metadata() or {}).get(ENTRY)
        about = None if stored is None else json.loads(stored)
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        msg = f"'{path}' cannot be read: it is damaged, cut short or not a safetensors file."
        raise InputError(msg) from error
    if about is None:
        return None
    if not isinstance(about, dict) or not isinstance(about.get("format"), int) or about["format"] > FORMAT:
        found = about.get("format") if isinstance(about, dict) else about
        msg = f"'{path}' has format {found}; this version reads up to {FORMAT}. Upgrade effdense."
        raise InputError(msg)
    return about


def build_own(
    about: Mapping[str, Any], state: Mapping[str, Tensor], origin: str, freezing: Freezing, **overrides: Any
) -> Detector:
    """The network of a file, exactly as it was written.

    Args:
        about: its metadata.
        state: its tensors.
        origin: what a message calls it.
        freezing: the constructor's `frozen_stages`, `freeze_norm` and `grad_checkpointing`.
        overrides: fields of `DetectorArchitecture` that hold no weights.

    Raises:
        InputError: the metadata are incomplete or do not fit the tensors.
    """
    try:
        settings = about["model"]
        config = DetectorArchitecture.from_settings(settings)
        classes = BoxClasses.from_dict(settings["classes"])
    except (KeyError, TypeError) as error:
        msg = f"the metadata of '{origin}' are incomplete ({error}). Convert the original file again."
        raise InputError(msg) from error
    model = build_detector(replaced(config, **overrides), classes=classes, **freezing)
    own = model.state_dict()
    check_keys(state, set(own), set(), origin, config.name)
    check_shapes(state, own, origin, config.name)
    check_finite(state, origin)
    model.load_state_dict(dict(state))
    return model.eval()
