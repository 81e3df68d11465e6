"""Pictures for sets of the checks, and faults planted in their files."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIZE_HW = (64, 96)


def pixels(seed: int) -> np.ndarray:
    """A picture of coloured cells that looks like none of another seed."""
    cells = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    return np.kron(cells, np.ones((8, 8, 1), np.uint8))


def _opened(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def as_jpeg(path: Path) -> None:
    _opened(path).convert("RGB").save(path, "jpeg")


def turned(path: Path, orientation: int = 3) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    _opened(path).save(path, exif=exif)


def resized(path: Path) -> None:
    _opened(path).resize((100, 70)).save(path)


def postscript(path: Path) -> None:
    """A picture for another program, which would have to be started."""
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 64\n%%EndComments\nshowpage\n%%EOF\n")


def transparent(path: Path) -> None:
    _opened(path).convert("RGBA").save(path)


def several_frames(path: Path) -> None:
    picture = _opened(path)
    picture.save(path, save_all=True, append_images=[picture.rotate(180)])


def of_one_colour(path: Path) -> None:
    Image.new("RGB", SIZE_HW[::-1], (90, 90, 90)).save(path)


# Faults of any image file, by the name under which they are found, with what plants each.
FILE_FAULTS: dict[str, Callable[[Path], object]] = {
    "image.missing": Path.unlink,
    "image.empty": lambda path: path.write_bytes(b""),
    "image.unreadable": lambda path: path.write_text("<html>not found</html>"),
    "image.truncated": cut,
    "image.suffix": as_jpeg,
    "image.exif_rotated": turned,
    "image.mode": transparent,
    "image.frames": several_frames,
    "image.uniform": of_one_colour,
}
