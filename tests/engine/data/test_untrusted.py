"""Images from strangers: only formats of pixels are opened, told by their content, and no program starts."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from engine.errors import InputError
from engine.reading.images import FORMATS, find_images, image_size, read_image

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%BeginProlog\n%%EndProlog\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("name", ["photo.png", "photo.eps", "photo.jpg"])
def test_postscript_starts_no_program(tmp_path, monkeypatch, name):
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch '{tmp_path}/started'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # looked up anew
    path = tmp_path / name
    path.write_bytes(EPS)
    for read in (read_image, image_size):
        with pytest.raises(InputError, match="no image of a known kind"):
            read(path)
    assert not (tmp_path / "started").exists()


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
