"""Configs by path or by name: `configs/detection/demo.yaml`, `detection/demo`, or `demo` where the task is known.

The named configs come with the package: a source checkout has them in its folder `configs`, an installed package in
`engine/configs`. A task of a third party has its own in a folder `configs` of its package: `TASK/NAME`.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from engine.archives import parse_yaml
from engine.cli.signatures import package_folder
from engine.errors import did_you_mean
from engine.tasks import TASKS, registered

_SUFFIXES = (".yaml", ".yml", ".json")
_SHOWN = 8


def read_config(path: Path) -> object:
    """The content of a YAML file.

    Raises:
        yaml.YAMLError: the file is not YAML.
        OSError: the file cannot be read.
    """
    return parse_yaml(path.read_text(encoding="utf-8"))


def _shelves() -> list[tuple[str, Path]]:
    """Folders with configs, each with the name of its task, or "" where the tasks are its sub-folders."""
    engine = Path(__file__).parents[1]
    own = engine / "configs"
    shelves = [("", own if own.is_dir() else engine.parent / "configs")]
    for task, entry in registered(TASKS).items():
        folder = package_folder(entry.partition(":")[0])
        if folder is not None and (folder / "configs").is_dir():
            shelves.append((task, folder / "configs"))
    return shelves


def named_configs() -> dict[str, Path]:
    """Every config that comes with a task, by its name TASK/NAME."""
    found: dict[str, Path] = {}
    for task, shelf in _shelves():
        for path in sorted(shelf.rglob("*.yaml")):
            name = path.relative_to(shelf).with_suffix("").as_posix()
            found.setdefault(f"{task}/{name}" if task else name, path)
    return found


def find_config(given: str, task: str) -> Path | None:
    """The file that a --config means: an existing path, or else a config that comes with a task, or else None.

    Args:
        given: A path, TASK/NAME, or NAME of a config of the task; names with or without .yaml.
        task: The task of the command line.
    """
    if Path(given).exists():
        return Path(given)
    named, name = named_configs(), given.removesuffix(".yaml")
    return named.get(name) or named.get(f"{task}/{name}")


def missing_config(given: str, reason: str = "not found", task: str | None = None) -> str:
    """The message about a --config that cannot be read.

    Args:
        given: The path or name.
        reason: Why it cannot be read, in a few words, where it exists.
        task: The task of the command line, whose configs are offered.
    """
    path = Path(given)
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    if path.is_dir():
        return f"--config '{path}' is a folder. Give a YAML file."
    if path.exists():
        return f"--config '{path}' cannot be read ({reason.lower()}). Give a readable YAML file."
    near = _nearest_named(path, task)
    remedy = f"Give the path of a YAML file{f', or a name: {near}' if near else ''}."
    if not path.parent.is_dir():
        return f"--config '{path}': there is no folder '{path.parent}'. {remedy}"
    names = sorted(p.name for p in path.parent.iterdir() if p.suffix in _SUFFIXES)
    hint = did_you_mean(path.name, names) or (f" In that folder: {', '.join(names[:_SHOWN])}." if names else "")
    return f"there is no config file '{path}'.{hint} {remedy}"


def _nearest_named(path: Path, task: str | None) -> str:
    if task is None:
        return ""
    wanted = path.with_suffix("").as_posix().removeprefix("configs/")
    names = list(named_configs())
    own = [name for name in names if name.startswith(f"{task}/")]
    wanted = wanted if "/" in wanted else f"{task}/{wanted}"
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.6) or own[:3]
    return ", ".join(near)
