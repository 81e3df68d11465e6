"""What `--source` may name, and where the results of each file go. A task says which kinds of files it takes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from engine.errors import InputError
from engine.prediction.journal import JOURNAL_NAME
from engine.reading.images import IMAGE_SUFFIXES
from engine.reading.listing import find_files
from engine.video.files import VIDEO_SUFFIXES, is_video
from engine.video.streams import is_stream, shown_address, stream_name

IMAGE = "image"  # read whole by a worker of the loader; the task itself reads sources of other kinds
VIDEO = "video"  # a file, a camera or an address, read frame by frame


@dataclass(frozen=True)
class SourceFile:
    """One file to predict.

    Attributes:
        path: its path; of a stream, the name of its results.
        kind: the way it is read: `image`, or another kind that the task knows.
        address: of a stream: the number of a camera or an address, with the password if one was given.
    """

    path: Path
    kind: str
    address: str = field(default="", repr=False)


@dataclass(frozen=True)
class SourceKinds:
    """The kinds of files that a task takes.

    Attributes:
        suffixes: suffixes of the files that folders are searched for, in lower case with the dot.
        kind_of: returns the kind of a file.
        what: the kind of file, as a message names it.
        listed: the suffixes, as a message lists them.
        options: the sources that may be given, as a message lists them.
        streams: whether a camera or an address may be given.
    """

    suffixes: frozenset[str] = IMAGE_SUFFIXES
    kind_of: Callable[[Path], str] = field(default=lambda path: IMAGE)
    what: str = "image"
    listed: str = ", ".join(sorted(IMAGE_SUFFIXES))
    options: str = "images. Give --source IMAGE, FOLDER or 'GLOB'."
    streams: bool = False


def image_or_video(path: Path) -> str:
    """How a file is read: videos by content or suffix; all others are images."""
    return VIDEO if is_video(path) else IMAGE


IMAGES = SourceKinds()
IMAGES_AND_VIDEOS = SourceKinds(
    suffixes=IMAGE_SUFFIXES | VIDEO_SUFFIXES,
    kind_of=image_or_video,
    what="image or video",
    listed=f"{', '.join(sorted(IMAGE_SUFFIXES))}, or videos",
    options="images or a video. Give --source IMAGE, FOLDER, 'GLOB', VIDEO, the number of a camera or an address.",
    streams=True,
)


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

    The number of a camera, or an address such as `rtsp://…`, is the only source, as it is read until it ends.

    Raises:
        InputError: a path does not exist, a folder holds no such file, or a pattern matches no such file; or a stream
            is not the only source, or is not taken.
    """
    given = [source] if isinstance(source, str | Path) else list(source)
    streams = [entry for entry in given if isinstance(entry, str) and is_stream(entry)]
    if streams:
        return [_stream(streams[0], len(given), kinds)]
    found = find_files(source, kinds.suffixes, kinds.what, kinds.listed, lambda path: (path / JOURNAL_NAME).exists())
    paths: dict[str, Path] = {}
    for path in found:
        paths.setdefault(os.path.abspath(path), path)
    return [SourceFile(path, kinds.kind_of(path)) for path in paths.values()]


def _stream(address: str, count: int, kinds: SourceKinds) -> SourceFile:
    shown = shown_address(address)
    if not kinds.streams:
        msg = f"{shown} is a stream, which this command does not read. Give an {kinds.what}, a folder or a pattern."
        raise InputError(msg)
    if count > 1:
        msg = f"{shown} is a stream, which is read until it ends, and {count - 1} more are given. Give one at a time."
        raise InputError(msg)
    return SourceFile(Path(stream_name(address, time.localtime())), VIDEO, address)


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
        if Path(given).is_file() or is_stream(str(given)):
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
