"""What `--source` may name, and where the results of each file go. A task says which kinds of files it takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from engine.data.images import IMAGE_SUFFIXES, find_files
from engine.errors import InputError
from engine.prediction.journal import JOURNAL_NAME

IMAGE = "image"  # read whole by a loader's worker; what is of another kind the task reads itself


@dataclass(frozen=True)
class SourceFile:
    """One file to predict.

    Attributes:
        path: where it lies.
        kind: how it is read: `image`, or another kind of the task's.
    """

    path: Path
    kind: str


@dataclass(frozen=True)
class SourceKinds:
    """The files that a task takes.

    Attributes:
        suffixes: of the files that folders are searched for, in lower case with the dot.
        kind_of: tells a file's kind.
        what: how a message calls a file.
        listed: how it lists the suffixes.
        options: how it says what to give.
    """

    suffixes: frozenset[str] = IMAGE_SUFFIXES
    kind_of: Callable[[Path], str] = field(default=lambda path: IMAGE)
    what: str = "image"
    listed: str = ", ".join(sorted(IMAGE_SUFFIXES))
    options: str = "images. Give --source IMAGE, FOLDER or 'GLOB'."


IMAGES = SourceKinds()


class Outputs(Protocol):
    """Which files a source leaves."""

    def outputs(self, file: SourceFile, name: Path, *, every: bool = False) -> list[Path]:
        """Paths relative to the output folder.

        Args:
            file: the source.
            name: of its results, without a suffix.
            every: all that any settings ask for, by which names are chosen that never clash.
        """
        ...


def find_sources(source: str | Path | Sequence[str | Path], kinds: SourceKinds = IMAGES) -> list[SourceFile]:
    """The files that a path, a folder, a glob pattern or a list of these names, each once.

    Folders are searched to any depth, hidden entries and folders that `predict` wrote apart; folders and patterns
    give their files in sorted order. A file named outright is taken whatever its suffix.

    Raises:
        InputError: a path does not exist, a folder holds no such file, or a pattern matches none.
    """
    found = find_files(source, kinds.suffixes, kinds.what, kinds.listed, lambda path: (path / JOURNAL_NAME).exists())
    paths: dict[str, Path] = {}
    for path in found:
        paths.setdefault(os.path.abspath(path), path)
    return [SourceFile(path, kinds.kind_of(path)) for path in paths.values()]


def output_names(sources: Sequence[SourceFile], results: Outputs) -> list[Path]:
    """Where the results of each source go: the sources' own tree, without suffixes; none clashes with another."""
    # Not Path.absolute, which keeps the ".." of "../photos" and with it would lead out of the output folder.
    places = [Path(os.path.abspath(source.path)) for source in sources]
    common = Path(os.path.commonpath([place.parent for place in places])) if places else Path()
    names: list[Path] = []
    taken: set[Path] = set()
    for place, source in zip(places, sources, strict=True):
        first = place.relative_to(common)
        name, number = first.with_name(first.stem), 0
        while taken & (files := set(results.outputs(source, name, every=True))):  # a.bmp beside a.png
            name = first.with_name(f"{first.stem}_{first.suffix[1:]}{number or ''}")
            number += 1
        taken |= files
        names.append(name)
    return names


def refuse_overwriting(folder: Path, outputs: Sequence[Sequence[Path]], sources: Sequence[SourceFile]) -> None:
    """Raise unless every result goes where no source lies.

    Raises:
        InputError: a result would take the place of a source.
    """
    originals = {source.path.resolve() for source in sources}
    for path in (folder / path for paths in outputs for path in paths):
        if path.resolve() in originals:
            msg = f"--output '{folder}' would write over the source '{path}'. Give another folder."
            raise InputError(msg)
