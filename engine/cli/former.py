"""Former config files that are joined into one: a command that names one runs the new file with certain options.

A task has a table of its former files, such as `detection.former.FORMER_CONFIGS`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.tasks import FormerConfig


def with_present_configs(
    argv: Sequence[str], task: str, former: Mapping[str, FormerConfig]
) -> tuple[list[str], list[str]]:
    """The command line with former config files in their present form.

    A former file is recognised by its stem and, where one is given, its folder, which has the task's name: a path that
    ends in `TASK/street_large.yaml`, or a name such as `TASK/street_large` or `street_large`. A file that still exists
    is left alone. The options take the place of the file, so that options that the command line gives after it still
    override them.

    Args:
        argv: the command line after the program's name.
        task: the task's name.
        former: the replacement of each former file, by the stem of the former file.

    Returns:
        The new command line, and one line to show to the user for each file that was replaced.

    >>> table = {"street_large": FormerConfig("street", "--model.member d4")}
    >>> with_present_configs(["fit", "--config", "street_large", "--data.root", "SET"], "detection", table)[0]
    ['fit', '--config', 'street', '--model.member', 'd4', '--data.root', 'SET']
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
