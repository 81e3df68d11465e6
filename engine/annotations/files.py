"""The files of a set, listed once: label files by suffix, images by whatever name a label file gives them.

A name from a label file is looked up in this listing and nowhere else, so that no label file can name a file outside
its set.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec

from engine.annotations.json_text import json_fault, utf8
from engine.errors import InputError
from engine.names import pairing_name
from engine.reading.images import IMAGE_SUFFIXES, image_size
from engine.reading.listing import walk

Parsed = TypeVar("Parsed")
_ADDRESS = re.compile(r"[A-Za-z][\w+.-]+://")
_MASKS = frozenset(("masks", "mask", "labels", "segmentationclass", "segmentationobject", "annotations", "gtfine"))
_CLASS_FILES = frozenset(("classes.txt", "obj.names", "labels.txt", "_darknet.labels", "predefined_classes.txt"))
_DIGITS = 7  # of a pixel
_MOST_BYTES = 4 << 30  # a label file of more is none that a tool writes


class BrokenRow(NamedTuple):
    """A row, an object or a whole label file that cannot be read.

    Attributes:
        file: the label file.
        fault: what is wrong there, as the message that would end a training.
    """

    file: str
    fault: str


@dataclass(frozen=True, eq=False)
class SetFiles:
    """The files below a folder, by their names from there, with `/` between parts.

    Attributes:
        root: the folder.
        names: the names of all files, in sorted order.
        only: the one label file that was given in place of a folder, if one was.
        notes: what a user should know of the reading, each with its number.
        broken: rows that cannot be read, where they are to be named and left out; None, as for a training, ends the
            reading at the first.
        images: the names of the image files.
    """

    root: Path
    names: tuple[str, ...]
    only: str | None = None
    notes: Counter[str] = field(default_factory=Counter)
    broken: list[BrokenRow] | None = None
    images: tuple[str, ...] = field(init=False)
    _by_name: dict[str, str] = field(init=False, default_factory=dict)
    _by_last: dict[str, list[str]] = field(init=False, default_factory=dict)
    _by_stem: dict[str, list[str]] = field(init=False, default_factory=dict)
    _sizes: dict[str, tuple[int, int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", tuple(name for name in self.names if suffix_of(name) in IMAGE_SUFFIXES))
        for name in self.images:
            plain = _plain(name)
            self._by_name.setdefault(plain, name)
            self._by_last.setdefault(plain.rpartition("/")[2], []).append(name)
            self._by_stem.setdefault(stem_of(plain), []).append(name)

    @classmethod
    def below(cls, root: str | Path, broken: list[BrokenRow] | None = None) -> SetFiles:
        """List a folder, or the folder of a label file.

        Args:
            root: the folder or the label file.
            broken: where rows that cannot be read are noted; None ends the reading at the first.

        Raises:
            InputError: there is no such folder or file, or it is an archive.
        """
        path = Path(root)
        if path.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"):
            msg = f"'{root}' is an archive. Unpack it and give its folder."
            raise InputError(msg)
        if not path.exists():
            msg = f"the data's root '{root}' does not exist. Give the folder of a set of images with boxes."
            raise InputError(msg)
        folder = path if path.is_dir() else path.parent
        names = tuple(file.relative_to(folder).as_posix() for file in walk(folder))
        return cls(folder, names, None if path.is_dir() else path.name, broken=broken)

    def ending(self, *suffixes: str) -> list[str]:
        """The label files with one of these suffixes, in lower case with the dot; only the given one if one was."""
        if self.only is not None:
            return [self.only] if suffix_of(self.only) in suffixes else []
        return [name for name in self.names if suffix_of(name) in suffixes]

    def has(self, name: str) -> bool:
        """Whether a file of exactly this name lies in the set."""
        return name in self._all

    def path(self, name: str) -> Path:
        """The file of a name."""
        return self.root / name

    def note(self, what: str, count: int = 1) -> None:
        """Count something that a user should know; the number is written before it."""
        self.notes[what] += count

    def refuse(self, name: str, error: InputError) -> None:
        """Raise what is wrong with a row of a label file, or note it where all such rows are to be named.

        Raises:
            InputError: the error itself, unless it is noted.
        """
        if self.broken is None:
            raise error
        path = str(self.path(name))
        self.broken.append(BrokenRow(path, str(error).removeprefix(f"'{path}'").lstrip(",: ")))

    def image(self, given: str, folder: str = "", near: Callable[[str], bool] | None = None) -> str | None:
        r"""The image that a label file means, or None if the set lacks it.

        Looked for are, in this order, the name from the label file's folder, from the root, from a folder `images`
        in either, and then the only image whose path ends alike, which the author's own folders do not hinder.

        Args:
            given: a file name, with or without folders and suffix, with `/` or `\`, or an address.
            folder: the name of the label file's folder.
            near: whether an image lies where the label file's images do, which decides between several of a name.

        Raises:
            InputError: several images have that name.
        """
        parts = _parts(given)
        if not parts:
            return None
        for start in dict.fromkeys((folder, "", joined(folder, "images"), "images")):
            place = joined(start, "/".join(parts))
            if place is None:
                continue
            plain = _plain(place)
            if (found := self._by_name.get(plain)) is not None:
                return found
            beside = [name for name in self._by_stem.get(plain.rpartition("/")[2], ()) if _bare(name) == plain]
            if len(beside) == 1:  # a name without suffix, and the set may have the same one in other folders
                return beside[0]
        tail = [_plain(part) for part in parts if part != ".."]
        alike = self._by_last.get(tail[-1]) or self._by_stem.get(tail[-1]) or self._by_stem.get(stem_of(tail[-1])) or []
        return self._nearest(given, tail, alike, near)

    def _nearest(self, given: str, tail: list[str], names: list[str], near: Callable[[str], bool] | None) -> str | None:
        if len(names) < 2:
            return names[0] if names else None
        common = {name: _shared(tail[:-1], _plain(name).split("/")[:-1]) for name in names}
        best = [name for name, count in common.items() if count == max(common.values())]
        for likely in (_no_mask, near):
            best = [name for name in best if likely is None or likely(name)] or best
        if len(best) > 1:
            msg = (
                f"'{given}' may be any of {len(best)} images in '{self.root}', such as '{best[0]}' and '{best[1]}'. "
                "Give each image a name of its own."
            )
            raise InputError(msg)
        return best[0]

    def image_or_missing(self, given: str, folder: str = "", near: Callable[[str], bool] | None = None) -> str:
        """As `image`; the last part of the name for an image that is not there, which is then counted as missing."""
        return self.image(given, folder, near) or (_parts(given) or ["unnamed"])[-1]

    def size_hw(self, name: str) -> tuple[int, int]:
        """Height and width of an upright image, from its header.

        Raises:
            InputError: it is missing or is no image.
        """
        if name not in self._sizes:
            self._sizes[name] = image_size(self.path(name))
        return self._sizes[name]

    def raw(self, name: str, most: int = -1) -> bytes:
        """The bytes of a label file, all or the first.

        Raises:
            InputError: it cannot be read, or is far too large.
        """
        path = self.path(name)
        try:
            if most < 0 and path.stat().st_size > _MOST_BYTES:
                msg = f"label file '{path}' has {path.stat().st_size >> 30} GiB; allowed are {_MOST_BYTES >> 30}."
                raise InputError(msg)
            with path.open("rb") as file:
                return file.read(most)
        except OSError as error:
            msg = f"label file '{path}' cannot be read: {error.strerror or error}. Check its rights."
            raise InputError(msg) from error

    def text(self, name: str, most: int = -1) -> str:
        """The text of a label file, without the byte-order mark that Windows writes; UTF-8, else Windows' own.

        Raises:
            InputError: it cannot be read.
        """
        raw = self.raw(name, most)
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            return raw.decode("utf-16", "replace")
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            if most < 0:
                self.note("label files are not UTF-8 and were read as Windows-1252")
            return raw.decode("cp1252", "replace")

    def json(self, name: str, kind: type[Parsed]) -> Parsed:
        """The content of a JSON file in a type; what the type lacks is skipped.

        Raises:
            InputError: it is not valid JSON, or not of the type.
        """
        try:
            return msgspec.json.decode(utf8(self.raw(name)), type=kind, strict=False)
        except msgspec.ValidationError as error:
            msg = f"'{self.path(name)}': {json_fault(str(error))}. Correct it, or export it again."
            raise InputError(msg) from error
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            msg = f"'{self.path(name)}' is not valid JSON: {error}. Export it again."
            raise InputError(msg) from error

    @property
    def _all(self) -> frozenset[str]:
        cached = self.__dict__.get("_set")
        if cached is None:
            cached = frozenset(self.names)
            self.__dict__["_set"] = cached
        assert isinstance(cached, frozenset)
        return cached


def suffix_of(name: str) -> str:
    """The suffix of a name in lower case with its dot."""
    last = name.rpartition("/")[2]
    stem, dot, suffix = last.rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def stem_of(name: str) -> str:
    """The last part of a name without its suffix."""
    last = name.rpartition("/")[2]
    stem, dot, _ = last.rpartition(".")
    return stem if dot and stem else last


def folder_of(name: str) -> str:
    """The folder of a name; empty for the root."""
    return name.rpartition("/")[0]


def joined(folder: str | None, name: str) -> str | None:
    """A name from a folder with its `.` and `..` resolved; None where it leads out of the set.

    >>> joined("a/b", "../c.jpg"), joined("a", "../../c.jpg")
    ('a/c.jpg', None)
    """
    if folder is None:
        return None
    parts: list[str] = []
    for part in f"{folder}/{name}".split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def class_list(files: SetFiles) -> list[str]:
    """The names of `classes.txt`, `labels.txt` or `obj.names`, if the set has one such file: one name a line."""
    found = [name for name in files.names if name.rpartition("/")[2].lower() in _CLASS_FILES]
    if not found:
        return []
    names = [line.strip() for line in files.text(min(found, key=lambda name: (name.count("/"), name))).splitlines()]
    return [name for name in names if name]


def rounded(pixels: float) -> float:
    """A coordinate without what a division by the image's side, in fractions or percent, leaves behind its digits."""
    return round(pixels, _DIGITS)


def number(text: str, where: str) -> float:
    """A finite number from a label file; a comma may stand for the decimal point.

    Raises:
        InputError: it is none.

    >>> number(" 12,5", "line 3")
    12.5
    """
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        value = math.nan
    if not abs(value) < 2**31:  # no image has as many pixels on a side
        msg = f"{where}: '{text.strip()[:40]}' is no finite number of an image. Correct it, or export the set again."
        raise InputError(msg)
    return value


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a text that say something, each with its number from 1; `#` begins a remark."""
    for count, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield count, line.strip()


def listed(names: Iterable[str]) -> str:
    """The first names of many, for a message."""
    every = list(names)
    return ", ".join(every[:3]) + (f", ... ({len(every)} in all)" if len(every) > 3 else "")


def _plain(name: str) -> str:
    return pairing_name(name).casefold()


def _bare(name: str) -> str:
    plain = _plain(name)
    return joined(folder_of(plain), stem_of(plain)) or plain


def _parts(given: str) -> list[str]:
    name = given.strip()
    if _ADDRESS.match(name):
        split = urlsplit(name)
        name = unquote(split.path)
        if not name.strip("/"):
            name = unquote(split.netloc)
    name = re.sub(r"^[A-Za-z]:(?=[\\/])", "", name.replace("\\", "/"))
    return [part for part in name.split("/") if part not in ("", ".")]


def _no_mask(name: str) -> bool:
    return not _MASKS & set(name.lower().split("/")[:-1])


def _shared(first: list[str], second: list[str]) -> int:
    """How many parts two paths share at their ends."""
    count = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if one != other:
            break
        count += 1
    return count
