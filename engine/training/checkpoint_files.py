"""The checkpoint files of runs, and networks that were shared: where they are; this needs no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from engine.errors import InputError, did_you_mean
from engine.hub.addresses import HubAddress, is_address
from engine.hub.folder import is_shared, read_about
from engine.hub.remote import fetched

CHECKPOINTS = "checkpoints"  # the folder below that of a run
LAST = "last.ckpt"
Mode = Literal["min", "max"]


def checkpoint_of_run(
    root: str | Path, task: str, name: str | None, which: Literal["best", "last"], mode: Mode = "max"
) -> Path:
    """The best or last checkpoint of the named run, or else of the latest one.

    Args:
        root: the folder of all runs; a run's own folder is ROOT/TASK/NAME.
        task: the task.
        name: the run; None takes the latest.
        which: the best checkpoint by the score in its name, or the last one.
        mode: whether a larger or a smaller score is better.

    Raises:
        InputError: there is no such run, or it has no such checkpoint.
    """
    place = Path(root, task)
    runs = _runs(place)
    names = [folder.name for folder in runs]
    if not runs:
        msg = f"--ckpt_path {which}: there is no run with checkpoints in '{place}'. Give a .ckpt file, or --run.root."
        raise InputError(msg)
    if name is not None and name not in names:
        hint = did_you_mean(name, names)
        msg = f"--ckpt_path {which}: no run '{name}' in '{place}'.{hint} Runs: {', '.join(names[:8])}."
        raise InputError(msg)
    return checkpoint_in(runs[names.index(name)] if name is not None else runs[0], which, mode)


def checkpoint_in(folder: Path, which: Literal["best", "last"], mode: Mode = "max") -> Path:
    """The best or last checkpoint in the folder of a run.

    Args:
        folder: the folder of the run.
        which: the best checkpoint by the score in its name, or the last one.
        mode: whether a larger or a smaller score is better.

    Raises:
        InputError: there is no such checkpoint.
    """
    found = list((folder / CHECKPOINTS).glob(f"{which}*.ckpt"))
    if not found:
        have = ", ".join(path.name for path in sorted((folder / CHECKPOINTS).glob("[!.]*.ckpt")))
        msg = f"--ckpt_path {which}: run '{folder}' has no such file. Give one of its checkpoints by its path: {have}."
        if not have:
            msg = f"run '{folder}' has no checkpoint. Give another run, or a .ckpt file."
        raise InputError(msg)
    if which == "last" and folder / CHECKPOINTS / LAST in found:
        return folder / CHECKPOINTS / LAST
    return best_of(found, mode)


def found_source(source: str | Path, task: str) -> str | Path:
    """The file or folder that a source stands for; any source but these is left as it is.

    `best` and `last` are a checkpoint of the latest run below `runs`, and `hf://owner/name` is the folder with what was
    fetched from there.

    Raises:
        InputError: there is no run, or it has no such checkpoint; or the hub gives no network, see `fetched`.
    """
    if source == "best" or source == "last":
        return checkpoint_of_run("runs", task, None, "best" if source == "best" else "last")
    return on_this_machine(source)


def on_this_machine(source: str | Path) -> str | Path:
    """The folder with what was fetched from `hf://owner/name`; any other source as it is.

    Raises:
        InputError: the hub gives no network, see `fetched`.
    """
    if not isinstance(source, str) or not is_address(source):
        return source
    folder = fetched(HubAddress.read(source))
    read_about(folder)
    return folder


def given_path(source: str | Path, *, fitting: bool) -> Path:
    """The file or folder of the checkpoint that a command is given, after a hub's network was fetched.

    Args:
        source: a file, a folder with a shared network, or `hf://owner/name`.
        fitting: whether a training is to go on from it.

    Raises:
        InputError: as `on_this_machine`, or a training is to go on from a shared network.
    """
    if fitting and (is_address(source) or is_shared(source)):
        msg = (
            f"'{source}' is a shared network, without the state of a training to go on from. Give it as "
            "--model.pretrained."
        )
        raise InputError(msg)
    return Path(on_this_machine(source))


def best_of(files: Sequence[Path], mode: Mode) -> Path:
    """The file with the best score in its name, of equal ones the newest; files without a score come last."""

    def order(path: Path) -> tuple[float, float]:
        match = re.search(r"(-?\d+(?:\.\d+)?(?:e-?\d+)?)$", path.stem)
        score = float(match[1]) if match else -math.inf
        return (score if mode == "max" or not match else -score), path.stat().st_mtime

    return max(files, key=order)


def _runs(place: Path) -> list[Path]:
    """The runs that hold checkpoints, the latest first."""
    checkpoints = place.glob(f"*/{CHECKPOINTS}")
    dated = [(folder.stat().st_mtime, folder.parent) for folder in checkpoints if any(folder.glob("[!.]*.ckpt"))]
    return [folder for _, folder in sorted(dated, reverse=True)]


def _nearest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f" There is no folder '{path.parent}'."
    names = sorted(p.name for p in path.parent.iterdir() if p.suffix == path.suffix and p.is_file())
    hint = did_you_mean(path.name, names)
    return hint or (f" In that folder: {', '.join(names[:5])}." if names else "")


def require_checkpoint(given: str | Path) -> None:
    """Do nothing if a checkpoint can be there: a file, a folder with a shared network, or an address of a hub.

    Raises:
        InputError: the path does not exist, or is another folder; or the address names no repository.
    """
    if isinstance(given, str) and is_address(given):
        HubAddress.read(given)
        return
    path = Path(given)
    if not path.exists():
        msg = f"there is no checkpoint '{path}'.{_nearest_file(path)} Give the path of a .ckpt file."
        raise InputError(msg)
    if not path.is_file() and not is_shared(path):
        inside = sorted(p.name for p in path.glob("*.ckpt"))
        held = f" It has {', '.join(inside[:5])}." if inside else ""
        msg = f"'{path}' is a folder.{held} Give the path of a .ckpt file."
        raise InputError(msg)
