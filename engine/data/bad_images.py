"""Images of a training that are missing or cannot be read: counted before it, then a short end or a list of them.

Any process may meet such an image: each appends a line to one file, which the main process reads at the end.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import msgspec
from torch.utils.data import Dataset

from engine.data.contracts import SPLITS, SplitName
from engine.errors import MOST_LISTED, InputError, SampleError
from engine.outputs import make_folder, write_text

OnBadImage = Literal["stop", "skip"]
BAD_IMAGES = "bad_images.jsonl"
_SKIP = "or go on without it: --data.on_bad_image skip."
_FEW = 16  # files of a folder for which it is not listed
_Sample = TypeVar("_Sample")
_Sample_co = TypeVar("_Sample_co", covariant=True)


class ImageSet(Protocol[_Sample_co]):
    """A data set that knows the files of its images."""

    @property
    def name(self) -> str:
        """What messages call the set."""
        ...

    def image_path(self, index: int) -> Path:
        """The file of an image."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> _Sample_co: ...


class BadImage(msgspec.Struct, frozen=True):
    """An image that was left out.

    Attributes:
        split: the split that it belongs to.
        image: its file.
        error: why.
    """

    split: SplitName
    image: str
    error: str


class BadImages:
    """The list of the images that were left out, one JSON object a line; it may be sent to other processes.

    Args:
        folder: the folder of the run, where the list stays; None keeps it in a temporary one until it is closed.
    """

    def __init__(self, folder: Path | None) -> None:
        self.stays = folder is not None
        self.file = (Path(tempfile.mkdtemp()) if folder is None else folder) / BAD_IMAGES
        self._known: set[tuple[str, str]] = set()
        self._begin = self.file.stat().st_size if self.file.is_file() else 0  # of this part of a resumed training

    def add(self, bad: BadImage) -> None:
        """Append an image, unless this process has done so before.

        Raises:
            SampleError: the list cannot be written.
        """
        if (bad.split, bad.image) in self._known:
            return
        self._known.add((bad.split, bad.image))
        make_folder(self.file.parent)
        try:
            # One unbuffered write to the end of a file is whole, whatever other processes write; the first line break
            # parts it from a line that a full disk cut short.
            with self.file.open("ab", buffering=0) as file:
                file.write(b"\n" + msgspec.json.encode(bad) + b"\n")
        except OSError as error:
            msg = f"cannot write '{self.file}': {error.strerror or error}. Make room, or give another --run.root."
            raise SampleError(msg) from error

    def read(self) -> list[BadImage]:
        """The images that were added since this list was opened, each once, by split and name."""
        return self._after(self._begin)

    def _after(self, start: int) -> list[BadImage]:
        try:
            lines = self.file.read_bytes()[start:].splitlines()
        except FileNotFoundError:
            return []
        return without_repeats(bad for line in lines if (bad := _decoded(line)) is not None)

    def report(self, found: Sequence[BadImage], scored: Mapping[SplitName, int]) -> str:
        """Write the images down where the list stays, beside those of earlier parts, and put them in a line.

        Args:
            found: the images that all processes left out.
            scored: how many images the splits have that were scored.

        Raises:
            InputError: the list cannot be written.
        """
        parts = []
        for split in SPLITS:
            count = sum(bad.split == split for bad in found)
            rest = f", whose scores are those of the other {scored[split] - count}" if split in scored else ""
            parts += [f"{count} of {split}{rest}"] if count else []
        if self.stays:
            every = without_repeats([*self._after(0), *found])
            write_text(self.file, "".join(f"{msgspec.json.encode(bad).decode()}\n" for bad in every))
            where = f"listed in {os.path.relpath(self.file)}"
        else:
            names = [bad.image for bad in found]
            where = ", ".join(names if len(names) <= MOST_LISTED else [*names[:5], "..."])
        images = "1 image" if len(found) == 1 else f"{len(found):,} images"
        return f"{images} could not be used: {'; '.join(parts)}; {where}"

    def close(self) -> None:
        """Remove a list that does not stay."""
        if not self.stays:
            shutil.rmtree(self.file.parent, ignore_errors=True)


def _decoded(line: bytes) -> BadImage | None:
    """The image of a line; None for one that a kill or a full disk cut short."""
    try:
        return msgspec.json.decode(line, type=BadImage)
    except msgspec.DecodeError:
        return None


def without_repeats(found: Iterable[BadImage]) -> list[BadImage]:
    """Each image once, by split and name."""
    first = {(bad.split, bad.image): bad for bad in sorted(found, key=lambda bad: (bad.split, bad.image, bad.error))}
    return list(first.values())


class ReadableImages(Dataset[_Sample]):
    """The samples of a set; in place of one that cannot be read stands the next one that can, or the reading stops.

    Which sample that is depends on the files alone, so that batches keep their size and a resumed training sees the
    same ones. A scoring drops it, as any image that comes a second time.

    Args:
        images: the set.
        split: the split that it belongs to.
        bad: the list of images that were left out; None stops at the first.
    """

    def __init__(self, images: ImageSet[_Sample], split: SplitName, bad: BadImages | None) -> None:
        self.images = images
        self.split = split
        self.bad = bad

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> _Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        first = ""
        for place in self._places(index):
            try:
                return self.images[place]
            except InputError as error:
                if self.bad is None:
                    msg = f"{str(error).removesuffix('.')}, {_SKIP}"
                    raise SampleError(msg) from None
                first = first or str(error)
                self.bad.add(BadImage(self.split, str(self.images.image_path(place)), str(error)))
        msg = f"none of the {len(self)} images of '{self.images.name}' can be used. The first: {first}"
        raise SampleError(msg)

    def _places(self, index: int) -> Iterator[int]:
        yield from range(index, len(self))
        yield from range(index)


def check_present(images: ImageSet[object], on_bad_image: OnBadImage) -> str | None:
    """Look whether the files of a set exist.

    Args:
        images: the set.
        on_bad_image: whether a missing file is an error.

    Returns:
        A sentence about the files that are missing, where they are left out; None if all exist.

    Raises:
        InputError: some files are missing though they may not, or all are.
    """
    paths = [images.image_path(index) for index in range(len(images))]
    missing = missing_files(paths)
    if not missing:
        return None
    first, count = missing[0], len(dict.fromkeys(paths))
    folders = [folder for folder in first.parents if not folder.is_dir()]
    if folders and len(missing) == count:
        msg = f"image folder '{folders[-1]}' does not exist. Give the folder with the images of '{images.name}'."
        raise InputError(msg)
    found = f"{len(missing):,} of {count:,} images of '{images.name}' are missing, the first is '{first}'."
    if len(missing) == count:
        msg = f"{found} Give the folder that its file names start from."
        raise InputError(msg)
    if on_bad_image == "stop":
        msg = f"{found} Bring them back or correct their names, or go on without them: --data.on_bad_image skip."
        raise InputError(msg)
    return f"{found} They are left out."


def missing_files(paths: Sequence[Path]) -> list[Path]:
    """The files that do not exist, each once, in their order.

    Each folder is listed once: on a network drive a look-up for every file takes minutes. A name that the listing lacks
    is looked up all the same, because file systems may spell or fold names in their own way.
    """
    folders: dict[Path, list[Path]] = {}
    for path in dict.fromkeys(paths):
        folders.setdefault(path.parent, []).append(path)
    listed = {folder: _names(folder) if len(files) > _FEW else set() for folder, files in folders.items()}
    return [path for path in dict.fromkeys(paths) if path.name not in listed[path.parent] and not path.exists()]


def _names(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except OSError:  # no such folder, or one whose files may be read but not listed
        return set()
