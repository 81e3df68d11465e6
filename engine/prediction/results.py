"""The folder that predictions go to: files of each source, what is finished, and at the end the tables of all.

TREE/1.png  TREE/1_overlay.jpg   of each source what its task writes, in the tree that the sources lie in
detections.json  areas.csv       the task's tables of all sources
finished.jsonl  settings.json    what is finished, from which the work goes on after an interruption
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from engine.data.pixels import Source
from engine.prediction.journal import Finished, Journal, Record, stamp_of
from engine.prediction.sources import Outputs, SourceFile, output_names, refuse_overwriting

Answer = TypeVar("Answer")
Answer_contra = TypeVar("Answer_contra", contravariant=True)
Values = dict[str, object]


class Results(Outputs, Protocol[Answer_contra]):
    """What a task leaves in the folder; plain values, which travel to other machines."""

    @property
    def tables(self) -> list[str]:
        """Names of the tables of all sources."""
        ...

    def write(self, image: Source, paths: Sequence[Path], answer: Answer_contra) -> Values:
        """Write the files of one image; returns the plain values that the journal is to say of it.

        Args:
            image: its pixels, or its path.
            paths: its files, as `outputs` says.
            answer: what was found in it.

        Raises:
            InputError: a file cannot be written, or the image cannot be read.
        """
        ...

    def stream(self, predictor: object, file: SourceFile, paths: Sequence[Path], *, progress: bool) -> Values:
        """As `write`, for a source of another kind than an image: it is read, computed and written in passing.

        A task all of whose sources are images has no need of it.

        Args:
            predictor: the task's.
            file: the source.
            paths: its files.
            progress: whether to show a progress bar of its own.
        """
        msg = f"{type(self).__name__} does not write a {file.kind}"
        raise TypeError(msg)

    def write_tables(self, journal: Journal) -> None:
        """Write the tables of all finished sources, those of earlier runs too, with one in memory at a time."""
        ...


class ResultFolder(Generic[Answer]):
    """The output folder, its sources, and which of them are left to be done.

    Args:
        output: folder; made if it is missing.
        sources: what is asked for.
        results: what the task leaves.
        settings: plain values that decide how the results look.
        overwrite: whether to start over where the settings are others, or files are in the way.

    Raises:
        InputError: the folder cannot be written, has results of other settings, or files that would be replaced.
    """

    def __init__(
        self,
        output: str | Path,
        sources: Sequence[SourceFile],
        results: Results[Answer],
        settings: Mapping[str, object],
        *,
        overwrite: bool = False,
    ) -> None:
        self.sources = list(sources)
        self.results = results
        names = zip(self.sources, output_names(self.sources, results), strict=True)
        self.outputs = [results.outputs(file, name) for file, name in names]
        refuse_overwriting(Path(output), self.outputs, self.sources)
        every = (path for paths in self.outputs for path in paths)
        self.journal = Journal(output, settings, every, overwrite=overwrite)
        wanted = {file.path: paths for file, paths in zip(self.sources, self.outputs, strict=True)}
        finished = self.journal.finished(wanted)
        self.left = [index for index, file in enumerate(self.sources) if file.path not in finished]

    @property
    def path(self) -> Path:
        """The folder."""
        return self.journal.folder

    def begin(self) -> None:
        """Write the settings; one process does so, before any adds a source."""
        self.journal.begin()

    def write(self, index: int, image: Source, answer: Answer) -> None:
        """Write the files of an image, and note it as finished."""
        file, outputs = self.sources[index], self.outputs[index]
        self.journal.add(write_source(self.path, file, outputs, self.results, image, answer))

    def stream(self, index: int, predictor: object, *, progress: bool) -> None:
        """Compute and write a source of another kind than an image, and note it as finished."""
        file, outputs = self.sources[index], self.outputs[index]
        stamp = stamp_of(file.path)
        paths = [self.path / output for output in outputs]
        values = self.results.stream(predictor, file, paths, progress=progress)
        self.journal.add(_record(file, stamp, outputs, values))

    def write_tables(self) -> None:
        """Write the tables of all finished sources, those of earlier runs too."""
        self.results.write_tables(self.journal)

    @property
    def tables(self) -> list[Path]:
        """Paths of the tables."""
        return [self.path / name for name in self.results.tables]

    @property
    def has_tables(self) -> bool:
        """Whether all tables are there, and none is older than what was finished last."""
        written = [path.stat().st_mtime_ns if path.exists() else 0 for path in self.tables]
        journal = self.journal.manifest.path
        return not written or (journal.exists() and min(written) >= journal.stat().st_mtime_ns)


def write_source(
    folder: Path, file: SourceFile, outputs: Sequence[Path], results: Results[Answer], image: Source, answer: Answer
) -> Record:
    """Write the files of one image; returns what the journal is to say of it.

    Args:
        folder: the output folder.
        file: the image's.
        outputs: its files, relative to the folder.
        results: what the task leaves.
        image: its pixels, or its path.
        answer: what was found in it.

    Raises:
        InputError: a file cannot be written, or the image cannot be read.
    """
    stamp = stamp_of(file.path)
    values = results.write(image, [folder / output for output in outputs], answer)
    return _record(file, stamp, outputs, values)


def _record(file: SourceFile, stamp: tuple[int, int], outputs: Sequence[Path], values: Values) -> Record:
    names = tuple(output.as_posix() for output in outputs)
    return Record(Finished(os.path.abspath(file.path), stamp, names), values)
