"""The folder of predictions: the files of each source, the journal, and at the end the tables of all sources.

TREE/1.png  TREE/1_overlay.jpg   the files that the task writes for each source, in the folder tree of the sources
detections.json  areas.csv       the tables of the task over all sources
finished.jsonl  settings.json    the finished sources, so that an interrupted work can go on
failed.jsonl                     the sources that could not be done
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from engine.errors import PartlyReadError, UnreadableError
from engine.prediction.failures import Failures
from engine.prediction.journal import UNFINISHED, Finished, Journal, Record, stamp_of
from engine.prediction.sources import Outputs, SourceFile, output_names, refuse_mixing, refuse_overwriting
from engine.reading.pixels import Source

Answer = TypeVar("Answer")
Answer_contra = TypeVar("Answer_contra", contravariant=True)
Values = dict[str, object]


class Results(Outputs, Protocol[Answer_contra]):
    """What a task writes to the folder. It holds plain values, which can be sent to other machines."""

    @property
    def tables(self) -> list[str]:
        """Names of the tables of all sources."""
        ...

    def write(self, image: Source, paths: Sequence[Path], answer: Answer_contra) -> Values:
        """Write the files of one image and return the plain values for the journal.

        Args:
            image: its pixels, or its path.
            paths: the files to write, as `outputs` names them.
            answer: what was found in the image.

        Raises:
            OutputError: a file cannot be written.
            InputError: the image cannot be read.
        """
        ...

    def stream(self, predictor: object, file: SourceFile, paths: Sequence[Path], *, progress: bool) -> Values:
        """As `write`, for a source that is no image: it is read, computed and written piece by piece.

        A task whose sources are all images does not need it.

        Args:
            predictor: the predictor of the task.
            file: the source.
            paths: the files to write.
            progress: whether to show a progress bar of its own.

        Raises:
            OutputError: a file cannot be written.
            PartlyReadError: parts of the source cannot be read; what was found in the others is written.
            InputError: the source cannot be read.
        """
        msg = f"{type(self).__name__} does not write a {file.kind}"
        raise TypeError(msg)

    def write_tables(self, journal: Journal) -> None:
        """Write the tables of all finished sources, including earlier runs, with one source in memory at a time."""
        ...


class ResultFolder(Generic[Answer]):
    """The output folder, its sources, and which of them are left to be done.

    Args:
        output: the folder, which is made if it is missing.
        sources: the sources that are asked for.
        results: what the task writes.
        settings: plain values that decide what the results are.
        overwrite: whether to start over if the settings differ, or other files would be replaced.
        searched: what the user named as sources, in which results must not be found as sources by the next run.

    Raises:
        InputError: the folder cannot be written, has results of other settings, or files that would be replaced; or
            results would lie among the sources.
    """

    def __init__(
        self,
        output: str | Path,
        sources: Sequence[SourceFile],
        results: Results[Answer],
        settings: Mapping[str, object],
        *,
        overwrite: bool = False,
        searched: str | Path | Sequence[str | Path] = (),
    ) -> None:
        self.sources = list(sources)
        self.results = results
        names = zip(self.sources, output_names(self.sources, results), strict=True)
        self.outputs = [results.outputs(file, name) for file, name in names]
        refuse_mixing(Path(output), self.outputs, searched)
        refuse_overwriting(Path(output), self.outputs, self.sources)
        every = (path for paths in self.outputs for path in paths)
        self.journal = Journal(output, settings, every, overwrite=overwrite)
        wanted = {file.path: paths for file, paths in zip(self.sources, self.outputs, strict=True)}
        finished = self.journal.finished(wanted)
        self.left = [index for index, file in enumerate(self.sources) if file.path not in finished]
        self.failures = Failures(self.path)

    @property
    def path(self) -> Path:
        """The folder."""
        return self.journal.folder

    def begin(self) -> None:
        """Write the settings; one process does this before any process adds a source."""
        self.journal.begin()
        self.failures.clear()

    def write(self, index: int, image: Source, answer: Answer) -> None:
        """Write the files of an image, and record it as finished."""
        file, outputs = self.sources[index], self.outputs[index]
        self.journal.add(write_source(self.path, file, outputs, self.results, image, answer))

    def stream(self, index: int, predictor: object, *, progress: bool) -> None:
        """Compute and write a source that is no image, and record it as finished.

        Raises:
            PartlyReadError: parts of it cannot be read. What was found in the others is recorded, and stands in the
                tables; the next run tries the source again.
        """
        file, outputs = self.sources[index], self.outputs[index]
        stamp = _stamp(file)
        paths = [self.path / output for output in outputs]
        try:
            values = self.results.stream(predictor, file, paths, progress=progress)
        except PartlyReadError as error:
            self.journal.add(_record(file, UNFINISHED, outputs, error.values))
            raise
        self.journal.add(_record(file, stamp, outputs, values))

    def fail(self, index: int, reason: str) -> None:
        """Note a source that could not be done; the next run tries it again."""
        self.failures.add(self.sources[index].path, reason)

    def write_tables(self) -> None:
        """Write the tables of all finished sources, including those of earlier runs."""
        self.results.write_tables(self.journal)

    @property
    def tables(self) -> list[Path]:
        """Paths of the tables."""
        return [self.path / name for name in self.results.tables]

    @property
    def has_tables(self) -> bool:
        """Whether all tables exist, and none is older than the source that was finished last."""
        written = [path.stat().st_mtime_ns if path.exists() else 0 for path in self.tables]
        journal = self.journal.manifest.path
        return not written or (journal.exists() and min(written) >= journal.stat().st_mtime_ns)


def write_source(
    folder: Path, file: SourceFile, outputs: Sequence[Path], results: Results[Answer], image: Source, answer: Answer
) -> Record:
    """Write the files of one image and return its record for the journal.

    Args:
        folder: the output folder.
        file: the source.
        outputs: the files to write, relative to the folder.
        results: what the task writes.
        image: the pixels of the image, or its path.
        answer: what was found in it.

    Raises:
        OutputError: a file cannot be written.
        InputError: the image cannot be read.
    """
    stamp = _stamp(file)
    values = results.write(image, [folder / output for output in outputs], answer)
    return _record(file, stamp, outputs, values)


def _stamp(file: SourceFile) -> tuple[int, int]:
    if file.address:
        return UNFINISHED  # a stream is another one each time
    try:
        return stamp_of(file.path)
    except OSError as error:
        msg = (
            f"'{file.path}' cannot be read: {error.strerror or error}. It was there when the work began. Put it "
            "back, or start again without it."
        )
        raise UnreadableError(msg) from error


def _record(file: SourceFile, stamp: tuple[int, int], outputs: Sequence[Path], values: Values) -> Record:
    names = tuple(output.as_posix() for output in outputs)
    return Record(Finished(os.path.abspath(file.path), stamp, names), values)
