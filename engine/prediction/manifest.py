"""A file with one line of JSON for each finished piece of work. Lines are only added, never changed.

A line is one write at the end of the file, so that several processes of one machine may add lines at a time and a
reader finds whole lines. File systems that machines share do not promise this: there one process adds for all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.errors import OutputError


class Manifest:
    """A file of JSON objects, one a line. A line that a crash has cut short is ignored; all others are read.

    Args:
        path: the file, which need not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def add(self, entry: Mapping[str, object]) -> None:
        """Add an entry at the end.

        Args:
            entry: plain values; NaN is refused, because it is not JSON.

        Raises:
            OutputError: the file cannot be written, or the disk is full.
        """
        # The line break comes first: a line that a crash has cut short before then stays a line of its own.
        line = ("\n" + json.dumps(entry, allow_nan=False)).encode()
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                written = os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            msg = f"cannot write '{self.path}': {error.strerror or error}. Give a folder that can be written."
            raise OutputError(msg) from error
        if written < len(line):
            msg = f"cannot write '{self.path}': the disk is full. Make room, and run the command again."
            raise OutputError(msg)

    def entries(self) -> Iterator[dict[str, object]]:
        """All entries in the order they were added, one in memory at a time."""
        return (entry for _, entry in self._lines())

    def latest(self, key: str) -> Iterator[dict[str, object]]:
        """The last entry of each value of `key`, in the order of the values; entries without it are left out.

        Only these values and the places of their lines are held in memory.
        """
        places = {str(entry[key]): place for place, entry in self._lines() if key in entry}
        if not places:
            return
        with self.path.open("rb") as file:
            for _, place in sorted(places.items()):
                file.seek(place)
                yield json.loads(file.readline())

    def _lines(self) -> Iterator[tuple[int, dict[str, object]]]:
        """Each entry with the place in bytes where its line begins."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            place = 0
            for line in file:
                try:
                    entry = json.loads(line)
                except ValueError:
                    entry = None
                if isinstance(entry, dict):
                    yield place, entry
                place += len(line)
