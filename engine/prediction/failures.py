"""Sources that could not be done: they are listed beside the results, and the others are finished.

failed.jsonl  a line for each source that could not be done, with the reason; the next run tries them again
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from engine.errors import InputError
from engine.prediction.manifest import Manifest

FAILED_NAME = "failed.jsonl"


class Failures:
    """The sources of a folder that could not be done. Several processes may add to it at a time.

    Args:
        folder: the output folder.
    """

    def __init__(self, folder: Path) -> None:
        self.manifest = Manifest(folder / FAILED_NAME)

    def clear(self) -> None:
        """Forget the failures of earlier runs, whose sources are tried again."""
        self.manifest.path.unlink(missing_ok=True)

    def add(self, source: str | Path, reason: str) -> None:
        """Note a source that could not be done.

        Args:
            source: its path.
            reason: one sentence or more, as the user is told.

        Raises:
            OutputError: the file cannot be written.
        """
        self.manifest.add({"source": os.path.abspath(source), "error": reason})

    def reasons(self) -> dict[str, str]:
        """The reason of each source that could not be done, in the order of their absolute paths."""
        entries = self.manifest.latest("source")
        return {str(entry["source"]): str(entry.get("error", "")) for entry in entries}

    def refuse(self, count: int) -> None:
        """Do nothing if all sources are done.

        Args:
            count: number of all sources.

        Raises:
            InputError: some are not; the message names the first and the file that lists all.
        """
        reasons = self.reasons()
        if reasons:
            raise InputError(failure_message(reasons, count, self.manifest.path))


def failure_message(reasons: Mapping[str, str], count: int, listed_in: Path) -> str:
    """What the user is told of the sources that could not be done.

    Args:
        reasons: the reason of each, by its path.
        count: number of all sources.
        listed_in: the file that lists them.

    >>> failure_message({"/in/b.png": "cannot read image 'in/b.png': it is empty."}, 3, Path("out/failed.jsonl"))
    "1 of 3 could not be done: cannot read image 'in/b.png': it is empty. It is listed in 'out/failed.jsonl'; the \
others are finished."
    """
    source, reason = next(iter(reasons.items()))
    reason = reason if Path(source).name in reason else f"'{source}': {reason}"
    if count == 1:
        return reason
    others = "" if len(reasons) == count else "; the others are finished"
    if len(reasons) == 1:
        return f"1 of {count} could not be done: {reason} It is listed in '{listed_in}'{others}."
    return f"{len(reasons)} of {count} could not be done, the first: {reason} All are listed in '{listed_in}'{others}."
