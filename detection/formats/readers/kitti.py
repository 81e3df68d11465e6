"""KITTI: a text for each image, with 15 columns in a row of which the fifth to the eighth are a box in pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from detection.data.boxes import BoxTable
from detection.formats.collected import Collected, ReadOptions
from engine.annotations.files import SetFiles, folder_of, lines_of, number, stem_of
from engine.annotations.splits import folder_split
from engine.errors import InputError

NAME = "KITTI"
_COLUMNS = (15, 16)  # the sixteenth is the score of a detection
_IGNORED = "DontCare"


def claims(files: SetFiles) -> list[str]:
    """The texts of folders whose first text has rows of KITTI."""
    folders: dict[str, list[str]] = {}
    for name in files.ending(".txt"):
        folders.setdefault(folder_of(name), []).append(name)
    return [name for names in folders.values() if any(_is_kitti(files, name) for name in names[:3]) for name in names]


def read(files: SetFiles, labels: Sequence[str], options: ReadOptions) -> Mapping[str, BoxTable]:
    """The images and boxes; a `DontCare` region is a crowd of every class.

    Raises:
        InputError: a row has another number of columns, a number that is none, or a score, as detections have.
    """
    collected = Collected(files, options)
    for name in labels:
        image = files.image(stem_of(name), folder_of(name), lambda found: "image_2" in found.split("/"))
        image = image or f"{stem_of(name)}.png"
        split = folder_split(image) if folder_of(image) else folder_split(name)
        place = collected.image(split, image)
        for line, text in lines_of(files.text(name)):
            try:
                called, corners = _row(f"'{files.path(name)}', line {line}", text)
                if called == _IGNORED:
                    collected.ignore(split, place, corners)
                else:
                    collected.box(split, place, called, corners)
            except InputError as error:
                files.refuse(name, error)
    return collected.tables(NAME)


def _row(where: str, text: str) -> tuple[str, tuple[float, float, float, float]]:
    """The class of a row and its corners."""
    cells = text.split()
    if len(cells) not in _COLUMNS:
        msg = f"{where}: {len(cells)} columns; allowed are {_COLUMNS[0]}. Correct the row."
        raise InputError(msg)
    if len(cells) == _COLUMNS[1]:
        msg = f"{where}: 16 columns, as detections with a score have. Give labels, which have 15."
        raise InputError(msg)
    left, top, right, bottom = (number(cell, where) for cell in cells[4:8])
    return cells[0], (left, top, right, bottom)


def _is_kitti(files: SetFiles, name: str) -> bool:
    cells = next(lines_of(files.text(name, 4096)), (0, ""))[1].split()
    if len(cells) not in _COLUMNS or cells[0].replace(".", "").isdigit():
        return False
    try:
        return all(abs(float(cell)) < 1e9 for cell in cells[1:])
    except ValueError:
        return False
