"""Open Images: a table of boxes as fractions of the images, whose classes are codes such as `/m/01g317`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from detection.data.boxes import BoxTable
from detection.formats.collected import Collected, ReadOptions
from engine.annotations.files import SetFiles, folder_of, number, rounded
from engine.annotations.splits import ALL, folder_split, split_of
from engine.errors import InputError

NAME = "Open Images"
_SIDES = ("XMin", "YMin", "XMax", "YMax")
_NEEDED = frozenset(("ImageID", "LabelName", *_SIDES))


def claims(files: SetFiles) -> list[str]:
    """The tables with the columns of Open Images."""
    return [name for name in files.ending(".csv") if set(_header(files, name)) >= _NEEDED]


def read(files: SetFiles, labels: Sequence[str], options: ReadOptions) -> Mapping[str, BoxTable]:
    """The images and boxes; a box around a group of objects is a crowd.

    Labels are named by `class-descriptions*.csv`, where it lies in the set, and boxes that were not verified, of
    `Confidence` 0, are left out. Images that the set lacks are left out too: tables name millions.

    Raises:
        InputError: a row has a number that is none, or no image of the tables is there.
    """
    names = _descriptions(files)
    collected = Collected(files, options)
    images: dict[tuple[str, str], str | None] = {}
    for label in labels:
        said = split_of(label)
        reader = csv.DictReader(io.StringIO(files.text(label).removeprefix("\ufeff"), newline=""))
        try:
            for row in reader:
                image = _image(files, label, row["ImageID"] or "", said, images)
                if image is None:
                    continue
                split = said or folder_split(image) or ALL
                try:
                    size_hw = files.size_hw(image)
                except InputError:
                    if files.broken is None:
                        raise
                    collected.image(split, image)  # what reads the images says what is wrong with it
                    continue
                place = collected.image(split, image, size_hw)
                if (row.get("Confidence") or "1").strip() in ("0", "0.0"):
                    files.note(
                        "boxes have the confidence 0, which means that no such object is there, and were left out"
                    )
                    continue
                code = (row["LabelName"] or "").strip()
                try:
                    sides = _sides(f"'{files.path(label)}', line {reader.line_num}", row, size_hw)
                    crowd = (row.get("IsGroupOf") or "").strip() == "1"
                    collected.box(split, place, names.get(code, code), sides, crowd)
                except InputError as error:
                    files.refuse(label, error)
        except csv.Error as error:
            msg = f"'{files.path(label)}', line {reader.line_num}: {error}. Correct it, or export it again."
            raise InputError(msg) from error
    absent = sum(image is None for image in images.values())
    if absent == len(images):
        msg = f"'{files.root}' is {NAME}, but has none of the {absent:,} images of its tables. Bring them there."
        raise InputError(msg)
    if absent:
        files.note("images of the tables are not there and were left out", absent)
    if not names:
        files.note("Open Images: classes keep their codes, as no class-descriptions CSV lies there", 0)
    return collected.tables(NAME)


def _sides(where: str, row: Mapping[str, str], size_hw: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a row in pixels."""
    left, top, right, bottom = (number(row[side] or "", f"{where}, {side}") for side in _SIDES)
    worst = max(left, top, right, bottom, key=lambda side: abs(side - 0.5))
    if abs(worst - 0.5) > 0.51:
        msg = f"{where}: {worst:g} is no fraction of a side; allowed is 0 to 1. Divide pixels by it."
        raise InputError(msg)
    height, width = size_hw
    return rounded(left * width), rounded(top * height), rounded(right * width), rounded(bottom * height)


def _header(files: SetFiles, name: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([files.text(name, 4096).partition("\n")[0]]), [])]


def _image(
    files: SetFiles, label: str, given: str, split: str | None, known: dict[tuple[str, str], str | None]
) -> str | None:
    key = (label, given)
    if key not in known:
        known[key] = files.image(given, folder_of(label), lambda image: split is None or folder_split(image) == split)
    return known[key]


def _descriptions(files: SetFiles) -> dict[str, str]:
    """The names of the codes: a table with a code and a name in each row, with a header or without."""
    found: dict[str, str] = {}
    for name in files.names:
        if name.endswith(".csv") and "class-descriptions" in name.rpartition("/")[2]:
            for row in csv.reader(io.StringIO(files.text(name), newline="")):
                if len(row) == 2 and row[0].startswith("/"):
                    found[row[0].strip()] = row[1].strip()
    return found
