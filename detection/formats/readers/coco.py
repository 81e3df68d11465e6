"""COCO: one JSON for each split, in any of the folders that exporters use; read by `CocoAnnotations`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from detection.data.boxes import BoxTable, ends_of
from detection.data.classes import BoxClasses
from detection.data.coco import CocoAnnotations
from detection.formats.collected import ReadOptions
from detection.formats.readers.coco_rows import Dataset, around, sound_entries
from engine.annotations.files import SetFiles, folder_of
from engine.annotations.splits import folder_split
from engine.annotations.tools.coco import by_split
from engine.errors import InputError


class _Category(msgspec.Struct):
    id: int
    name: str
    supercategory: str | None = None


class _Categories(msgspec.Struct):
    categories: list[_Category] = []


def read(files: SetFiles, labels: Sequence[str], options: ReadOptions) -> Mapping[str, BoxTable]:
    """The images and boxes of each file, under the file's own ids.

    Raises:
        InputError: a file cannot be used, or two files are of the same split.
    """
    found = {split: _table(files, name, split) for split, name in by_split(files, labels).items()}
    return {split: _ordered(table, options.classes) for split, table in found.items()}


def _table(files: SetFiles, name: str, split: str) -> BoxTable:
    path = files.path(name)
    try:
        table: BoxTable = CocoAnnotations.read(path)
    except InputError as error:
        if "no 'bbox'" in str(error):
            table = _of_shapes(files, name)
        elif files.broken is None:
            raise
        else:
            table = sound_entries(path, None, error, files.broken)
    table = _without_root(files, name, table)
    _check_boxes(path_text=str(path), table=table)
    return _located(files, name, table, split)


def _of_shapes(files: SetFiles, name: str) -> BoxTable:
    """A file in which boxes are missing, with those around masks in their place."""
    path = files.path(name)
    try:
        raw, shapes = _boxes_of_shapes(files, name)
        given = CocoAnnotations.to_score(Dataset(raw))
    except InputError as error:
        if files.broken is None:
            raise
        return sound_entries(path, None, error, files.broken)
    files.note("annotations without a box got the box around their mask", shapes)
    return dataclasses.replace(given, source=str(path), image_folder=path.parent)


def _boxes_of_shapes(files: SetFiles, name: str) -> tuple[Mapping[str, object], int]:
    """The file's content, in which each annotation without a box has the one around its mask, and how many."""
    content = files.json(name, dict[str, object])
    annotations = content.get("annotations")
    count = 0
    for number, entry in enumerate(annotations if isinstance(annotations, list) else []):
        if isinstance(entry, dict) and entry.get("bbox") is None:
            entry["bbox"] = around(f"'{files.path(name)}': annotations[{number}]", entry.get("segmentation"))
            count += 1
    return content, count


def _without_root(files: SetFiles, name: str, table: BoxTable) -> BoxTable:
    """Without the class that Roboflow puts before the others: named as the set, and above all, and without a box."""
    if table.classes.category_ids[0] != 0 or len(table.classes) < 2 or (table.class_ids == 0).any():
        return table
    categories = files.json(name, _Categories).categories
    first = next(category for category in categories if category.id == 0)
    if not any(category.supercategory == first.name for category in categories if category.id):
        return table
    files.note(f"COCO: Roboflow's class 0, '{first.name}', has no boxes and was left out", 0)
    classes = BoxClasses(table.classes.names[1:], table.classes.category_ids[1:])
    return dataclasses.replace(table, classes=classes, class_ids=table.class_ids - 1)


def _check_boxes(path_text: str, table: BoxTable) -> None:
    """Refuse boxes that are written in another convention throughout."""
    boxes = table.boxes_xywh
    if not len(boxes):
        return
    if boxes.max() <= 1 and (boxes[:, 2:] > 0).all():
        msg = f"annotation file '{path_text}': all boxes lie within 0 and 1. Allowed are pixels: multiply by the size."
        raise InputError(msg)
    sizes = np.repeat(table.sizes_hw, np.diff(table.box_ends), axis=0)[:, ::-1]
    beyond = ((boxes[:, :2] + boxes[:, 2:] > sizes + 1) & (sizes > 0)).any(axis=1)
    if ((boxes[:, 2:] > boxes[:, :2]).all(axis=1) & beyond).mean() > 0.5:
        msg = (
            f"annotation file '{path_text}': most boxes end outside their images, as corners in place of "
            "[x, y, width, height]. Subtract x and y from the third and fourth number."
        )
        raise InputError(msg)


def _located(files: SetFiles, name: str, table: BoxTable, split: str) -> BoxTable:
    """The table with the names of the files that lie there."""
    folder = folder_of(name)
    names = []
    for place in range(len(table)):
        given = table.file_name(place)
        names.append(
            str(files.path(files.image_or_missing(given, folder, lambda image: folder_split(image) == split))).encode()
        )
    return dataclasses.replace(
        table,
        image_folder=Path(),
        name_bytes=np.frombuffer(bytearray().join(names), np.uint8),
        name_ends=ends_of(np.array([len(one) for one in names], np.int64)),
    )


def _ordered(table: BoxTable, names: Sequence[str]) -> BoxTable:
    """The table with the user's classes in place of its own, matched by name."""
    if not names:
        return table
    rows = [names.index(name) if name in names else -1 for name in table.classes.names]
    missing = [table.classes.names[row] for row in np.unique(table.class_ids) if rows[row] < 0]
    if missing:
        msg = f"'{table.source}' has boxes of the class '{missing[0]}', which --data.classes lacks. Add it there."
        raise InputError(msg)
    classes = BoxClasses(tuple(names), tuple(range(1, len(names) + 1)))
    return dataclasses.replace(table, classes=classes, class_ids=np.array(rows, np.int32)[table.class_ids])
