"""A set as it lies there: its format, recognised, and its splits, read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from detection.data.boxes import BoxTable
from detection.formats.collected import ReadOptions
from detection.formats.readers import coco, csv_boxes, dota, kitti, openimages, voc
from detection.formats.readers.shapes import read_yolo, reader
from detection.formats.splits import with_splits
from engine.annotations.files import BrokenRow, SetFiles
from engine.annotations.recognised import SHAPE_TOOLS, counted, recognised
from engine.annotations.splits import ALL, shares_of
from engine.annotations.tools import coco as coco_tool
from engine.annotations.tools import yolo
from engine.data.contracts import SPLITS, SplitName
from engine.errors import InputError

FormatWord = Literal[
    "coco", "voc", "yolo", "csv", "openimages", "kitti", "dota", "labelme", "label_studio", "cvat", "via", "supervisely"
]


class _Reader(NamedTuple):
    name: str
    claims: Callable[[SetFiles], list[str]]
    read: Callable[[SetFiles, Sequence[str], ReadOptions], Mapping[str, BoxTable]]


READERS: Mapping[FormatWord, _Reader] = {
    "coco": _Reader(coco_tool.NAME, coco_tool.claims, coco.read),
    "voc": _Reader(voc.NAME, voc.claims, voc.read),
    "yolo": _Reader(yolo.NAME, yolo.claims, read_yolo),
    "csv": _Reader(csv_boxes.NAME, csv_boxes.claims, csv_boxes.read),
    "openimages": _Reader(openimages.NAME, openimages.claims, openimages.read),
    "kitti": _Reader(kitti.NAME, kitti.claims, kitti.read),
    "dota": _Reader(dota.NAME, dota.claims, dota.read),
    **{word: _Reader(tool.name, tool.claims, reader(tool)) for word, tool in SHAPE_TOOLS.items()},
}


@dataclass(frozen=True, eq=False)
class FoundSet:
    """A set that was recognised and read.

    Attributes:
        root: its folder.
        format_name: the name of its format.
        splits: the images of each split; those of a set without splits stand under `all`.
        notes: what a user should know of the reading.
        prefix: of the options of the command that reads it, for messages.
    """

    root: Path
    format_name: str
    splits: Mapping[str, BoxTable]
    notes: tuple[str, ...] = ()
    prefix: str = "--"

    def line(self) -> str:
        """The set in one line: format, images, classes, boxes, splits."""
        images = sum(len(table) for table in self.splits.values())
        boxes = sum(len(table.boxes_xywh) for table in self.splits.values())
        names = {name for table in self.splits.values() for name in table.classes.names}
        counts = ", ".join(f"{split} {len(table):,}" for split, table in self.splits.items() if split != ALL)
        return (
            f"{self.format_name}, {counted(images, 'image')}, {counted(len(names), 'class')}, "
            f"{counted(boxes, 'box')}{f' ({counts})' if counts else ''}"
        )

    def parts(self, split: str | None, group: str | None) -> Mapping[SplitName, BoxTable]:
        """The set by train, val and test; made by `split` where the set has at most one part.

        Raises:
            InputError: the set has no splits and none are asked for, or it has some and others are asked for.
        """
        option = f"{self.prefix}split"
        if split is None:
            if group is not None:
                msg = f"group keeps images together that split would part. Give {option} too, such as 0.8/0.1/0.1."
                raise InputError(msg)
            if ALL in self.splits:
                msg = f"'{self.root}' ({self.format_name}) has no splits. Give {option}, such as 0.8/0.1/0.1."
                raise InputError(msg)
            return {name: self.splits[name] for name in SPLITS if name in self.splits}
        shares = shares_of(split)
        if len(self.splits) > 1:
            msg = f"'{self.root}' has the splits {', '.join(self.splits)} already. Leave {option} out."
            raise InputError(msg)
        return with_splits(next(iter(self.splits.values())), self.root, shares, group)


def read_set(
    root: str | Path,
    format_word: FormatWord | None = None,
    options: ReadOptions = ReadOptions(),
    broken: list[BrokenRow] | None = None,
    prefix: str = "--",
) -> FoundSet:
    """Recognise what lies in a folder, and read it.

    Args:
        root: the folder of a set, or one label file of it.
        format_word: the format, where a folder holds several; None recognises it.
        options: what the files leave open.
        broken: where rows that cannot be read are noted; None ends the reading at the first.
        prefix: of the options of the command, such as `--data.`, for messages.

    Raises:
        InputError: there is no such folder, no format or several formats are recognised, or a label file cannot be
            used.
    """
    files = SetFiles.below(root, broken)
    word, labels = recognised(files, READERS, format_word, f"{prefix}format")
    reader = READERS[word]
    tables = reader.read(files, labels, options)
    ordered = {split: tables[split] for split in (*SPLITS, ALL) if split in tables}
    notes = [f"{count:,} {what}" if count else what for what, count in files.notes.items()]
    return FoundSet(files.root, reader.name, ordered, tuple(notes), prefix)


assert set(get_args(FormatWord)) == set(READERS)
