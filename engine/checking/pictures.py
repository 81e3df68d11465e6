"""Pictures of the first cases of each fault, in a folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from engine.checking.findings import CheckReport, Finding
from engine.errors import InputError
from engine.outputs import atomic_path, make_folder
from engine.prediction.pictures import draw_boxes
from engine.reading.reader import PixelReader

MOST = 6  # pictures of one fault
_SIDE = 1024  # pixels of a picture
_LONGEST = 80  # characters of a file's name that the picture's keeps

Draw = Callable[[Finding], Image.Image | None]


def write_pictures(folder: str | Path, report: CheckReport, draw: Draw, most: int = MOST) -> int:
    """Draw the first cases of each fault; a case whose picture cannot be read has none.

    Args:
        folder: where they go, as FAULT-NUMBER-NAME.jpg.
        report: the findings.
        draw: makes the picture of a finding; None where there is nothing to see.
        most: pictures of each fault.

    Returns:
        How many were written.

    Raises:
        OutputError: the folder cannot be written.
    """
    target, count = make_folder(folder), 0
    for name, group in report.by_name().items():
        drawn = 0
        for found in group:
            if drawn == most:
                break
            picture = draw(found)
            if picture is None:
                continue
            drawn += 1
            picture.thumbnail((_SIDE, _SIDE))
            stem = re.sub(r"[^\w.-]", "_", Path(found.file).stem)[-_LONGEST:]
            with atomic_path(target / f"{name}-{drawn}-{stem}.jpg") as path:
                picture.save(path, quality=90)
        count += drawn
    return count


def draw_finding(found: Finding, read: PixelReader = PixelReader()) -> Image.Image | None:
    """The picture of a finding with its box, or with its twin beside it; None where the file is no readable image."""
    image = _read(found.file, read)
    if image is None:
        return None
    height, width = image.shape[:2]
    if found.box_xyxy is not None and np.isfinite(found.box_xyxy).all():
        # A box that is not within the picture is drawn at its edge, so that it can be seen where it lies.
        box = np.clip(np.array([found.box_xyxy], np.float32), 0, [width - 1, height - 1] * 2).astype(np.float32)
    else:
        box = np.array([[0, 0, width - 1, height - 1]], np.float32)
    picture = draw_boxes(image, box, [0], [found.name])
    other = None if found.twin is None else _read(found.twin, read)
    return picture if other is None else beside(picture, Image.fromarray(other))


def beside(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two pictures side by side, the second as high as the first."""
    scaled = right.resize((max(1, round(right.width * left.height / right.height)), left.height))
    both = Image.new("RGB", (left.width + scaled.width + 4, left.height), "white")
    both.paste(left, (0, 0))
    both.paste(scaled, (left.width + 4, 0))
    return both


def _read(file: str, read: PixelReader) -> np.ndarray | None:
    if not Path(file).is_file():
        return None  # the finding is of a split
    try:
        return read(file)
    except InputError:
        return None
