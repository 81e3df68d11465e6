"""`python -m segmentation check-data`: what is wrong with a set of images and masks, by name and file.

The set is given as to `fit`, by --config and by --data.…, and these options say what is done with the findings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from engine.checking.asked import Asked
from engine.checking.command import CheckCommand
from engine.checking.findings import CheckReport, Finding
from engine.checking.given import left_out
from engine.checking.pictures import beside, draw_finding
from engine.cli.given.data import GivenData
from engine.errors import InputError
from engine.reading.reader import PixelReader
from segmentation.checking.fix import fix_masks
from segmentation.checking.given import MaskData, usable_sources
from segmentation.checking.mask_files import rows_of
from segmentation.checking.read_set import ReadMasks
from segmentation.checking.splits import PairedSource
from segmentation.inference.pictures import overlay
from segmentation.spec import SPEC

_FORMATS = {"cityscapes": "Cityscapes", "folder": "folders of images and masks", "drawn": "drawn objects"}


def check_data(data: MaskData, asked: Asked = Asked()) -> CheckReport:
    """Read all images and masks of a data module once, and tell what is wrong with them.

    Args:
        data: the set, as a training takes it.
        asked: what is done with the findings.

    Raises:
        InputError: no split was given, or none can be used.
        OutputError: a result cannot be written.
    """
    asked.prepare()
    sources, before = usable_sources(data)
    read = ReadMasks.of(sources, data.reader)
    findings = (*before, *read.image_findings(asked.group), *read.mask_findings())
    return asked.finish(
        CheckReport(title_of(data, sources), findings, tuple(read.measures())),
        lambda found: draw_mask_finding(found, sources, data.reader),
        lambda folder: [*fix_masks(read, folder, data.format, data.reader), *left_out(findings)],
    )


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


def _of_data(given: GivenData, asked: Asked = Asked()) -> CheckReport:
    """Read a set that is given as to fit, and tell what is wrong with it.

    Args:
        given: its data module.
        asked: what is done with the findings.
    """
    if not isinstance(given.data, MaskData):
        msg = "no data were given. Give --config FILE, or --data.root and --data.format as for fit."
        raise InputError(msg)
    return check_data(given.data, asked)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and print the table; returns 1 if there is an error in the set, 2 if it cannot be read."""
    return CheckCommand(SPEC, __doc__ or "", _of_data).main(argv)
