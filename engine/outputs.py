"""Files written so that a reader never sees half a file: each is written under a temporary name, then renamed."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import OutputError

_ADDRESS = re.compile(r"[A-Za-z][\w+.-]+:[/\\]")  # a drive of Windows has one letter


def make_folder(path: str | Path) -> Path:
    """Create a folder and its parents, and prove that it can be written.

    Raises:
        OutputError: the path is a file or an address such as `s3://…`, or the folder cannot be written.
    """
    folder = Path(path)
    if _ADDRESS.match(str(folder)):  # would become a folder called 's3:'
        msg = f"cannot write into '{path}', which is an address. Give a folder of this machine."
        raise OutputError(msg)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        msg = f"cannot write into '{folder}': {reason}. Give a folder that can be created and written."
        raise OutputError(msg) from error
    return folder


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success the file replaces `path`, on an error it is removed.

    The temporary name keeps the suffix, because image writers choose their format by it.

    Raises:
        OutputError: the folder cannot be written.
    """
    target = Path(path)
    make_folder(target.parent)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        msg = f"cannot write '{target}': {error.strerror or error}. Give a path that can be written."
        raise OutputError(msg) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def durable_path(path: str | Path) -> Iterator[Path]:
    """As `atomic_path`, and on the disk before it replaces `path`: it is whole even after a power cut.

    This waits for the disk, so it is for files that are dear to make again, such as checkpoints.

    Raises:
        OutputError: the file cannot be written, as on a full disk; the former file is left.
    """
    target = Path(path)
    with atomic_path(target) as temporary:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Write a folder's entries to the disk, where the system can open folders (Windows cannot)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems do not sync folders
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: object) -> None:
    """Write JSON atomically; NaN is refused, because it is not JSON."""
    write_text(path, json.dumps(value, allow_nan=False))
