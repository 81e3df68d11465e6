"""Published files: each is downloaded once, and checked by the hash in its name."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
from pathlib import Path

from engine.errors import InputError
from engine.outputs import make_folder

# torch.hub's naming: the first hex digits of the file's SHA-256 before the suffix.
HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")
MIRROR_VARIABLE = "EFFDENSE_WEIGHTS_URL"


def fetch(base_url: str, name: str) -> Path:
    """The local path of a published file; downloads it into torch's hub folder if it is not there.

    The environment variable `EFFDENSE_WEIGHTS_URL` replaces `base_url` by a mirror.

    Raises:
        InputError: the server does not answer, or the file that it sent does not have the hash in the name.
    """
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    target = folder / name
    if target.is_file():
        return target
    make_folder(folder)
    url = f"{os.environ.get(MIRROR_VARIABLE, base_url).rstrip('/')}/{name}"
    match = HASH_IN_NAME.search(name)
    _download(url, target, match.group(1) if match else None, otherwise=", or give its local path")
    return target


def fetch_to(target: Path, base_url: str, sha256: str) -> Path:
    """Download a file of a data set to a path, unless it is there, and compare its checksum.

    Args:
        target: the path; its name is that of the file on the server.
        base_url: the address of the folder on the server.
        sha256: the checksum of the file.

    Raises:
        InputError: the server does not answer, or the file has another checksum.
    """
    if not target.is_file():
        _download(f"{base_url.rstrip('/')}/{target.name}", target, sha256, progress=False)
    with target.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != sha256:
        msg = f"'{target}' has the checksum {digest[:8]}…, not {sha256[:8]}…. Delete it and fetch it again."
        raise InputError(msg)
    return target


def _download(url: str, target: Path, hash_prefix: str | None, *, otherwise: str = "", progress: bool = True) -> None:
    import torch

    try:
        # This writes to a temporary file in the same folder, and renames it if the hash agrees.
        torch.hub.download_url_to_file(url, str(target), hash_prefix=hash_prefix, progress=progress)
    except (OSError, ValueError, http.client.HTTPException) as error:  # URLError is an OSError
        reason = getattr(error, "reason", None) or error
        msg = f"cannot download '{url}': {reason}. Put the file at '{target}'{otherwise}."
        raise InputError(msg) from error
    except RuntimeError as error:
        msg = f"'{url}' arrived with another hash than it should have. Try again, or use another mirror."
        raise InputError(msg) from error


def check_hash(path: Path) -> None:
    """Compare a file with the hash in its name.

    Raises:
        InputError: the hashes differ.
    """
    match = HASH_IN_NAME.search(path.name)
    if match is None:
        return
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if not digest.startswith(match.group(1)):
        msg = f"'{path}' has the hash {digest[:8]}, its name says {match.group(1)}. Delete it and fetch it again."
        raise InputError(msg)
