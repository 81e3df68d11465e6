"""What `--source` may name, and where the results of each file go. A task says which kinds of files it takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from engine.errors import InputError
from engine.prediction.journal import JOURNAL_NAME
from engine.reading.images import IMAGE_SUFFIXES
from engine.reading.listing import find_files

IMAGE = "image"  # read whole by a worker of the loader; the task itself reads sources of other kinds


@dataclass(frozen=True)
class SourceFile:
    """One file to predict.

    Attributes:
        path: its path.
        kind: the way it is read: `image`, or another kind that the task knows.
    """

    path: Path
    kind: str


@dataclass(frozen=True)
class SourceKinds:
    """The kinds of files that a task takes.

    Attributes:
        suffixes: suffixes of the files that folders are searched for, in lower case with the dot.
        kind_of: returns the kind of a file.
        what: the kind of file, as a message names it.
        listed: the suffixes, as a message lists them.
        options: the sources that may be given, as a message lists them.
    """

    suffixes: frozenset[str] = IMAGE_SUFFIXES
    kind_of: Callable[[Path], str] = field(default=lambda path: IMAGE)
    what: str = "image"
    listed: str = ", ".join(sorted(IMAGE_SUFFIXES))
    options: str = "images. Give --source IMAGE, FOLDER or 'GLOB'."


IMAGES = SourceKinds()


class Outputs(Protocol):
    """The files that are written for a source."""

    def outputs(self, file: SourceFile, name: Path, *, every: bool = False) -> list[Path]:
        """Paths relative to the output folder.

        Args:
            file: the source.
            name: the name of its results, without a suffix.
            every: whether to list the files of all possible settings, so that names are chosen that never clash.
        """
        ...


def find_sources(source: str | Path | Sequence[str | Path], kinds: SourceKinds = IMAGES) -> list[SourceFile]:
    """The files that a path, a folder, a glob pattern or a list of these names, each once.

    Folders are searched to any depth, without hidden entries and folders that `predict` wrote; folders and patterns
    give their files in sorted order. A file that is named itself is taken with any suffix.

    Raises:
        InputError: a path does not exist, a folder holds no such file, or a pattern matches no such file.
    """
    found = find_files(source, kinds.suffixes, kinds.what, kinds.listed, lambda path: (path / JOURNAL_NAME).exists())
    paths: dict[str, Path] = {}
    for path in found:
        paths.setdefault(os.path.abspath(path), path)
    return [SourceFile(path, kinds.kind_of(path)) for path in paths.values()]


def output_names(sources: Sequence[SourceFile], results: Outputs) -> list[Path]:
    """The name of each source's results: its path in the tree of sources, without the suffix; no two names clash."""
    # Not Path.absolute, which keeps the ".." of "../photos" and would lead out of the output folder.
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


def refuse_mixing(folder: Path, outputs: Sequence[Sequence[Path]], searched: str | Path | Sequence[str | Path]) -> None:
    """Do nothing if the next run of the same command would find the same sources.

    A search leaves out folders that `predict` wrote, but not the folder that it begins in.

    Args:
        folder: the output folder.
        outputs: the files of each source, relative to the output folder.
        searched: the files, folders and patterns that the user named.

    Raises:
        InputError: a result would lie in a folder that is searched for sources.
    """
    for given in [searched] if isinstance(searched, str | Path) else searched:
        if Path(given).is_file():
            continue
        search = next(path for path in (Path(given), *Path(given).parents) if path.is_dir())
        root, own = search.resolve(), folder.resolve()
        if own != root and own.is_relative_to(root):
            continue  # a folder of its own below
        files = ((own / path).resolve() for paths in outputs for path in paths)
        among = next((path for path in files if path.is_relative_to(root)), None)
        if among is not None:
            msg = (
                f"--output '{folder}' would put results such as '{among.name}' among the sources in '{search}', "
                f"and the next run would take them for sources. Give a folder of its own, such as "
                f"--output '{root.name}_predictions'."
            )
            raise InputError(msg)


def refuse_overwriting(folder: Path, outputs: Sequence[Sequence[Path]], sources: Sequence[SourceFile]) -> None:
    """Do nothing if no result would be written over a source.

    Raises:
        InputError: a result would replace a source.
    """
    originals = {source.path.resolve() for source in sources}
    for path in (folder / path for paths in outputs for path in paths):
        if path.resolve() in originals:
            msg = f"--output '{folder}' would write over the source '{path}'. Give another folder."
            raise InputError(msg)
