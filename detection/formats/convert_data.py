"""`python -m detection convert-data IN OUT --to FORMAT`: a set of any format that is read, written as another."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from detection.data.boxes import BoxTable
from detection.formats.collected import ReadOptions, VocOrigin
from detection.formats.found import FormatWord, read_set
from detection.formats.splits import part_of
from detection.formats.writers.choice import WRITERS, Target
from detection.formats.writers.parts import SetToWrite
from engine.cli.commands import parse_function, program, run_command
from engine.data.contracts import SplitName
from engine.errors import InputError, OutputError
from engine.names import shown_names
from engine.outputs import make_folder


def convert_data(
    source: str | Path,
    destination: str | Path,
    to: Target = "coco",
    images: Literal["copy", "link"] = "copy",
    on_missing_image: Literal["stop", "skip"] = "stop",
    format: FormatWord | None = None,
    split: str | None = None,
    group: str | None = None,
    classes: tuple[str, ...] = (),
    voc_origin: VocOrigin = "auto",
) -> str:
    """Read a set of images with boxes, and write it in another format, with its images.

    The new folder appears when all of it is written. Nothing of the former one is changed.

    Args:
        source: the folder of the set, or one label file of it.
        destination: the folder to write; it must not exist, or be empty.
        to: the format to write: COCO, Pascal VOC, YOLO, or LabelMe.
        images: `copy` copies them; `link` makes hard links, which take no room but need the same disk.
        on_missing_image: what to do where an image of the labels is not there: `stop`, or `skip` it.
        format: the format to read, where the folder holds several; null recognises it.
        split: shares of train, val and test for a set without splits, such as 0.8/0.1/0.1.
        group: a regular expression; images whose names match it alike stay in one split.
        classes: the class names in their order; empty takes those of the set.
        voc_origin: number of the first pixel in Pascal VOC's XML; `auto` tells it by the files.

    Returns:
        What was read and written, in one line for each, with what a user should know.

    Raises:
        InputError: the set cannot be read, or images are missing.
        OutputError: the folder holds something, or cannot be written.
    """
    target = _free(Path(destination), Path(source))
    found = read_set(source, format, ReadOptions(tuple(classes), voc_origin))
    whole = split is None and group is None
    tables, missing = _present(found.splits if whole else found.parts(split, group), on_missing_image, found.root)
    given = SetToWrite.of(tables, found.root)
    make_folder(target.parent)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        folders = WRITERS[to](given, part)
        for name, folder in folders.items():
            _bring(tables[name], given.names[name], part / folder, images)
        os.replace(part, target)
    except OSError as error:
        msg = f"cannot write '{target}': {error.strerror or error}. Give a folder that can be written."
        raise OutputError(msg) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    notes = [*found.notes, *([f"{missing:,} images are not there and were left out"] if missing else [])]
    notes += _lost(tables, to)
    return "\n".join([f"'{source}' is {found.line()}", *notes, f"written as {to} to '{target}'"])


def _free(target: Path, source: Path) -> Path:
    if target.exists():
        try:
            target.rmdir()  # which only an empty folder allows
        except OSError as error:
            msg = f"'{target}' holds something already, which is not overwritten. Give a folder that does not exist."
            raise OutputError(msg) from error
    folder = source if source.is_dir() else source.parent
    if target.resolve().is_relative_to(folder.resolve()):
        msg = f"'{target}' lies in the set that is read, '{folder}'. Give a folder outside of it."
        raise OutputError(msg)
    return target


def _present(
    tables: Mapping[str, BoxTable] | Mapping[SplitName, BoxTable], on_missing: str, root: Path
) -> tuple[Mapping[str, BoxTable], int]:
    """The tables without images that are not there, and how many those are."""
    kept: dict[str, BoxTable] = {}
    missing: list[str] = []
    for name, table in tables.items():
        there = [table.image_path(index).is_file() for index in range(len(table))]
        missing += [table.image_path(index).name for index, is_there in enumerate(there) if not is_there]
        kept[name] = table if all(there) else part_of(table, np.flatnonzero(there), table.source)
    if missing and on_missing == "stop":
        if len(missing) == sum(len(table) for table in tables.values()):
            msg = f"no image of the labels lies below '{root}'. Give the folder that holds both, images and labels."
            raise InputError(msg)
        msg = (
            f"{len(missing):,} images of the labels are not there: {shown_names(missing)}. Bring them, or leave them "
            "out with --on_missing_image skip."
        )
        raise InputError(msg)
    return {name: table for name, table in kept.items() if len(table)}, len(missing)


def _bring(table: BoxTable, names: Sequence[str], folder: Path, how: Literal["copy", "link"]) -> None:
    """Copy or link the images of a split under their new names."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        path = table.image_path(index)
        if how == "copy":
            shutil.copyfile(path, folder / name)
            continue
        try:
            os.link(path.resolve(), folder / name)
        except OSError as error:
            msg = f"'{path}' cannot be linked from '{folder}': {error.strerror or error}. Take --images copy."
            raise OutputError(msg) from error


def _lost(tables: Mapping[str, BoxTable], to: Target) -> list[str]:
    """What the format cannot say."""
    notes = []
    crowds = sum(int(table.crowd.sum()) for table in tables.values())
    if crowds and to == "yolo":
        notes.append(f"{crowds:,} crowds were left out, which YOLO has no word for")
    if crowds and to in ("voc", "labelme"):
        notes.append(f"{crowds:,} crowds are marked as difficult, the word there for what is not scored")
    return notes


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and convert; returns 2 after one short line of error, else 0."""

    def act() -> None:
        command = f"{program('detection')} convert-data"
        given = parse_function(convert_data, command, argv, __doc__, positional=True)
        sys.stdout.write(convert_data(**given) + "\n")

    return run_command(act)
