"""Which format lies in a folder, of those that a task reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, TypeVar

from engine.annotations.files import SetFiles
from engine.annotations.json_kinds import UNREAD, json_files
from engine.annotations.shapes import ShapeSet
from engine.annotations.tools import coco, cvat, label_studio, labelme, supervisely, via, yolo
from engine.errors import InputError

ShapeWord = Literal["labelme", "label_studio", "cvat", "via", "supervisely"]
DrawnWord = Literal["coco", "yolo", "labelme", "label_studio", "cvat", "via", "supervisely"]
Word = TypeVar("Word", bound=str)


class Claimed(Protocol):
    """A reader of a format: its name, and which label files of a set are of it."""

    @property
    def name(self) -> str:
        """What the format is called."""
        ...

    @property
    def claims(self) -> Callable[[SetFiles], list[str]]:
        """The label files of the format."""
        ...


class ShapeTool(NamedTuple):
    """An annotation tool whose files hold shapes.

    Attributes:
        name: what it is called.
        claims: its label files in a set.
        read: the images and shapes in these.
    """

    name: str
    claims: Callable[[SetFiles], list[str]]
    read: Callable[[SetFiles, Sequence[str]], ShapeSet]


SHAPE_TOOLS: Mapping[ShapeWord, ShapeTool] = {
    "labelme": ShapeTool(labelme.NAME, labelme.claims, labelme.read),
    "label_studio": ShapeTool(label_studio.NAME, label_studio.claims, label_studio.read),
    "cvat": ShapeTool(cvat.NAME, cvat.claims, cvat.read),
    "via": ShapeTool(via.NAME, via.claims, via.read),
    "supervisely": ShapeTool(supervisely.NAME, supervisely.claims, supervisely.read),
}
# What may hold outlines of objects, for those who need more than boxes or cut objects out.
DRAWN_TOOLS: Mapping[DrawnWord, ShapeTool] = {
    "coco": ShapeTool(coco.NAME, coco.claims, coco.read),
    "yolo": ShapeTool(yolo.NAME, yolo.claims, yolo.read),
    **dict(SHAPE_TOOLS.items()),
}


def recognised(
    files: SetFiles, readers: Mapping[Word, Claimed], word: Word | None, option: str
) -> tuple[Word, list[str]]:
    """The format of a set, and its label files.

    Args:
        files: the set.
        readers: the formats that are read.
        word: the format, where the user says it; None recognises it.
        option: how the user says it, such as `--data.format`.

    Raises:
        InputError: none of the formats lies there, or several do.
    """
    wanted = readers if word is None else {word: readers[word]}
    found = {one: labels for one, reader in wanted.items() if (labels := reader.claims(files))}
    if len(found) == 1:
        return next(iter(found.items()))
    where = f"'{files.path(files.only)}'" if files.only else f"'{files.root}'"
    if found:
        names = " and ".join(readers[one].name for one in found)
        msg = f"{where} holds labels as {names}. Say which: {option} {' or '.join(found)}."
        raise InputError(msg)
    for kind in json_files(files):
        if kind in UNREAD:
            why, remedy = UNREAD[kind]
            msg = f"{where} is {kind}: {why}. {remedy}"
            raise InputError(msg)
    if files.ending(".tfrecord", ".tfrecords", ".tfrec"):
        msg = (
            f"{where} is TFRecord, which packs images and labels into files of TensorFlow and is not read. Export the "
            "set as COCO, or unpack it first (docs/data.md)."
        )
        raise InputError(msg)
    what = "labels" if word is None else f"labels as {readers[word].name}"
    known = ", ".join(reader.name for reader in readers.values())
    images = f"{counted(len(files.images), 'image')} and no {what}" if files.images else f"no images and no {what}"
    msg = f"{where} holds {images} that are known ({known}). Give the folder that holds both."
    raise InputError(msg)


def counted(count: int, what: str) -> str:
    """A number with its word.

    >>> counted(2, "box"), counted(1, "class")
    ('2 boxes', '1 class')
    """
    many = {"class": "classes", "box": "boxes"}.get(what, f"{what}s")
    return f"{count:,} {what if count == 1 else many}"
