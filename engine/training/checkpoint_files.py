"""Whether a checkpoint's file is there at all, which needs no torch to know."""

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
    """Do nothing if a file is there.

    Raises:
        InputError: nothing is there, or a folder.
    """
    if not path.exists():
        msg = f"there is no checkpoint '{path}'.{_nearest_file(path)} Give the path of a .ckpt file."
        raise InputError(msg)
    if not path.is_file():
        inside = sorted(p.name for p in path.glob("*.ckpt"))
        held = f" It has {', '.join(inside[:5])}." if inside else ""
        msg = f"'{path}' is a folder.{held} Give the path of a .ckpt file."
        raise InputError(msg)
