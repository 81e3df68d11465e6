"""Config files that were joined into one: a command that names a former file runs as the new one and its options.

A task has a table of its former files, such as `detection.former.FORMER_CONFIGS`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class FormerConfig(NamedTuple):
    """What took the place of a config file.

    Attributes:
        stem: name of the config in the same folder, without `.yaml`.
        options: what that config needs to say the same as the former one, as on the command line.
    """

    stem: str
    options: str


def with_present_configs(
    argv: Sequence[str], task: str, former: Mapping[str, FormerConfig]
) -> tuple[list[str], list[str]]:
    """The command line with former config files in their present form.

    A former file is recognised by its stem and, where one is given, its folder, which has the task's name: a path that
    ends in `detection/coco_d4.yaml`, or a name such as `detection/coco_d4` or `coco_d4`. A file that still exists is
    left alone. The options stand in the place of the file, so that what the command line gives after it still
    overrides them.

    Args:
        argv: the command line after the program's name.
        task: the task's name.
        former: what took the place of each former file, by the former stem.

    Returns:
        The new command line, and a line for each exchanged file, to be shown to the user.

    >>> table = {"coco_d4": FormerConfig("coco", "--model.member d4")}
    >>> with_present_configs(["fit", "--config", "detection/coco_d4", "--data.root", "COCO"], "detection", table)[0]
    ['fit', '--config', 'detection/coco', '--model.member', 'd4', '--data.root', 'COCO']
    """
    given, notes = list(argv), []
    words: list[str] = []
    for place, word in enumerate(given):
        joined = word.startswith("--config=")
        path = Path(word.removeprefix("--config=")) if joined else Path(word)
        taken = path.suffix in ("", ".yaml") and path.parent.name in ("", task)
        found = former.get(path.stem) if taken else None
        if found is None or path.exists() or not (joined or (place and given[place - 1] in ("--config", "-c"))):
            words.append(word)
            continue
        present = path.with_name(found.stem + path.suffix)
        words += [f"--config={present}" if joined else str(present), *shlex.split(found.options)]
        notes.append(f"{path} is now --config {present} {found.options}")
    return words, notes
