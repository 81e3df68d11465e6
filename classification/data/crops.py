"""Cut the objects of a set with boxes out, into a folder for each class, from which a classifier can be trained."""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from engine.annotations.files import SetFiles
from engine.annotations.recognised import DRAWN_TOOLS, DrawnWord, counted, recognised
from engine.annotations.shapes import Shape, extent_xyxy
from engine.annotations.splits import ALL
from engine.cli.commands import parse_function, program, run_command
from engine.errors import InputError
from engine.numbers import NonNegativeFloat, PositiveInt
from engine.outputs import atomic_path
from engine.reading.images import UInt8Array
from engine.reading.reader import PixelReader


def write_crops(
    root: str,
    output: str,
    format: DrawnWord | None = None,
    margin: NonNegativeFloat = 0.1,
    square: bool = True,
    min_side: PositiveInt = 8,
) -> str:
    """Write a PNG for each object: OUTPUT/SPLIT/CLASS/IMAGE_NUMBER.png, or OUTPUT/CLASS/… for a set without splits.

    Args:
        root: folder of a set with boxes, polygons or masks, or its one label file.
        output: folder for the pictures.
        format: the format of the set, where its folder holds several; by default it is recognised.
        margin: share of the object's longer side that is added on each side.
        square: cut squares around the objects, moved into the image where they would reach beyond it.
        min_side: objects with a shorter side, in pixels, are left out.

    Returns:
        A line that says what was written.

    Raises:
        InputError: the set cannot be read, or has no object that is large enough.
    """
    files = SetFiles.below(root)
    word, labels = recognised(files, DRAWN_TOOLS, format, "--format")
    read = PixelReader()
    written: Counter[str] = Counter()
    small = 0
    for found in DRAWN_TOOLS[word].read(files, labels).images:
        shapes = [(number, shape) for number, shape in enumerate(found.shapes) if not shape.crowd]
        if not shapes:
            continue
        pixels = read(files.path(found.image), found.size_hw)
        for number, shape in shapes:
            corners = extent_xyxy(shape)
            if min(corners[2] - corners[0], corners[3] - corners[1]) < min_side:
                small += 1
                continue
            folder = Path(output, *([] if found.split == ALL else [found.split]), _folder_of(shape))
            stem = re.sub(r"[^\w.-]+", "_", str(Path(found.image).with_suffix("")))
            with atomic_path(folder / f"{stem}_{number}.png") as temporary:
                Image.fromarray(_cut(pixels, corners, margin, square=square)).save(temporary)
            written[found.split] += 1
    if not written:
        msg = f"'{root}' has no object of at least {min_side} pixels. Give another set, or a smaller --min_side."
        raise InputError(msg)
    parts = ", ".join(f"{count:,} of {split}" for split, count in written.items())
    left = f"; {counted(small, 'object')} smaller than {min_side} pixels were left out" if small else ""
    return f"{parts}: {output}{left}"


def _folder_of(shape: Shape) -> str:
    """The folder of a class; a name that could lead elsewhere does not."""
    return re.sub(r"[/\\:]+", "_", shape.label.strip()).strip(".") or "_"


def _cut(pixels: UInt8Array, corners: tuple[float, float, float, float], margin: float, *, square: bool) -> UInt8Array:
    left, top, right, bottom = corners
    height, width = pixels.shape[:2]
    longer = max(right - left, bottom - top)
    sides = (longer, longer) if square else (right - left, bottom - top)
    spans = []
    for centre, side, limit in (((left + right) / 2, sides[0], width), ((top + bottom) / 2, sides[1], height)):
        length = min(limit, max(1, round(side + 2 * margin * longer)))
        start = min(max(0, math.floor(centre - length / 2)), limit - length)
        spans.append(slice(start, start + length))
    cut: UInt8Array = pixels[spans[1], spans[0]]
    return cut


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and write; returns 2 after one short line of error, else 0."""

    def act() -> None:
        given = parse_function(write_crops, f"{program('classification')} crops", argv, __doc__)
        sys.stdout.write(write_crops(**given) + "\n")

    return run_command(act)
