"""DOTA: a text for each image, with the four corners of an oriented box, its class, and whether it is difficult."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from detection.data.boxes import BoxTable
from detection.formats.collected import Collected, ReadOptions
from engine.annotations.files import SetFiles, folder_of, lines_of, number, stem_of
from engine.annotations.splits import folder_split
from engine.errors import InputError

NAME = "DOTA"
_HEADERS = ("imagesource:", "gsd:", "acquisition dates:")


def claims(files: SetFiles) -> list[str]:
    """The texts of folders whose first texts have DOTA's header or rows."""
    folders: dict[str, list[str]] = {}
    for name in files.ending(".txt"):
        folders.setdefault(folder_of(name), []).append(name)
    return [name for names in folders.values() if any(_is_dota(files, name) for name in names[:3]) for name in names]


def read(files: SetFiles, labels: Sequence[str], options: ReadOptions) -> Mapping[str, BoxTable]:
    """The images, with the upright boxes around the oriented ones; a difficult object is a crowd to a score.

    Raises:
        InputError: a row has another number of columns, or a number that is none.
    """
    collected = Collected(files, options)
    for name in labels:
        image = files.image(stem_of(name), folder_of(name)) or f"{stem_of(name)}.png"
        split = folder_split(image) if folder_of(image) else folder_split(name)
        place = collected.image(split, image)
        for line, text in lines_of(files.text(name)):
            if text.lower().startswith(_HEADERS):
                continue
            try:
                _add(collected, split, place, f"'{files.path(name)}', line {line}", text.split())
            except InputError as error:
                files.refuse(name, error)
    return collected.tables(NAME)


def _add(collected: Collected, split: str, place: int, where: str, cells: Sequence[str]) -> None:
    """Add the box of a row."""
    if len(cells) not in (9, 10):
        msg = f"{where}: {len(cells)} columns; allowed are x1 y1 x2 y2 x3 y3 x4 y4 class difficult. Correct it."
        raise InputError(msg)
    values = [number(cell, where) for cell in cells[:8]]
    xs, ys = values[0::2], values[1::2]
    if len(set(xs)) > 2 or len(set(ys)) > 2:
        collected.files.note("oriented boxes were taken as the upright boxes around them")
    difficult = len(cells) == 10 and cells[9] != "0"
    collected.box(split, place, cells[8], (min(xs), min(ys), max(xs), max(ys)), difficult)


def _is_dota(files: SetFiles, name: str) -> bool:
    for _, text in lines_of(files.text(name, 4096)):
        if text.lower().startswith(_HEADERS):
            return True
        cells = text.split()
        if len(cells) not in (9, 10) or (len(cells) == 10 and cells[9] not in ("0", "1", "2")):
            return False
        try:
            numbers = [float(cell) for cell in cells[:8]]
        except ValueError:
            return False
        return max(numbers) > 1 and not cells[8].replace(".", "").isdigit()
    return False
