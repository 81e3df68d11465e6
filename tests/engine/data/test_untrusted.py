"""Images from strangers: only formats of pixels are opened, told by their content, and no program starts."""

from __future__ import annotations

import os
import subprocess

import numpy as np
import pytest
from PIL import Image

from engine.errors import InputError, UnreadableError
from engine.reading.images import FORMATS, MOST_PIXELS_NAME, image_size, read_image
from engine.reading.listing import find_images

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%BeginProlog\n%%EndProlog\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("name", ["photo.png", "photo.eps", "photo.jpg", "photo.tif"])
def test_postscript_starts_no_program(tmp_path, monkeypatch, name):
    """Pillow draws EPS by Ghostscript, which runs what the file says."""
    program, started = tmp_path / "bin/gs", tmp_path / "started"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch '{started}'\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # looked up anew
    path = tmp_path / name
    path.write_bytes(EPS)
    for read in (read_image, image_size):
        with pytest.raises(InputError, match="it is no image of a known kind"):
            read(path)
    assert not started.exists()
    # Pillow alone does start it, so the program would have been noticed.
    with Image.open(path) as image, pytest.raises(subprocess.CalledProcessError):
        image.load()
    assert started.exists()


def test_large_pictures_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    """The limit is ours: Pillow's, at 179 million pixels, refuses scans in order and calls them an attack."""
    path = tmp_path / "scan.png"
    Image.new("1", (15_000, 13_000)).save(path)
    assert image_size(path) == (13_000, 15_000)
    monkeypatch.setenv(MOST_PIXELS_NAME, "100000000")
    for read in (image_size, read_image):
        with pytest.raises(
            UnreadableError, match=r"15000 x 13000 pixels, 195 million in all; the limit is 100 million"
        ):
            read(path)
    monkeypatch.setenv(MOST_PIXELS_NAME, "many")
    with pytest.raises(InputError, match="EFFDENSE_MAX_PIXELS is 'many'; allowed: a whole number"):
        image_size(path)


@pytest.mark.parametrize("kind", ["PCX", "TGA", "ICO", "PDF", "SGI", "PSD"])
def test_other_formats_are_refused(tmp_path, kind):
    path = tmp_path / "photo.png"
    if kind == "PSD":
        path.write_bytes(b"8BPS\0\1" + bytes(60))
    else:
        Image.new("RGB", (16, 16)).save(path, kind)
    with pytest.raises(InputError, match="no image of a known kind"):
        read_image(path)


@pytest.mark.parametrize("kind", FORMATS)
def test_content_decides_and_not_the_suffix(tmp_path, kind):
    path = tmp_path / "photo.dat"
    Image.new("RGB", (16, 16), (200, 200, 200)).save(path, kind)
    assert np.abs(read_image(path).astype(int) - 200).max() <= 4
    assert image_size(path) == (16, 16)


def test_jfif_and_avif_in_a_folder_are_images(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "b.jfif", "JPEG")
    Image.new("RGB", (16, 16)).save(tmp_path / "c.avif", "AVIF")
    (tmp_path / "._b.jfif").write_bytes(b"a Mac's notes")
    assert [path.name for path in find_images(tmp_path)] == ["b.jfif", "c.avif"]
