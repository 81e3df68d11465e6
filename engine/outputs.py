"""Files written so that a reader never sees half a file: each is written under a temporary name, then renamed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import OutputError


def make_folder(path: str | Path) -> Path:
    """Create a folder and its parents, and prove that it can be written.

    Raises:
        OutputError: the path is a file, or the folder cannot be written.
    """
    folder = Path(path)
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


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: object) -> None:
    """Write JSON atomically; NaN is refused, because it is not JSON."""
    write_text(path, json.dumps(value, allow_nan=False))
