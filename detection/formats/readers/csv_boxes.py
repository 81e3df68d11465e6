"""Tables of boxes: a CSV with a box in each row, under any of the headers that tools write, or without one."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from detection.data.boxes import BoxTable
from detection.formats.collected import Collected, ReadOptions
from engine.annotations.files import SetFiles, folder_of, number
from engine.annotations.splits import ALL, folder_split, split_of
from engine.errors import InputError

NAME = "CSV of boxes"

# What a column may be called, without capitals, spaces, `_` and `-`. The first name that a file has counts.
_CALLED: Mapping[str, tuple[str, ...]] = {
    "image": ("filename", "file", "image", "imagepath", "path", "imagename", "img", "imageid", "filepath"),
    "name": ("class", "label", "classname", "labelname", "name", "category", "labels", "species"),
    "left": ("xmin", "x1", "left", "xtl", "minx", "xmn"),
    "top": ("ymin", "y1", "top", "ytl", "miny"),
    "right": ("xmax", "x2", "right", "xbr", "maxx"),
    "bottom": ("ymax", "y2", "bottom", "ybr", "maxy"),
    "x": ("x", "bboxx", "boxx"),
    "y": ("y", "bboxy", "boxy"),
    "w": ("w", "bboxwidth", "bw", "boxwidth", "width"),
    "h": ("h", "bboxheight", "bh", "boxheight", "height"),
    "box": ("bbox", "box"),
    "split": ("split", "subset", "set"),
}
_NO_HEADER = ("image", "left", "top", "right", "bottom", "name")  # Keras-RetinaNet's


@dataclass(frozen=True)
class _Columns:
    """Where the columns of a file are."""

    places: Mapping[str, int]
    header: bool
    delimiter: str
    image_size: tuple[int, int] | None  # columns of the image's height and width

    @property
    def corners(self) -> bool:
        return {"left", "top", "right", "bottom"} <= set(self.places)

    @property
    def sides(self) -> bool:
        return {"w", "h"} <= set(self.places) and (
            {"x", "y"} <= set(self.places) or {"left", "top"} <= set(self.places)
        )


def claims(files: SetFiles) -> list[str]:
    """The tables that have a column of images and columns of boxes."""
    return [name for name in files.ending(".csv", ".tsv") if _columns(files.text(name, 4096)) is not None]


def read(files: SetFiles, labels: Sequence[str], options: ReadOptions) -> Mapping[str, BoxTable]:
    """The images of the tables with their boxes; a row without numbers is an image without objects.

    A set whose numbers all lie between 0 and 1 is in fractions of the images, others in pixels.

    Raises:
        InputError: a row has too few columns or a number that is none.
    """
    rows = [(name, line, row) for name in labels for line, row in _rows(files, name)]
    fractions = _in_fractions(files, rows)
    collected = Collected(files, options, _class_map(files, labels))
    images: dict[tuple[str, str], str] = {}
    for name, line, row in rows:
        given = row["image"]
        if (name, given) not in images:
            images[name, given] = files.image_or_missing(given, folder_of(name))
        image = images[name, given]
        split = split_of(row.get("split", "")) or split_of(name) or folder_split(image) or ALL
        try:
            _add(collected, split, image, f"'{files.path(name)}', line {line}", row, fractions=fractions)
        except InputError as error:
            files.refuse(name, error)
    return collected.tables(NAME)


def _add(collected: Collected, split: str, image: str, where: str, row: Mapping[str, str], *, fractions: bool) -> None:
    """Add the image of a row and its box."""
    stated = row.get("height", ""), row.get("width", "")
    size_hw = (int(number(stated[0], where)), int(number(stated[1], where))) if all(stated) else None
    if fractions and size_hw is None:
        size_hw = collected.files.size_hw(image)
    place = collected.image(split, image, size_hw)
    corners = _corners(row, where)
    if corners is None:
        return
    if fractions and size_hw is not None:
        height, width = size_hw
        corners = (corners[0] * width, corners[1] * height, corners[2] * width, corners[3] * height)
    collected.box(split, place, row.get("name", "object"), corners)


def _columns(head: str) -> _Columns | None:
    """The columns of a table, by its first line; None if it is no table of boxes."""
    first = next((line for line in head.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    cells = next(csv.reader([first], delimiter=delimiter), [])
    plain = [re.sub(r"[\s_#-]", "", cell.lower()) for cell in cells]
    if plain[:1] == ["imageid"] and "labelname" in plain:
        return None  # OpenImages, whose order and units are its own
    places = {
        what: next(plain.index(name) for name in names if name in plain)
        for what, names in _CALLED.items()
        if any(name in plain for name in names)
    }
    corners = {"left", "top", "right", "bottom"} <= set(places)
    size = (places.pop("h"), places.pop("w")) if corners and {"w", "h"} <= set(places) else None
    found = _Columns(places, True, delimiter, size)
    if "image" in places and (corners or found.sides or "box" in places):
        return found
    if (
        len(cells) == 6
        and all(_is_number(cell) or not cell.strip() for cell in cells[1:5])
        and not _is_number(cells[5])
    ):
        return _Columns({what: place for place, what in enumerate(_NO_HEADER)}, False, delimiter, None)
    return None


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"\s*-?\d+([.,]\d+)?([eE][+-]?\d+)?\s*", cell) is not None


def _rows(files: SetFiles, name: str) -> Iterator[tuple[int, dict[str, str]]]:
    text = files.text(name)
    columns = _columns(text[:4096])
    assert columns is not None
    wanted = dict(columns.places)
    if columns.image_size is not None:
        wanted["height"], wanted["width"] = columns.image_size
    needed = max(wanted.values()) + 1
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=columns.delimiter)
    try:
        for count, cells in enumerate(reader):
            if not any(cell.strip() for cell in cells) or (count == 0 and columns.header):
                continue
            if len(cells) < needed:
                where = f"'{files.path(name)}', line {reader.line_num}"
                msg = f"{where}: {len(cells)} columns; needed are {needed}. Correct it."
                files.refuse(name, InputError(msg))
                continue
            yield reader.line_num, {what: cells[place].strip() for what, place in wanted.items()}
    except csv.Error as error:
        msg = f"'{files.path(name)}', line {reader.line_num}: {error}. Correct it, or export it again."
        raise InputError(msg) from error


def _corners(row: Mapping[str, str], where: str) -> tuple[float, float, float, float] | None:
    """Left, top, right and bottom of a row; None where it has no box."""
    if "box" in row and not {"left", "right"} <= set(row):
        cells = re.findall(r"[^\s,\[\]()]+", row["box"])
        kind = ("left", "top", "w", "h")
        if len(cells) not in (0, 4):
            msg = f"{where}: the box '{row['box'][:40]}' has {len(cells)} numbers; allowed is [x, y, width, height]."
            raise InputError(msg)
    elif {"left", "top", "right", "bottom"} <= set(row):
        kind = ("left", "top", "right", "bottom")
        cells = [row[what] for what in kind]
    else:
        kind = ("left", "top", "w", "h")
        cells = [row.get("left") or row.get("x", ""), row.get("top") or row.get("y", ""), row["w"], row["h"]]
    if not any(cells) or all(cell.lower() in ("", "nan", "null", "none") for cell in cells):
        return None
    left, top, third, fourth = (number(cell, where) for cell in cells)
    if kind[2] == "right":
        return left, top, third, fourth
    if third < 0 or fourth < 0:
        msg = f"{where}: a box of {third:g} x {fourth:g}; width and height must be at least 0. Correct or remove it."
        raise InputError(msg)
    return left, top, left + third, top + fourth


def _in_fractions(files: SetFiles, rows: Sequence[tuple[str, int, Mapping[str, str]]]) -> bool:
    """Whether all boxes are fractions of the images: none goes beyond 1, and they are not whole numbers."""
    largest, whole, boxes = 0.0, True, 0
    for name, line, row in rows:
        try:
            corners = _corners(row, f"'{files.path(name)}', line {line}")
        except InputError:
            if files.broken is None:
                raise
            continue  # it is named when the row is added
        if corners is not None:
            boxes += 1
            largest = max(largest, *corners)
            whole = whole and all(corner == int(corner) for corner in corners)
    if boxes and largest <= 1 and not whole:
        files.note("CSV: all boxes lie within 0 and 1 and were taken as fractions of the images", 0)
        return True
    return False


def _class_map(files: SetFiles, labels: Sequence[str]) -> list[str]:
    """The order of classes from a table `name,id` beside the boxes, if there is one."""
    for name in files.ending(".csv"):
        if name in labels or folder_of(name) not in {folder_of(label) for label in labels}:
            continue
        rows = [row for row in csv.reader(io.StringIO(files.text(name))) if row]
        if rows and all(len(row) == 2 and row[1].strip().isdigit() for row in rows):
            return [row[0].strip() for row in sorted(rows, key=lambda row: int(row[1]))]
    return []
