"""JPEG files for training: Pillow's pixels, and Pillow's errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.data.crop import Scaling, scaled_part
from engine.errors import InputError
from engine.reading.jpeg import read_jpeg
from engine.reading.reader import PixelReader

ORIENTATION = 0x0112


def picture(mode: str = "RGB") -> Image.Image:
    small = np.random.default_rng(5).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((131, 97), Image.Resampling.BICUBIC).convert(mode)


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def saved(path: Path, mode: str = "RGB", **options: Any) -> Path:
    picture(mode).save(path, "JPEG", **options)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"subsampling": 0},
        {"subsampling": 1},
        {"quality": 30, "progressive": True},
        {"optimize": True, "comment": "of a scanner"},
        {"exif": turned(1)},
        {"keep_rgb": True},
        {"restart_marker_rows": 2},
    ],
)
def test_plain_files_have_the_pixels_of_pillow(tmp_path: Path, options: dict[str, Any]) -> None:
    path = saved(tmp_path / "plain.jpg", **options)
    for annotated_hw in (None, (97, 131)):
        found = read_jpeg(path, annotated_hw)
        assert found is not None
        np.testing.assert_array_equal(found, PixelReader()(path, annotated_hw))


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("L", {}),
        ("CMYK", {}),
        *(("RGB", {"exif": turned(orientation)}) for orientation in (3, 6, 9)),
        ("RGB", {"xmp": b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>'}),
    ],
)
def test_others_are_left_to_pillow(tmp_path: Path, mode: str, options: dict[str, Any]) -> None:
    path = saved(tmp_path / "other.jpg", mode, **options)
    assert read_jpeg(path) is None
    np.testing.assert_array_equal(PixelReader(training=True)(path), PixelReader()(path))


@pytest.mark.parametrize("kept", [0, 2, 3, 20, 200, 700, -2, -1])
def test_what_is_cut_off_gives_the_same_error(tmp_path: Path, kept: int) -> None:
    path = saved(tmp_path / "whole.jpg")
    path.write_bytes(path.read_bytes()[:kept])
    found: list[object] = []
    for training in (False, True):
        try:
            found.append(PixelReader(training=training)(path).tolist())
        except InputError as error:
            found.append(str(error))
    assert found[0] == found[1]
    assert isinstance(found[0], str) or kept < 0


def test_other_files_and_sizes_give_the_same_error(tmp_path: Path) -> None:
    plain, other = saved(tmp_path / "plain.jpg"), tmp_path / "other.jpg"
    picture().save(other, "PNG")
    assert read_jpeg(other) is None
    assert read_jpeg(plain, (131, 97)) is None
    with pytest.raises(InputError, match="its annotations say 97x131"):
        PixelReader(training=True)(plain, (131, 97))


def photograph(path: Path, height: int, width: int) -> Path:
    """Waves of several lengths, the longer the higher, as in pictures of the world."""
    y, x = np.mgrid[:height, :width]
    lengths, colours = (3, 7, 17, 41), (0, 1, 2)
    waves = [sum(length * np.sin((x + y / 3) / length + 2 * colour) for length in lengths) for colour in colours]
    pixels = 127 + 120 * np.stack(waves, 2) / sum(lengths)
    Image.fromarray(pixels.astype(np.uint8)).save(path, "JPEG", quality=95)
    return path


@pytest.mark.parametrize("size_hw", [(320, 480), (321, 483), (327, 489)])
def test_a_picture_that_is_shown_small_is_decoded_small(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    path = photograph(tmp_path / "large.jpg", *size_hw)
    whole = PixelReader()(path)
    for divided, reduced in ((3, 1), (4, 2), (7, 2), (8, 4), (16, 8), (40, 8)):
        needed_hw = size_hw[0] // divided, size_hw[1] // divided
        copy = PixelReader(training=True).pixels(path, size_hw, needed_hw).image
        assert copy.shape == (*(-(-side // reduced) for side in size_hw), 3)
        found = scaled_part(copy, Scaling(needed_hw, (0, 0), needed_hw), size_hw).astype(int)
        wanted = Image.fromarray(whole).resize(needed_hw[::-1], Image.Resampling.BILINEAR)
        difference = np.abs(found - np.array(wanted))
        assert difference.max() <= (2 if reduced == 1 else 5)
        assert difference.mean() < 1
        # Two pixels of the original to one side are seen: the copy lies where the original did.
        shifted = Image.fromarray(np.roll(whole, 2 * reduced, 1)).resize(needed_hw[::-1], Image.Resampling.BILINEAR)
        assert np.abs(found - np.array(shifted)).mean() > 10 * difference.mean()
    assert PixelReader().pixels(path, size_hw, (8, 8)).image.shape == (*size_hw, 3)


def test_the_limit_of_pixels_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "large.jpg")
    monkeypatch.setenv("EFFDENSE_MAX_PIXELS", "12706")
    with pytest.raises(InputError, match="has 131 x 97 pixels"):
        PixelReader(training=True)(path)
    monkeypatch.setenv("EFFDENSE_MAX_PIXELS", "12707")
    assert PixelReader(training=True)(path).shape == (97, 131, 3)
