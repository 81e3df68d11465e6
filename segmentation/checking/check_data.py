"""`python -m segmentation check-data`: what is wrong with a set of images and masks, by name and file.

The set is given as to `fit`, by --config and by --data.…, and these options say what is done with the findings.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from engine.checking.findings import CheckReport, FailOn, Finding
from engine.checking.pictures import beside, draw_finding, write_pictures
from engine.cli.commands import HELP, parse_function, program, run_command
from engine.cli.given.data import given_data
from engine.errors import InputError
from engine.outputs import make_folder, write_json
from engine.reading.reader import PixelReader
from segmentation.checking.fix import fix_masks
from segmentation.checking.given import MaskData, usable_sources
from segmentation.checking.mask_files import rows_of
from segmentation.checking.read_set import ReadMasks
from segmentation.checking.splits import PairedSource
from segmentation.inference.pictures import overlay
from segmentation.spec import SPEC

_COMMAND = "check-data"
_FORMATS = {"cityscapes": "Cityscapes", "folder": "folders of images and masks", "drawn": "drawn objects"}


def check_data(
    data: MaskData,
    group: str | None = None,
    output: str | Path | None = None,
    pictures: str | Path | None = None,
    fix: str | Path | None = None,
) -> CheckReport:
    """Read all images and masks of a data module once, and tell what is wrong with them.

    Args:
        data: the set, as a training takes it.
        group: a regular expression; images whose names match it alike, in its first bracket or as a whole, belong
            together, such as the frames of a video, and should be in one split.
        output: JSON file to write the findings to.
        pictures: folder for pictures of each fault's first cases.
        fix: folder for a cleaned copy of the set; nothing of the set itself is changed.

    Raises:
        InputError: no split was given, or none can be used.
        OutputError: a result cannot be written.
    """
    if output is not None:
        make_folder(Path(output).parent)
    sources, unusable = usable_sources(data)
    read = ReadMasks.of(sources, data.reader)
    findings = (*unusable, *read.image_findings(group), *read.mask_findings())
    report = CheckReport(title_of(data, sources), findings, tuple(read.measures()))
    if output is not None:
        write_json(output, report.document())
    if pictures is not None:
        write_pictures(pictures, report, lambda found: draw_mask_finding(found, sources, data.reader))
    if fix is not None:
        done = fix_masks(read, fix, data.format, data.reader)
        report = CheckReport(report.title, report.findings, (*report.measures, *done))
    return report


def title_of(data: MaskData, sources: Mapping[str, PairedSource]) -> str:
    """The set in one line: what it is, and how many images each split has."""
    counts = ", ".join(f"{split} {len(files.pairs):,}" for split, files in sources.items())
    what = _FORMATS.get(data.format, data.format)
    classes = len(next(iter(sources.values())).classes)
    return f"{what}, {sum(len(files.pairs) for files in sources.values()):,} images, {classes} classes ({counts})"


def draw_mask_finding(found: Finding, sources: Mapping[str, PairedSource], read: PixelReader) -> Image.Image | None:
    """The picture of a finding: of a mask its image with the classes' colours over it, and its twin beside it.

    Args:
        found: the finding.
        sources: images and masks by the name of the split.
        read: reads the images.
    """
    for files in sources.values():
        for pair in files.pairs:
            if str(pair.mask) == found.file:
                return _over(files, pair.image, pair.mask, read)
    return draw_finding(found, read)


def _over(files: PairedSource, image: Path, mask: Path, read: PixelReader) -> Image.Image | None:
    rows = rows_of(files, mask)
    try:
        pixels = read(image)
        if rows is not None and rows.shape == pixels.shape[:2]:
            return overlay(pixels, rows, files.classes)
        return beside(Image.fromarray(pixels), Image.fromarray(read(mask)))
    except InputError:
        return None


def _options(
    group: str | None = None,
    output: str | Path | None = None,
    pictures: str | Path | None = None,
    fix: str | Path | None = None,
    fail_on: FailOn = "error",
) -> None:
    """The options beside those of the data.

    Args:
        group: a regular expression; images whose names match it alike, in its first bracket or as a whole, belong
            together, such as the frames of a video, and should be in one split.
        output: JSON file to write the findings to.
        pictures: folder for pictures of each fault's first cases.
        fix: folder for a cleaned copy of the set; nothing of the set itself is changed.
        fail_on: the exit code is 1 if a finding is at least so bad; "never" leaves it 0.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and print the table; returns 1 if there is an error in the set, 2 if it cannot be read."""

    def act() -> int:
        words = list(sys.argv[2:] if argv is None else argv)
        given = None if set(HELP) & set(words) else given_data(SPEC, words)
        options = parse_function(
            _options, f"{program('segmentation')} {_COMMAND}", words if given is None else given.rest, __doc__
        )
        if given is None or not isinstance(given.data, MaskData):
            msg = "no data were given. Give --config FILE, or --data.root and --data.format as for fit."
            raise InputError(msg)
        fail_on = options.pop("fail_on")
        report = check_data(given.data, **options)
        sys.stdout.write(report.table() + "\n")
        return report.exit_code(fail_on)

    return run_command(act)
