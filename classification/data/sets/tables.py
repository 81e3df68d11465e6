"""Sets whose labels stand in a table: a CSV with a file and a label, or several, in each row."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from classification.data.classes import LabelClasses
from classification.data.sources import LabelledFiles, Targets
from engine.annotations.splits import parts_by_name, shares_of, split_of
from engine.checked import Checked
from engine.data.contracts import SPLITS, SplitName
from engine.errors import InputError, check_choice


@dataclass(frozen=True)
class TableData(Checked):
    """Where the labels of a set stand; paths start from the data's root.

    Args:
        file: the CSV of a set with a column of splits, or without splits.
        train: the CSV of the training images, where each split has its own.
        val: that of the validation images.
        test: that of the test images.
        images: the folder that the names of files start from.
        suffix: what is appended to the names, such as `.jpg`.
        file_column: the column of files; null is the first.
        label_column: the column of labels; null is the second.
        label_columns: the columns that have 1 where an image has the label and 0 elsewhere, in place of one column.
        split_column: the column of splits.
        separator: what stands between several labels of an image; null means that each image has one.
    """

    file: str | None = None
    train: str | None = None
    val: str | None = None
    test: str | None = None
    images: str = ""
    suffix: str = ""
    file_column: str | None = None
    label_column: str | None = None
    label_columns: tuple[str, ...] = ()
    split_column: str | None = None
    separator: str | None = None
    group: ClassVar[str] = "data.table"

    @property
    def several(self) -> bool:
        """Whether images may have several labels."""
        return self.separator is not None or bool(self.label_columns)


class _Row(NamedTuple):
    name: str
    labels: tuple[str, ...]
    split: str


def read_tables(
    root: Path, table: TableData, split: str | None, group: str | None
) -> Mapping[SplitName, LabelledFiles]:
    """The splits of a set.

    Args:
        root: the folder that paths start from.
        table: where the labels stand.
        split: the shares of train, val and test, for a table without splits.
        group: a regular expression; images whose names match it alike stay together.

    Raises:
        InputError: a table is missing or cannot be read as asked, or the splits are not told.
    """
    own = {name: given for name in SPLITS if (given := getattr(table, name)) is not None}
    if bool(own) == (table.file is not None):
        given = "both a file and files of splits" if own else "no file"
        msg = f"data.table has {given}. Give data.table.file, or data.table.train and data.table.val."
        raise InputError(msg)
    if own and (split is not None or table.split_column is not None):
        msg = "data.table has a file for each split. Leave data.split and data.table.split_column out."
        raise InputError(msg)
    if own:
        rows = {name: _rows(root / given, table) for name, given in own.items()}
        return _labelled(root, table, rows, {name: str(root / given) for name, given in own.items()})
    assert table.file is not None
    path = root / table.file
    every = _rows(path, table)
    if (table.split_column is None) == (split is None):
        what = "neither is given" if split is None else "both are given"
        msg = f"'{path}' is split by data.table.split_column or by data.split 0.8/0.1/0.1; {what}. Give one of them."
        raise InputError(msg)
    if split is not None:
        images = [_image(root, table, row) for row in every]
        parts = parts_by_name(images, root / table.images, shares_of(split), group, str(path))
        by_split = {name: [every[place] for place in places.tolist()] for name, places in parts.items()}
    else:
        by_split = {}
        for row in every:
            word = split_of(row.split)
            if word is None:
                msg = f"'{path}' has the split '{row.split}' of '{row.name}'. Name splits train, val or test."
                raise InputError(msg)
            by_split.setdefault(word, []).append(row)
    return _labelled(root, table, by_split, dict.fromkeys(by_split, str(path)))


def read_table(path: Path, images: Path | None, separator: str | None, label_columns: tuple[str, ...]) -> LabelledFiles:
    """The images of a table, all of them as one split.

    Args:
        path: the CSV, whose first column is the file.
        images: the folder that the names of files start from; None is the table's own.
        separator: what stands between several labels of an image, in the second column.
        label_columns: the columns that have 1 where an image has the label; without these and a separator, each image
            has one label, in the second column.

    Raises:
        InputError: the table is missing or cannot be read as asked.
    """
    lacking = sorted({*label_columns} - {*_lines(path)[0]})
    if lacking:
        msg = (
            f"'{path}' has no column '{lacking[0]}'. Give one of 0 and 1 for each class, or say what separates labels."
        )
        raise InputError(msg)
    folder = path.parent if images is None else images
    table = TableData(images=str(folder.resolve()), separator=separator, label_columns=label_columns)
    return _labelled(folder, table, {"val": _rows(path, table)}, {"val": str(path)})["val"]


def _labelled(
    root: Path, table: TableData, by_split: Mapping[SplitName, Sequence[_Row]], sources: Mapping[SplitName, str]
) -> Mapping[SplitName, LabelledFiles]:
    seen = {label for rows in by_split.values() for row in rows for label in row.labels}
    classes = LabelClasses(table.label_columns or tuple(sorted(seen)), table.several)
    places = {name: row for row, name in enumerate(classes.names)}
    return {
        split: LabelledFiles(
            sources[split], classes, [_image(root, table, row) for row in rows], _targets(rows, places, table.several)
        )
        for split, rows in by_split.items()
    }


def _targets(rows: Sequence[_Row], places: Mapping[str, int], several: bool) -> Targets:
    if not several:
        return np.array([places[row.labels[0]] for row in rows], np.int64)
    targets = np.zeros((len(rows), len(places)), np.float32)
    for number, row in enumerate(rows):
        targets[number, [places[label] for label in row.labels]] = 1
    return targets


def _image(root: Path, table: TableData, row: _Row) -> Path:
    return root / table.images / f"{row.name}{table.suffix}"


def _lines(path: Path) -> list[list[str]]:
    """The cells of a table, its line of names first, without empty lines."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file))
    except FileNotFoundError as error:
        msg = f"the table '{path}' does not exist. Check data.root and data.table."
        raise InputError(msg) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"cannot read the table '{path}': {error}. Give a CSV file in UTF-8."
        raise InputError(msg) from error
    lines = [line for line in lines if line]
    if len(lines) < 2 or len(lines[0]) < 2:
        msg = f"the table '{path}' has {len(lines)} lines. Needed are a line of names and rows of a file and a label."
        raise InputError(msg)
    return [[name.strip() for name in lines[0]], *lines[1:]]


