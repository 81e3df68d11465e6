"""A folder that holds a network for others: what it is, its weights as safetensors, and a model card.

config.json         {"effdense": {"format": 1, "task": ..., "model": {...}, "licence": ..., "versions": {...},
                    "weights_sha256": ...}}
model.safetensors   the weights by name, as a checkpoint has them
README.md           the model card
training_1.png      the curves of its training, where a run has them

The entry `effdense` has the words of a training checkpoint (`engine.training.checkpoints`). No file of it can run code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from engine.errors import InputError

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
ENTRY = "effdense"
FORMAT = 1
LARGEST_CONFIG = 8 << 20  # bytes; a list of 20,000 classes takes one of them


def is_shared(path: str | Path) -> bool:
    """Whether a path is a folder that holds a network of this project; no weight of it is read."""
    folder = Path(path)
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        return False
    try:
        return ENTRY in _content(folder / CONFIG)
    except InputError:
        return False


def read_about(folder: str | Path) -> dict[str, object]:
    """What a folder says of its network: format, task, model, versions and more.

    Raises:
        InputError: the folder is of another program, is damaged, or has a format newer than this version reads.
    """
    path = Path(folder, CONFIG)
    about = _content(path).get(ENTRY)
    if not isinstance(about, dict):
        msg = f"'{path}' describes no network of this program. Give a folder that save_pretrained wrote."
        raise InputError(msg)
    versions = about.get("versions")
    if not isinstance(about.get("format"), int) or about["format"] > FORMAT:
        written = versions.get("effdense", "of a later version") if isinstance(versions, dict) else "of a later version"
        msg = (
            f"'{path}' has format {str(about.get('format'))[:40]}; this version reads up to {FORMAT}. It was written "
            f"by effdense {str(written)[:40]}: upgrade."
        )
        raise InputError(msg)
    if not isinstance(about.get("model"), dict) or not isinstance(versions, dict):
        msg = f"'{path}' is damaged: it does not say what network the weights are of. Save the network again."
        raise InputError(msg)
    return about


def licence_of(about: Mapping[str, object] | None) -> str:
    """The licence that a folder states for its weights; empty where none is stated, or there is no folder."""
    licence = None if about is None else about.get("licence")
    return licence if isinstance(licence, str) else ""


def check_weights(folder: str | Path, about: Mapping[str, object]) -> None:
    """Do nothing if the weights are those that the folder describes.

    Raises:
        InputError: they are others, such as of an interrupted copy, or cannot be read.
    """
    path = Path(folder, WEIGHTS)
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        msg = f"cannot read '{path}': {error.strerror or error}. Check its rights, or save the network again."
        raise InputError(msg) from error
    if found != about.get("weights_sha256"):
        msg = (
            f"'{path}' has the hash {found[:8]}, but {CONFIG} beside it is of weights with "
            f"{str(about.get('weights_sha256'))[:8]}. Copy both again, or save the network again."
        )
        raise InputError(msg)


def _content(path: Path) -> dict[str, object]:
    """The JSON object in a file, whose size is bounded before it is read."""
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            msg = f"'{path}' has {path.stat().st_size:,} bytes; allowed are {LARGEST_CONFIG:,}. Give another folder."
            raise InputError(msg)
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        msg = f"cannot read '{path}': {error}. Give a folder that save_pretrained wrote."
        raise InputError(msg) from error
    return content if isinstance(content, dict) else {}
