"""What a checkpoint says about itself, and safe reading: no file may run code.

Next to Lightning's own entries a checkpoint carries one entry of plain values,

    "effdense": {"format": 1, "task": "detection", "model": {...}, "versions": {...}}

from which the network is rebuilt. Lightning's `hyper_parameters` are not used: its command line lets them override,
silently, what the user asked for.
"""

from __future__ import annotations

import copy
import os
import pickle
import platform
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.errors import InputError
from engine.hub.folder import is_shared, read_about
from engine.hub.weights import read_shared
from engine.tasks import task_names
from engine.training.checkpoint_files import require_checkpoint

KEY = "effdense"
FORMAT = 1
TRAINING_ONLY = "training_only"  # the part of a network that only its training needs
DISTILLER = "distiller"  # the part of a task that only its training needs, see `engine.distillation`
# What the latest files say of themselves, by their stamps: a file is asked several times on the way to a network, and
# with the state of a training each reading takes a quarter of a second.
_SAID: dict[tuple[int, ...], dict[str, object] | None] = {}
_KEPT = 16
_KEEPING = threading.Lock()
_PACKAGES = ("effdense", "torch", "torchvision", "lightning", "timm", "jsonargparse", "albumentations", "pycocotools")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of this project: what network it holds, and its weights.

    Args:
        path: The file or folder that it was read from.
        task: The task that wrote it.
        model: The network's settings, as the task stored them.
        versions: The versions of the packages that it was written with.
        state_dict: Weights by name on the CPU (the average, where training kept one); they may be mapped from the
            file, so copy them into a module rather than changing them.
        step: The optimiser's steps until then; None where the file does not say.
    """

    path: Path
    task: str
    model: dict[str, Any]
    versions: dict[str, str]
    state_dict: dict[str, Tensor]
    step: int | None = None


def misfits(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """Names of weights that one side lacks or has in another shape; those of `own` come first."""
    wrong = [name for name in own if name not in given or given[name].shape != own[name].shape]
    return wrong + [name for name in given if name not in own]


def check_fit(source: str | Path, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Do nothing if the weights of a file are those that a network has.

    Args:
        source: the file, as the user gave it.
        own: the network's own weights.
        given: those of the file.

    Raises:
        InputError: a name is missing or has another shape, as the architecture was changed.
    """
    wrong = misfits(own, given)
    if wrong:
        msg = (
            f"'{source}' does not fit the architecture that was asked for: {len(wrong)} weights differ, such as "
            f"'{wrong[0]}'. Leave out what changes them."
        )
        raise InputError(msg)


def without_distiller(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without those that only a training needs: of teachers, and of a network's part `training_only`."""
    needless = {DISTILLER, TRAINING_ONLY}
    return {name: value for name, value in state.items() if not needless & set(name.split("."))}


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _plain(value: object, where: str) -> object:
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)  # a class derived from it would be refused when the file is read
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    msg = f"{where} is a {type(value).__name__}; a checkpoint's metadata holds plain values only"
    raise TypeError(msg)


def save_metadata(checkpoint: dict[str, object], task: str, model: Mapping[str, object]) -> None:
    """Store the settings from which the network is rebuilt; a task calls it in `on_save_checkpoint`.

    Args:
        checkpoint: The dictionary that is about to be saved.
        task: The task's name.
        model: The network's settings: numbers, texts, and lists and dictionaries of them (tuples become lists).

    Raises:
        TypeError: a setting is not a plain value.
    """
    plain = _plain(model, "model")
    checkpoint[KEY] = {"format": FORMAT, "task": task, "model": plain, "versions": versions()}


def _load(path: Path) -> object:
    if is_shared(path):
        return read_shared(path)
    require_checkpoint(path)
    try:
        stamp = _stamp(path)
        # Mapping needs the zip layout that torch.save has written since torch 1.6.
        content: object = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if "Unsupported" not in str(error) and "GLOBAL" not in str(error):
            msg = f"'{path}' is not a checkpoint, or is damaged. Give a .ckpt file written by `fit`."
            raise InputError(msg) from error
        msg = (
            f"'{path}' holds Python objects besides tensors and plain values; reading them could run code, "
            "so it is refused. Give a checkpoint written by `fit`, or weights saved as a plain state dict."
        )
        raise InputError(msg) from error
    except OSError as error:
        msg = f"cannot read '{path}': {error.strerror or error}. Check its rights, or give another checkpoint."
        raise InputError(msg) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        msg = f"'{path}' is not a checkpoint, or is damaged. Give a .ckpt file written by `fit`."
        raise InputError(msg) from error
    _keep(stamp, content)
    return content


