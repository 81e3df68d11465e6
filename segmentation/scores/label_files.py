"""PNG files of label ids in a folder or a zip: which there are, what they hold, and what is wrong with them."""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from engine.archives import members_of, read_member
from engine.errors import InputError
from engine.reading.images import most_pixels, open_picture
from engine.reading.listing import is_hidden, walk
from segmentation.data.cityscapes.labels import CITYSCAPES
from segmentation.scores.confusion import UInt8Array

# CITY_SEQUENCE_FRAME, with which every file name of Cityscapes starts.
_SCENE = re.compile(r"[^_./]+_\d+_\d+(?![\d])")
_DRAWN = "_overlay"  # what `predict` writes beside the label maps
MOST_TRAIN_ID = len(CITYSCAPES) - 1


class LabelFileError(InputError):
    """A file is not a map of label ids.

    Attributes:
        fault: what is wrong with it, in a few words and without its name.
    """

    def __init__(self, name: str, fault: str) -> None:
        super().__init__(name, fault)
        self.name = name
        self.fault = fault

    def __str__(self) -> str:
        return f"'{self.name}' {self.fault}."


@dataclass(frozen=True)
class LabelFiles:
    """The PNG files of a folder or a zip.

    Attributes:
        source: the folder or the zip.
        names: their paths inside it with `/`, sorted; hidden ones and the overlays beside label maps left out.
    """

    source: Path
    names: tuple[str, ...]

    @classmethod
    def find(cls, source: str | Path) -> LabelFiles:
        """List what a folder holds to any depth, or a zip.

        Raises:
            InputError: the path is missing, neither a folder nor a zip, or holds no PNG.
        """
        path = Path(source)
        if path.is_dir():
            found = (file.relative_to(path).as_posix() for file in walk(path))
        elif path.is_file():
            found = (entry.filename for entry in _members(path))
        else:
            msg = f"'{path}' does not exist. Give the folder or the zip with the label maps."
            raise InputError(msg)
        names = sorted(name for name in found if name.lower().endswith(".png") and not _hidden(name))
        known = set(names)
        names = [name for name in names if not (name[:-4].endswith(_DRAWN) and _without_overlay(name) in known)]
        if not names:
            msg = f"'{path}' holds no PNG file. Give the folder or the zip with the label maps."
            raise InputError(msg)
        return cls(path, tuple(names))

    def read(self, name: str) -> UInt8Array:
        """The (H, W) values of a file.

        Raises:
            LabelFileError: it cannot be decoded, is not a PNG, or does not have one 8-bit channel.
        """
        if self.source.is_dir():
            return read_labels(self.source / name)
        try:
            content = read_member(_archive_of(self.source), name)
        except Exception as error:
            # zipfile raises BadZipFile, RuntimeError for passwords, NotImplementedError, zlib.error and OSError.
            raise LabelFileError(name, f"cannot be unpacked: {error}") from error
        return read_labels(io.BytesIO(content), name)

    def by_scene(self) -> Mapping[str, list[str]]:
        """The files by the `CITY_SEQUENCE_FRAME` that their names start with; under "" those without one."""
        scenes = defaultdict(list)
        for name in self.names:
            scenes[scene_of(name)].append(name)
        return scenes


def scene_of(name: str) -> str:
    """`CITY_SEQUENCE_FRAME` of a file's path, or an empty string if its name does not start with one."""
    match = _SCENE.match(PurePosixPath(name).name)
    return match[0] if match else ""


def _hidden(name: str) -> bool:
    return any(map(is_hidden, PurePosixPath(name).parts))


def _without_overlay(name: str) -> str:
    return name[: -4 - len(_DRAWN)] + name[-4:]


def _members(path: Path) -> list[zipfile.ZipInfo]:
    archive = _archive_of(path)
    try:
        return members_of(archive)
    except InputError as error:
        msg = f"'{path}' {error}. Give a zip of label maps alone."
        raise InputError(msg) from error


def _archive_of(path: Path) -> zipfile.ZipFile:
    state = path.stat()
    return _open_archive(path, state.st_mtime_ns, state.st_size, os.getpid())


@lru_cache(maxsize=2)
def _open_archive(path: Path, _changed: int, _size: int, _process: int) -> zipfile.ZipFile:
    """The open zip, kept because its table of contents takes longer to read than one of its files."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        msg = f"'{path}' is neither a folder nor a zip: {error}. Give one of them."
        raise InputError(msg) from error


def read_labels(file: Path | io.BytesIO, name: str | None = None) -> UInt8Array:
    """The (H, W) values of a PNG with one 8-bit channel; of a palette file the indices.

    Args:
        file: path or content.
        name: what messages call it; by default its path.

    Raises:
        LabelFileError: it is none.
    """
    called = str(file) if name is None else name
    values, mode, kind = _decode(file, called)
    if kind != "PNG":
        raise LabelFileError(called, f"is a {kind} file, not a PNG")
    if mode not in ("L", "P"):
        what = "16-bit" if mode.startswith("I") else "1-bit" if mode == "1" else f"{mode}, a colour image"
        raise LabelFileError(called, f"is {what}, not one channel of 8 bits")
    return values


def read_instances(path: Path) -> npt.NDArray[np.int32]:
    """The (H, W) values of an `_instanceIds.png`.

    Raises:
        LabelFileError: it is none.
    """
    values, mode, _ = _decode(path, str(path))
    if mode != "I" and not mode.startswith("I;16"):
        bits = "has 8 bits" if mode in ("L", "P") else f"is of mode {mode}"
        fault = f"{bits}, but instance ids need one channel of 16. Give the file as Cityscapes' tools write it"
        raise LabelFileError(str(path), fault)
    return values.astype(np.int32, copy=False)


def _decode(file: Path | io.BytesIO, name: str) -> tuple[npt.NDArray[np.uint8], str, str]:
    try:
        with open_picture(file) as image:
            if image.width * image.height > most_pixels():
                raise LabelFileError(name, f"has {image.width} x {image.height} pixels, more than may be read")
            return np.asarray(image), image.mode, str(image.format)
    except LabelFileError:
        raise
    except FileNotFoundError as error:
        raise LabelFileError(name, "does not exist") from error
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError and more.
        raise LabelFileError(
            name, f"cannot be decoded: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from error


def resembles_train_ids(values: Iterable[int]) -> bool:
    """Whether values look like training ids, 0 to 18 and 255, and not like ids, of which 1 to 6 are never predicted."""
    found = set(values) - {255}
    return bool(found) and max(found) <= MOST_TRAIN_ID and bool(found & set(range(1, 7)))


def values_of(labels: UInt8Array) -> dict[int, int]:
    """The number of pixels of each value."""
    counts = np.bincount(labels.ravel(), minlength=256)
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
