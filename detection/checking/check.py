"""`python -m detection check`: what is wrong with a set of boxes, by name and file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from detection.checking.boxes import box_findings, class_findings
from detection.data.boxes import BoxSource
from detection.formats.found import FormatWord, read_set
from engine.checking.findings import CheckReport, Finding
from engine.checking.image_files import read_all
from engine.checking.twins import twins
from engine.cli.commands import parse_function, program, run_command
from engine.errors import InputError
from engine.outputs import make_folder, write_json
from engine.reading.images import IMAGE_SUFFIXES
from engine.reading.listing import walk


def check(
    root: str | Path, format: FormatWord | None = None, image_size: int = 512, output: str | Path | None = None
) -> CheckReport:
    """Read a whole set once, and tell what is wrong with it.

    Args:
        root: the folder of the set.
        format: its format, where the folder holds several; None recognises it.
        image_size: longer side of an image in training, in pixels; decides which boxes are tiny.
        output: JSON file to write the findings to.

    Raises:
        InputError: the set is not recognised or cannot be read, or the file cannot be written.
    """
    if image_size < 1:
        msg = f"image_size is {image_size}, but must be at least 1. Give the side of the canvas in pixels."
        raise InputError(msg)
    if output is not None:
        make_folder(Path(output).parent)
    found = read_set(root, format)
    notes = [Finding("labels.note", "note", str(found.root), note) for note in found.notes]
    report = CheckReport(found.line(), (*notes, *check_splits(found.splits, image_size, found.root)))
    if output is not None:
        write_json(output, report.document())
    return report


def check_splits(splits: Mapping[str, BoxSource], image_size: int, root: Path | None = None) -> list[Finding]:
    """The findings of splits that have been read.

    Args:
        splits: images and boxes by the name of the split.
        image_size: longer side of an image in training, in pixels.
        root: folder whose images must all be in a split; None asks for none.
    """
    paths = [source.image_path(place) for source in splits.values() for place in range(len(source.image_ids))]
    owners = [split for split, source in splits.items() for _ in range(len(source.image_ids))]
    facts = read_all(paths)
    findings = [found for fact in facts for found in fact.findings]
    start = 0
    for source in splits.values():
        end = start + len(source.image_ids)
        findings += box_findings(source, facts[start:end], image_size)
        start = end
    findings += class_findings(splits)
    findings += twins([str(path) for path in paths], owners, facts)
    if root is not None:
        known = {path.resolve() for path in paths}
        findings += [
            Finding("image.without_labels", "warning", str(path), "is in no label file")
            for path in walk(root)
            if path.suffix.lower() in IMAGE_SUFFIXES and path.resolve() not in known
        ]
    return findings


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, print the table; returns 1 if there is an error in the set, 2 if it cannot be read."""
    codes = [0]

    def act() -> None:
        report = check(**parse_function(check, f"{program('detection')} check", argv, __doc__, positional=True))
        sys.stdout.write(report.table() + "\n")
        codes.append(report.exit_code())

    return run_command(act) or codes[-1]