def is_checkpoint(path: str | Path) -> bool:
    """Whether a path is a checkpoint of this project, whatever its name ends in, or a folder with a shared network.

    Nothing of it is run.
    """
    return is_shared(path) or _said_by(Path(path)) is not None


def checkpoint_content(path: str | Path) -> dict[str, object] | None:
    """What a checkpoint of this project says of itself: format, task, model and versions; None for other files."""
    return read_about(path) if is_shared(path) else copy.deepcopy(_said_by(Path(path)))


def _stamp(path: Path) -> tuple[int, ...]:
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _said_by(path: Path) -> dict[str, object] | None:
    """The entry of this project in a file, or None; kept while the file stays as it is."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return None
    try:
        return _SAID[_stamp(path)]
    except KeyError:
        pass
    try:
        return _own(_load(path))
    except InputError:
        return None


def _own(content: object) -> dict[str, object] | None:
    own = content.get(KEY) if isinstance(content, dict) else None
    return own if isinstance(own, dict) else None


def _keep(stamp: tuple[int, ...], content: object) -> None:
    with _KEEPING:
        while len(_SAID) >= _KEPT:
            _SAID.pop(next(iter(_SAID)))
        _SAID[stamp] = copy.deepcopy(_own(content))


def stored_settings(path: str | Path, name: str) -> dict[str, object] | None:
    """One entry of the settings that a checkpoint of this project has; None in other files, or without the entry."""
    content = checkpoint_content(path)
    model = None if content is None else content.get("model")
    found = model.get(name) if isinstance(model, dict) else None
    return found if isinstance(found, dict) else None


def _foreign(path: Path, content: object) -> InputError:
    if isinstance(content, dict) and "pytorch-lightning_version" in content:
        kind = "a Lightning checkpoint of another program"
    elif isinstance(content, dict) and content and all(isinstance(v, Tensor) for v in content.values()):
        kind = "a bare state dict, which does not say what network it belongs to"
    else:
        kind = "not a checkpoint of this program"
    return InputError(f"'{path}' is {kind}. Give a .ckpt file written by `fit`.")


@contextmanager
def described(source: str | Path) -> Iterator[None]:
    """Say in one line that a network's stored settings lack something, or are of another kind.

    Raises:
        InputError: what is done inside failed for that reason.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"'{source}' does not describe the network that its weights are of ({error!r}). Save the network again."
        raise InputError(msg) from error


def restored(folder: str | Path) -> dict[str, object]:
    """A shared network in the form that Lightning restores a checkpoint from; it holds no state of a training.

    Raises:
        InputError: see `engine.hub.weights.read_shared`.
    """
    began = {"epoch": 0, "global_step": 0, "callbacks": {}, "optimizer_states": [], "lr_schedulers": []}
    return {**began, "pytorch-lightning_version": metadata.version("lightning"), **read_shared(folder)}


def read_checkpoint(path: str | Path, task: str) -> Checkpoint:
    """Read a checkpoint of a task without running any code from it.

    Args:
        path: The file, or a folder with a shared network (`engine.hub.folder`).
        task: The task that must have written it.

    Raises:
        InputError: the file is missing, damaged, refused as unsafe, of another program, of another task, or
            written in a format newer than this version reads.
    """
    path = Path(path)
    content = _load(path)
    own = content.get(KEY) if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(own, dict) or not isinstance(content.get("state_dict"), dict):
        raise _foreign(path, content)
    if not isinstance(own.get("format"), int) or own["format"] > FORMAT:
        msg = (
            f"'{path}' has format {own.get('format')}; this version reads up to {FORMAT}. "
            f"It was written by effdense {own.get('versions', {}).get('effdense', 'of a later version')}: upgrade."
        )
        raise InputError(msg)
    if own.get("task") != task:
        given = own.get("task")
        remedy = f"Use `python -m {given}`." if given in task_names() else "Install the package that wrote it."
        msg = f"'{path}' is a {given} checkpoint; {task} is asked for. {remedy}"
        raise InputError(msg)
    step = content.get("global_step")
    state = without_distiller(content["state_dict"])
    return Checkpoint(path, task, own["model"], own["versions"], state, step if isinstance(step, int) else None)
