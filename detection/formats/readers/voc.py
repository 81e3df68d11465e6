"""Pascal VOC: one XML for each image, with `ImageSets/Main/*.txt` for the splits."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

from detection.data.boxes import BoxTable
from detection.formats.collected import Collected, ReadOptions
from engine.annotations.files import SetFiles, class_list, folder_of, lines_of, listed, number, stem_of
from engine.annotations.splits import ALL, folder_split
from engine.annotations.xml_text import parse_xml, text_of
from engine.data.contracts import SPLITS
from engine.errors import InputError

NAME = "Pascal VOC"
_SIDES = ("xmin", "ymin", "xmax", "ymax")


class _Object(NamedTuple):
    name: str
    corners: tuple[float, float, float, float]
    difficult: bool
    fraction: bool


class _Picture(NamedTuple):
    label: str
    image: str
    size_hw: tuple[int, int]
    database: str
    own_path: bool
    objects: tuple[_Object, ...]


def claims(files: SetFiles) -> list[str]:
    """The XML files whose first tag is `annotation`."""
    names = files.ending(".xml")
    return names if any(_is_voc(files, name) for name in names[:3]) else []


def read(files: SetFiles, labels: Sequence[str], options: ReadOptions) -> Mapping[str, BoxTable]:
    """The images and boxes; difficult objects are kept, and are crowds to a score, as VOC leaves them out of its own.

    VOC counts pixels from 1 and its last pixel belongs to the box, so that `xmin` 1 is the edge 0. Most tools write
    edges from 0 in the same tags; which it is, `options.voc_origin` says, or else the coordinates.

    Raises:
        InputError: a file is not VOC's, a list names an image without XML, or a box has no finite corners.
    """
    collected = Collected(files, options, class_list(files))
    pictures = list(_pictures(files, labels))
    first = _origin(pictures) if options.voc_origin == "auto" else int(options.voc_origin)
    if options.voc_origin == "auto":
        files.note(f"Pascal VOC: pixels are counted from {first} (--data.voc_origin says otherwise)", 0)
    for split, chosen in _splits(files, pictures):
        for picture in chosen:
            place = collected.image(split, picture.image, picture.size_hw)
            for one in picture.objects:
                left, top, right, bottom = one.corners
                left, right = _in_order(left, right, first)
                top, bottom = _in_order(top, bottom, first)
                if (left, top) != one.corners[:2]:
                    files.note("boxes have their corners swapped and were turned")
                try:
                    collected.box(split, place, one.name, (left - first, top - first, right, bottom), one.difficult)
                except InputError as error:
                    files.refuse(picture.label, error)
    return collected.tables(NAME)


def _is_voc(files: SetFiles, name: str) -> bool:
    return re.search(r"<\s*annotation[\s>]", files.text(name, 4096)) is not None


def _pictures(files: SetFiles, labels: Sequence[str]) -> Iterator[_Picture]:
    for name in labels:
        try:
            picture = _picture(files, name)
        except InputError as error:
            files.refuse(name, error)
            continue
        if picture is not None:
            yield picture


def _picture(files: SetFiles, name: str) -> _Picture | None:
    root = parse_xml(files.raw(name), str(files.path(name)))
    if root.tag != "annotation":
        files.note("XML files are no annotations and were left out")
        return None
    stated = text_of(root, "filename")
    # The name of the XML is right where the two differ: a tag stays as it was when files are renamed.
    image = files.image(stem_of(name), folder_of(name)) or files.image_or_missing(stated or f"{stem_of(name)}.jpg")
    size = root.find("size")
    size_hw = (0, 0) if size is None else (_side(size, "height"), _side(size, "width"))
    objects = []
    for entry in root.findall("object"):
        try:
            objects.append(_object(files, name, entry))
        except InputError as error:
            files.refuse(name, error)
    database = text_of(root, "source/database")
    known_hw = size_hw if all(size_hw) else (0, 0)
    return _Picture(name, image, known_hw, database, root.find("path") is not None, tuple(objects))


def _side(size: Element, tag: str) -> int:
    text = text_of(size, tag)
    return max(0, int(number(text, f"the {tag} in <size>"))) if text else 0


def _object(files: SetFiles, name: str, entry: Element) -> _Object:
    box = entry.find("bndbox")  # a part of a person has one too, within its own tag
    where = f"'{files.path(name)}'"
    if box is None:
        msg = f"{where} has an object without <bndbox>. Give it one, or remove it."
        raise InputError(msg)
    texts = [text_of(box, side) for side in _SIDES]
    left, top, right, bottom = (number(text, f"{where}, <{side}>") for text, side in zip(texts, _SIDES, strict=True))
    difficult = text_of(entry, "difficult").lower() in ("1", "true", "yes")
    return _Object(text_of(entry, "name"), (left, top, right, bottom), difficult, any("." in text for text in texts))


def _in_order(low: float, high: float, first: int) -> tuple[float, float]:
    """The two sides of a box; where pixels count from 1, those of one narrower than a pixel are not swapped."""
    return (low, high) if low - first < high else (min(low, high), max(low, high))


def _origin(pictures: Sequence[_Picture]) -> int:
    """1 where the coordinates are VOC's own, 0 where a tool wrote edges.

    LabelImg writes edges from 0 with 0 raised to 1, an unknown database, and the path of its author.
    """
    if any(re.search(r"VOC ?20\d\d", picture.database) for picture in pictures):
        return 1
    objects = [(one, picture) for picture in pictures for one in picture.objects]
    if any(one.fraction or min(one.corners) < 1 for one, _ in objects):
        return 0
    if any(picture.own_path and picture.database == "Unknown" for picture in pictures):
        return 0
    beyond = [
        max(one.corners[2] - (picture.size_hw[1] or math.inf), one.corners[3] - (picture.size_hw[0] or math.inf))
        for one, picture in objects
    ]
    return 1 if beyond and max(beyond) == 0 else 0


def _splits(files: SetFiles, pictures: Sequence[_Picture]) -> list[tuple[str, list[_Picture]]]:
    lists = {} if files.only else _lists(files)
    if not lists:
        found: dict[str, list[_Picture]] = {}
        for picture in pictures:
            found.setdefault(folder_split(picture.label), []).append(picture)
        return list(found.items())
    by_stem = {stem_of(picture.label): picture for picture in pictures}
    chosen = []
    for split, name in lists.items():
        stems = [stem for _, line in lines_of(files.text(name)) if (stem := _stem(line, by_stem))]
        named = {Path(row.file).stem for row in files.broken or ()}  # XML that cannot be read is told already
        missing = [stem for stem in stems if stem not in by_stem and stem_of(stem) not in named]
        if missing:
            msg = f"'{files.path(name)}' lists images without XML: {listed(missing)}. Add them, or take them off."
            files.refuse(name, InputError(msg))
        chosen.append((split, [by_stem[stem] for stem in stems if stem in by_stem]))
    return chosen


def _stem(line: str, known: Mapping[str, _Picture]) -> str:
    """The name in a line, which may have a flag behind it, a folder before it, or a suffix."""
    for name in (line, line.rsplit(maxsplit=1)[0]):
        for stem in (name, stem_of(name), name.rpartition("/")[2]):
            if stem in known:
                return stem
    return line


def _lists(files: SetFiles) -> dict[str, str]:
    """The list of each split; `trainval` stands for train where that has none."""
    there = {stem_of(name).lower(): name for name in files.names if "/Main/" in f"/{name}" and name.endswith(".txt")}
    found: dict[str, str] = {split: there[split] for split in SPLITS if split in there}
    if "train" not in found and "trainval" in there:
        found["train"] = there["trainval"]
    if not found and "default" in there:  # CVAT's
        found[ALL] = there["default"]
    return {split: found[split] for split in (*SPLITS, ALL) if split in found}
