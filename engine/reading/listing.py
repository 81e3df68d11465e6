"""The one listing of folders: which files below a folder are a user's, in an order that no file system changes."""

from __future__ import annotations

import glob
import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from engine.distributed import is_main
from engine.errors import InputError
from engine.reading.images import IMAGE_SUFFIXES

_log = logging.getLogger(__name__)

# Files that systems leave beside a user's: those of macOS in archives, and the thumbnails and settings of Windows.
_OF_SYSTEMS = frozenset(("__macosx", "thumbs.db", "desktop.ini"))


def is_hidden(name: str) -> bool:
    """Whether a file or folder is not the user's: it begins with a point, as macOS's `._a.jpg`, or is a system's."""
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


def find_images(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """The image files that a path, a folder, a glob pattern or a list of these names.

    Folders are searched as in `walk`; folders and patterns give their files in sorted order. A file that is named
    itself is taken with any suffix. One line tells how many files of a folder have other suffixes.

    Raises:
        InputError: a path does not exist, a folder holds no image, or a pattern matches no image.
    """
    return find_files(source, IMAGE_SUFFIXES, "image", ", ".join(sorted(IMAGE_SUFFIXES)))


def find_files(
    source: str | Path | Sequence[str | Path],
    suffixes: Collection[str],
    what: str,
    listed: str,
    skip: Callable[[Path], bool] = lambda folder: False,
) -> list[Path]:
    """As `find_images`, for any suffixes.

    Args:
        source: path, folder or glob pattern, or a list of them.
        suffixes: suffixes of the wanted files, in lower case with the dot.
        what: the wanted file, as a message names it.
        listed: the suffixes, as a message lists them.
        skip: tells whether a folder below a given one is left out.

    Raises:
        InputError: as `find_images`.
    """
    if not isinstance(source, str | Path):
        return [path for entry in source for path in find_files(entry, suffixes, what, listed, skip)]
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        there = list(walk(path, skip))
        msg = f"folder '{source}' holds no {what}"
    elif glob.has_magic(str(source)):
        matches = (Path(match) for match in glob.glob(str(source), recursive=True))
        there = sorted(match for match in matches if match.is_file() and not is_hidden(match.name))
        msg = f"pattern '{source}' matches no {what}"
    else:
        msg = f"'{source}' does not exist. Give an {what}, a folder or a quoted pattern such as 'in/*.jpg'."
        raise InputError(msg)
    found = [path for path in there if path.suffix.lower() in suffixes]
    others = Counter(path.suffix.lower() or "without suffix" for path in there if path.suffix.lower() not in suffixes)
    if not found:
        seen = f", but {_counted(others)}" if others else ""
        msg = f"{msg}{seen}. Give one with files ending in {listed}."
        raise InputError(msg)
    if others and path.is_dir() and is_main():
        _log.warning("%d files in '%s' are left out: %s", others.total(), source, _counted(others))
    return found


def _counted(suffixes: Counter[str]) -> str:
    most = suffixes.most_common(4)
    rest = suffixes.total() - sum(count for _, count in most)
    return ", ".join(f"{count} {suffix}" for suffix, count in most) + (f", {rest} others" if rest else "")


def walk(folder: str | Path, skip: Callable[[Path], bool] = lambda folder: False) -> Iterator[Path]:
    """The files below a folder, to any depth, in sorted order.

    What is hidden is left out. Links are followed, each folder once: a folder that is there itself is not listed again
    by a link, and circles of links end.

    Args:
        folder: where the search begins.
        skip: tells whether a folder below it is left out.

    Raises:
        InputError: a folder may not be read.
    """
    real: list[Path] = []
    links: list[Path] = [Path(folder)]
    seen: set[tuple[int, int]] = set()
    found: list[Path] = []
    broken: list[Path] = []
    while links:
        # All that lies below without a link comes before what a link leads to.
        real.append(links.pop(0))
        while real:
            place = real.pop()
            about = place.stat()
            if (about.st_dev, about.st_ino) in seen:
                continue
            seen.add((about.st_dev, about.st_ino))
            for entry in _entries(place):
                path = place / entry.name
                if is_hidden(entry.name):
                    continue
                if entry.is_symlink() and not path.exists():
                    broken.append(path)
                elif not entry.is_dir():
                    found.append(path)
                elif not skip(path):
                    (links if entry.is_symlink() else real).append(path)
        links.sort()
    if broken and is_main():
        _log.warning("%d links below '%s' lead nowhere, such as '%s'", len(broken), folder, min(broken))
    yield from sorted(found)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except PermissionError as error:
        msg = f"folder '{folder}' may not be read. Change its rights, or move it elsewhere."
        raise InputError(msg) from error
