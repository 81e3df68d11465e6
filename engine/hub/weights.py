"""The weights of a shared folder: read and written as safetensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from engine.errors import InputError
from engine.hub.folder import CARD, CONFIG, ENTRY, WEIGHTS, check_weights, is_shared, read_about
from engine.outputs import atomic_path, make_folder


def read_shared(folder: str | Path) -> dict[str, object]:
    """What a folder holds in the words of a checkpoint: the entry `effdense`, and `state_dict`.

    Raises:
        InputError: see `read_about` and `check_weights`.
    """
    about = read_about(folder)
    check_weights(folder, about)
    path = Path(folder, WEIGHTS)
    try:
        state = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        msg = f"'{path}' cannot be read: it is damaged, cut short or not a safetensors file. Save the network again."
        raise InputError(msg) from error
    return {ENTRY: about, "state_dict": state}


def write_shared(
    folder: str | Path, about: Mapping[str, object], state: Mapping[str, Tensor], texts: Mapping[str, str | bytes]
) -> Path:
    """Write a network for others.

    Args:
        folder: where to; a network that was shared in it before is replaced.
        about: format, task, model and versions; plain values.
        state: the weights by name, of any device and memory format.
        texts: the other files by name: the card, and its pictures.

    Returns:
        The folder.

    Raises:
        InputError: the folder has such files that are no shared network, or cannot be written.
    """
    folder = make_folder(folder)
    if not is_shared(folder) and (taken := [name for name in (CARD, CONFIG, WEIGHTS) if (folder / name).exists()]):
        msg = f"'{folder}' has a {taken[0]} that belongs to no shared network. Give a folder of its own."
        raise InputError(msg)
    with atomic_path(folder / WEIGHTS) as weights:
        safetensors.torch.save_file(own_memory(state), weights)
        weights.chmod(0o644)  # safetensors leaves it to its owner alone
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        content = {ENTRY: {**about, "weights_sha256": digest}}
        text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"
        # Whoever reads between the two files finds a hash that differs, and no weights of another network.
        with atomic_path(folder / CONFIG) as config:
            config.write_text(text, encoding="utf-8")
    for name, part in texts.items():
        with atomic_path(folder / name) as path:
            path.write_bytes(part.encode() if isinstance(part, str) else part)
    return folder


def own_memory(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same values on the CPU, each tensor contiguous and in memory of its own, as safetensors wants them."""
    seen: set[int] = set()
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        plain = value.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        found[name] = plain.clone() if place in seen or plain.untyped_storage().nbytes() != plain.nbytes else plain
        seen.add(place)
    return found
