"""Weight files, which are read by their content, not their suffix; no file can run code."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from backbones.layouts.keras_files import Preprocessing, read_h5, read_keras_zip
from backbones.layouts.layout import StateDict
from backbones.layouts.own import Metadata, read_metadata
from engine.errors import InputError
from engine.training.checkpoints import KEY

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".h5", ".hdf5", ".keras")

# Averaged weights come first: they are the ones that a training script evaluates.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
_KEY_PREFIXES = ("module.", "_orig_mod.")
_HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class Content:
    """The content of a weight file.

    Attributes:
        state: tensors by the file's own keys.
        metadata: the metadata of a file of our own.
        preprocessing: the preprocessing of a Keras network, which is part of the network.
    """

    state: StateDict
    metadata: Metadata | None = None
    preprocessing: Preprocessing | None = None


def read_state_dict(path: str | Path) -> StateDict:
    """Read the tensors of a weight file without running code from it; see `read`."""
    return read(path).state


def read(path: str | Path) -> Content:
    """Read a `.safetensors` file, a PyTorch checkpoint or a Keras `.h5` or `.keras` file without running code from it.

    The usual wrappers are taken off: an outer averaged (`_ema`), `state_dict` or `model` dictionary, and the
    key prefixes of DataParallel and `torch.compile`.

    Raises:
        InputError: the file is missing or damaged, holds anything but tensors, or cannot be read without running code.
    """
    path = Path(path)
    if path.is_dir():
        message = f"Weight file '{path}' is a folder. Give the file in it, such as model.safetensors."
        raise InputError(message)
    if not path.is_file():
        message = f"Weight file '{path}' does not exist. Give the path of a .safetensors, .pth, .h5 or .keras file."
        raise InputError(message)
    if path.suffix not in SUFFIXES:
        message = f"Weight file {path} has an unknown suffix; allowed are {', '.join(SUFFIXES)}."
        raise InputError(message)
    try:
        return _read(path)
    except InputError as error:
        message = f"Weight file {path} {error}."
        raise InputError(message) from error.__cause__
    except Exception as error:  # a damaged archive or pickle raises any of a dozen types
        message = f"Weight file {path} {_why_unreadable(error)}."
        raise InputError(message) from error


def _read(path: Path) -> Content:
    """As `read`; the message of an InputError names only the fault."""
    with path.open("rb") as file:
        start = file.read(512)
    if fault := _no_weights(start):
        raise InputError(fault)
    if start.startswith(_HDF5):
        state, preprocessing = read_h5(path)
        return Content(state, preprocessing=preprocessing)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "model.weights.h5" in names or "config.json" in names:
                state, preprocessing = read_keras_zip(archive)
                return Content(state, preprocessing=preprocessing)
        if not any(name.endswith("data.pkl") for name in names):
            fault = "is a zip archive of something else: it holds neither PyTorch's nor Keras' weights"
            raise InputError(fault)
    elif start[8:9] == b"{":  # behind the header's length
        return Content(_plain(safetensors.torch.load_file(path)), read_metadata(path))
    with path.open("rb") as file:  # given a name, torch goes by its suffix
        content = torch.load(file, map_location="cpu", weights_only=True)
    return Content(_plain(content), preprocessing=_own_norm(content))


def _own_norm(content: object) -> Preprocessing | None:
    """The normalisation of images that a checkpoint of this project was trained with, where it is not the member's."""
    for key in (KEY, "model", "architecture"):
        content = content.get(key) if isinstance(content, dict) else None
    if not isinstance(content, dict) or not (content.get("mean") and content.get("std")):
        return None
    return Preprocessing(tuple(content["mean"]), tuple(content["std"]), None)


def _no_weights(start: bytes) -> str:
    text = start.lstrip().lower()
    if not start:
        return "is empty. Download or save it again"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "is a web page that was saved instead of the weights. Download the weights again"
    if text.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS to the weights. Fetch them: git lfs pull"
    return ""


def _plain(content: object) -> StateDict:
    """The named tensors inside the usual wrappers."""
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        fault = "holds no state dict: a dictionary of named tensors is needed"
        raise InputError(fault)
    if any("_packed_params" in str(key) for key in content) or any(
        isinstance(value, Tensor) and value.is_quantized for value in content.values()
    ):
        fault = "holds a quantised network, whose exact weights are lost. Give the one that was quantised"
        raise InputError(fault)
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()):
        if "param_groups" in content or "optimizer" in content or "optimizer_states" in content:
            fault = "holds an optimizer's state and no weights. Give the checkpoint with the network's state dict"
        else:
            fault = "holds no state dict: a dictionary of named tensors is needed"
        raise InputError(fault)
    state: StateDict = dict(content)
    for prefix in _KEY_PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def _why_unreadable(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "cannot be opened: permission denied"
    if any(sign in str(error).lower() for sign in ("unsupported global", "unsupported class", "torchscript")):
        return "holds more than tensors, and reading that could run code; save only the state_dict()"
    return "cannot be read: it is damaged, cut short or no weight file"
