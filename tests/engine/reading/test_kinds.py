"""What is a picture and what a raster: every form of file that Pillow and GDAL write, told by its content."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.reading.kinds import is_deep, is_raster, unused_options
from engine.reading.options import Reading

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
PLACE = {"crs": "EPSG:32632", "transform": rasterio.transform.from_origin(500000, 5300000, 10, 10)}
RNG = np.random.default_rng(3)
PICTURES = ("bmp", "gif", "jpg", "jp2", "png", "ppm", "tif", "webp")


def by_gdal(path, count, kind, driver="GTiff", **options):
    values = RNG.integers(0, 200, (count, 20, 30)).astype(kind)
    shape = {"count": count, "height": 20, "width": 30, "dtype": kind}
    with rasterio.open(path, "w", driver=driver, **shape, **options) as dataset:
        dataset.write(values)
    return path


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("suffix", PICTURES)
def test_pictures(tmp_path, suffix, mode):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)).convert(mode).save(path)
    assert not is_raster(path)
    assert not is_raster(path.rename(tmp_path / "b"))  # without a suffix
    assert not is_deep(tmp_path / "b")


@pytest.mark.parametrize("mode", ["CMYK", "P", "1"])
def test_tiffs_of_other_colours_are_pictures(tmp_path, mode):
    path = tmp_path / "a.tif"
    Image.fromarray(RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)).convert(mode).save(path)
    assert not is_raster(path)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.sampled_from(["uint8", "int16", "uint16", "float32"]), st.booleans(), st.booleans())
def test_tiffs_of_gdal(tmp_path_factory, count, kind, placed, big):
    path = tmp_path_factory.mktemp("t") / "a.tif"
    by_gdal(path, count, kind, **(PLACE if placed else {}), BIGTIFF="YES" if big else "NO")
    assert is_raster(path) == (placed or kind != "uint8" or count not in (1, 3))


@pytest.mark.parametrize("count", [1, 3, 4])
@pytest.mark.parametrize("kind", ["uint8", "uint16"])
@pytest.mark.parametrize("placed", [False, True])
def test_jpeg_2000(tmp_path, count, kind, placed):
    path = by_gdal(tmp_path / "a.jp2", count, kind, "JP2OpenJPEG", **(PLACE if placed else {}))
    assert is_raster(path) == (placed or kind != "uint8" or count == 4)
    code = path.read_bytes()
    bare = tmp_path / "bare.j2k"
    bare.write_bytes(code[code.index(b"\xff\x4f\xff\x51") :])
    assert is_raster(bare) == (kind != "uint8" or count == 4)  # which has no place for a place


def test_erdas_imagine(tmp_path):
    assert is_raster(by_gdal(tmp_path / "a.jpg", 3, "uint8", "HFA"))


def test_what_nobody_knows_is_left_to_the_reader_of_its_suffix(tmp_path):
    for name, expected in (("a.tif", True), ("a.jp2", True), ("a.png", False), ("a", False)):
        (tmp_path / name).write_text("nothing")
        assert is_raster(tmp_path / name) == expected


def test_options_that_do_not_apply(tmp_path):
    reading = Reading((3, 2, 1), (0, 3000), 0)
    grey = RNG.integers(0, 3000, (20, 30), dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "plain.png")
    raster = by_gdal(tmp_path / "raster.tif", 4, "uint16")
    assert unused_options(raster, reading) == []
    assert unused_options(tmp_path / "deep.png", reading) == ["bands", "nodata"]
    assert unused_options(tmp_path / "plain.png", reading) == ["bands", "value_range", "nodata"]
    assert unused_options(tmp_path / "plain.png", Reading()) == []
