"""What a prediction folder already holds: the finished sources, the settings, and what was found.

finished.jsonl  a line for each finished source
settings.json   the settings that decide what the results are; a folder holds results of one kind of settings
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from engine.errors import InputError
from engine.hub.folder import WEIGHTS, is_shared
from engine.outputs import make_folder, write_json
from engine.prediction.manifest import Manifest

JOURNAL_NAME = "finished.jsonl"  # marks a folder as one that `predict` wrote
SETTINGS_NAME = "settings.json"
UNFINISHED = (-1, -1)  # a stamp that no file has: the source is tried again, and its results stand in the tables

Entry = TypeVar("Entry", bound=msgspec.Struct)


class Finished(msgspec.Struct, frozen=True):
    """What the journal says of a source for every task.

    Attributes:
        source: absolute path.
        stamp: size in bytes and time of change (ns), by which a changed file is recognised.
        outputs: the files of its results, relative to the folder.
    """

    source: str
    stamp: tuple[int, int]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """One finished source.

    Attributes:
        finished: what the journal says of any source.
        values: the plain values that the task adds, from which it writes its tables.
    """

    finished: Finished
    values: Mapping[str, object]

    def entry(self) -> dict[str, object]:
        """The journal's line."""
        about: dict[str, object] = msgspec.to_builtins(self.finished)
        return {**about, **self.values}


def stamp_of(path: Path) -> tuple[int, int]:
    """Size in bytes and time of change (ns) of a file."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def name_of_weights(weights: str | Path | None) -> str | None:
    """The name of weights in settings: the hash of a file's content, or the name of published weights."""
    if weights is not None and is_shared(weights):
        weights = Path(weights, WEIGHTS)
    if weights is None or not Path(weights).is_file():
        return None if weights is None else str(weights)
    with Path(weights).open("rb") as file:
        return f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"


class Journal:
    """The finished sources of a folder: one line each, added when the source is finished.

    Several processes may add lines at a time. A line that is cut short by a crash only means that its source is done
    again.

    Args:
        folder: the output folder, which is made if it is missing.
        settings: plain values that decide what the results are.
        outputs: files that will be written, relative to the folder.
        overwrite: whether to start over if the settings differ, or other files would be replaced.

    Raises:
        InputError: the folder cannot be written, has results of other settings, or has files that `predict` did not
            write and would now replace.
    """

    def __init__(
        self, folder: str | Path, settings: Mapping[str, object], outputs: Iterable[Path], *, overwrite: bool = False
    ) -> None:
        self.folder = make_folder(folder)
        self.settings: dict[str, object] = json.loads(json.dumps(settings))
        self.manifest = Manifest(self.folder / JOURNAL_NAME)
        self._overwrite = overwrite
        if overwrite:
            return
        known = self._read_settings()
        if known is not None:
            self._refuse_others(known)
            return
        foreign = [path for path in outputs if (self.folder / path).exists()]
        if foreign:
            msg = (
                f"'{self.folder / foreign[0]}' would be replaced, and {len(foreign) - 1} more files, which predict did "
                "not write. Give another --output, or --overwrite true."
            )
            raise InputError(msg)

    def begin(self) -> None:
        """Write the settings; one process does this before any process adds a line."""
        if self._overwrite:
            self.manifest.path.unlink(missing_ok=True)
        write_json(self.folder / SETTINGS_NAME, self.settings)
        self.manifest.path.touch()

    def finished(self, sources: Mapping[Path, Iterable[Path]]) -> set[Path]:
        """The sources that need not be done again.

        Args:
            sources: each source with the files that it is to write, relative to the folder.

        Raises:
            InputError: the files of one source would replace those of another, such as those of `b/1.png` those of
                `a/1.png`.
        """
        if self._overwrite:
            return set()
        records = {one.source: one for one in converted(self.manifest.entries(), Finished)}
        owners = {output: record.source for record in records.values() for output in record.outputs}
        for path, wanted in sources.items():
            for output in (out.as_posix() for out in wanted):
                if owners.get(output, os.path.abspath(path)) != os.path.abspath(path):
                    msg = (
                        f"'{self.folder / output}' is the result of '{owners[output]}' and would be replaced by that "
                        f"of '{path}'. Give another --output, or --overwrite true."
                    )
                    raise InputError(msg)
        return {path for path, wanted in sources.items() if self._is_finished(records, path, wanted)}

    def _is_finished(self, records: Mapping[str, Finished], path: Path, wanted: Iterable[Path]) -> bool:
        record = records.get(os.path.abspath(path))
        if record is None or not path.exists() or record.stamp != stamp_of(path):
            return False
        return all(out.as_posix() in record.outputs and (self.folder / out).exists() for out in wanted)

    def add(self, record: Record) -> None:
        """Note a source as finished, after all of its files are written."""
        self.manifest.add(record.entry())

    def entries(self, kind: type[Entry]) -> Iterator[Entry]:
        """The entries of the finished sources, in the order of their paths, one in memory at a time.

        Args:
            kind: the type of the wanted entries; sources that do not have its values are left out.
        """
        return converted(self.manifest.latest("source"), kind)

    def _read_settings(self) -> dict[str, object] | None:
        path = self.folder / SETTINGS_NAME
        if not path.exists():
            return None
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = None
        if not isinstance(known, dict):
            msg = f"'{path}' is not what predict wrote. Give another --output, or --overwrite true."
            raise InputError(msg)
        return known

    def _refuse_others(self, known: dict[str, object]) -> None:
        own = self.settings
        other = [name for name in [*own, *known] if known.get(name) != own.get(name)]
        if other and any(True for _ in converted(self.manifest.entries(), Finished)):
            name = other[0]
            given, there = (_shortened(values.get(name)) for values in (own, known))
            msg = (
                f"'{self.folder}' holds results of other settings: {name} was {there}, now {given}. "
                "Give another --output, or --overwrite true."
            )
            raise InputError(msg)


def shown_path(source: str) -> str:
    """The name of a source in tables: relative to the working folder if it lies below it."""
    path = Path(source)
    return (path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path).as_posix()


def converted(entries: Iterable[Mapping[str, object]], kind: type[Entry]) -> Iterator[Entry]:
    """Lines of a journal as typed values; lines of another kind are left out."""
    for entry in entries:
        try:
            yield msgspec.convert(entry, kind)
        except msgspec.ValidationError:
            continue


def _shortened(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
