"""A check that a checkpoint file exists, which needs no torch."""

from __future__ import annotations

from pathlib import Path

from engine.errors import InputError, did_you_mean


def _nearest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f" There is no folder '{path.parent}'."
    names = sorted(p.name for p in path.parent.iterdir() if p.suffix == path.suffix and p.is_file())
    hint = did_you_mean(path.name, names)
    return hint or (f" In that folder: {', '.join(names[:5])}." if names else "")


def require_checkpoint(path: Path) -> None:
    """Do nothing if a path is a file.

    Raises:
        InputError: the path does not exist, or is a folder.
    """
    if not path.exists():
        msg = f"there is no checkpoint '{path}'.{_nearest_file(path)} Give the path of a .ckpt file."
        raise InputError(msg)
    if not path.is_file():
        inside = sorted(p.name for p in path.glob("*.ckpt"))
        held = f" It has {', '.join(inside[:5])}." if inside else ""
        msg = f"'{path}' is a folder.{held} Give the path of a .ckpt file."
        raise InputError(msg)