def _rows(path: Path, table: TableData) -> list[_Row]:
    head, *lines = _lines(path)
    file_place = _column(head, table.file_column or head[0], "file_column")
    split_place = None if table.split_column is None else _column(head, table.split_column, "split_column")
    if table.label_columns:
        label_places = [_column(head, name, "label_columns") for name in table.label_columns]
    else:
        label_places = [_column(head, table.label_column or head[1], "label_column")]
    rows = []
    for number, line in enumerate(lines, start=2):
        if len(line) != len(head):
            msg = f"'{path}' line {number} has {len(line)} cells; the first line has {len(head)}. Correct it."
            raise InputError(msg)
        where = f"'{path}' line {number}"
        labels = _labels(where, [line[place].strip() for place in label_places], table)
        rows.append(_Row(line[file_place].strip(), labels, "" if split_place is None else line[split_place]))
    return rows


def _column(head: Sequence[str], name: str, option: str) -> int:
    check_choice(f"data.table.{option}", name, head)
    return head.index(name)


def _labels(where: str, cells: Sequence[str], table: TableData) -> tuple[str, ...]:
    if table.label_columns:
        wrong = [cell for cell in cells if cell not in ("0", "1", "0.0", "1.0")]
        if wrong:
            msg = f"{where} has '{wrong[0]}' for a label; allowed are 0 and 1."
            raise InputError(msg)
        return tuple(name for name, cell in zip(table.label_columns, cells, strict=True) if float(cell))
    if table.separator is not None:
        return tuple(dict.fromkeys(part.strip() for part in cells[0].split(table.separator) if part.strip()))
    if not cells[0]:
        msg = f"{where} has no label. Give one; several are given with data.table.separator."
        raise InputError(msg)
    return (cells[0],)
