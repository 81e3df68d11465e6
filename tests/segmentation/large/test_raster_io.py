"""Rasters and slides: windows are as rasterio, Pillow and NumPy give them; messages name files that fail."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.errors import InputError
from engine.large.opening import open_raster
from engine.large.slides import SlideFile
from engine.reading.images import resize
from engine.reading.options import Reading
from engine.reading.raster_file import Georeference, RasterFile, preview_size
from segmentation.large.raster_writer import RasterWriter, read_small

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
RNG = np.random.default_rng(7)
UTM = {"crs": "EPSG:32632", "transform": rasterio.transform.from_origin(500000, 5300000, 0.5, 0.25)}


def write(path, values, **options):
    """A (C, H, W) array as GeoTIFF."""
    tags, colors = options.pop("tags", {}), options.pop("colors", None)
    kinds = options.pop("kinds", None)
    shape = {"count": len(values), "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype}
    with rasterio.open(path, "w", driver="GTiff", **shape, **options) as dataset:
        dataset.update_tags(**tags)
        if colors:
            dataset.write_colormap(1, colors)
        if kinds:
            dataset.colorinterp = kinds
        dataset.write(values)
    return path


def smooth(height, width, step=20):
    """A picture (H, W, 3) whose neighbouring pixels are similar, so that resampling is well defined."""
    small = RNG.integers(0, 256, (max(2, height // step), max(2, width // step), 3), dtype=np.uint8)
    return resize(small, (height, width))


def window(source, top, bottom, left, right):
    return source.read(slice(top, bottom), slice(left, right))


def whole(source):
    return window(source, 0, source.size_hw[0], 0, source.size_hw[1])


def test_rgb_windows(tmp_path):
    image = RNG.integers(0, 256, (300, 420, 3), dtype=np.uint8)
    source = RasterFile(write(tmp_path / "a.tif", image.transpose(2, 0, 1), **UTM))
    assert source.size_hw == (300, 420)
    part = window(source, 10, 150, 200, 420)
    np.testing.assert_array_equal(part.image, image[10:150, 200:])
    assert part.valid is None
    assert source.georeference.crs.to_epsg() == 32632
    assert source.georeference.pixel_area_m2 == 0.125
    source.close()


def test_any_format_of_gdal(tmp_path):
    image = RNG.integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    source = open_raster(tmp_path / "a.png")
    np.testing.assert_array_equal(whole(source).image, image)
    assert source.georeference.pixel_area_m2 is None


def test_bands(tmp_path):
    values = RNG.integers(0, 256, (4, 40, 50), dtype=np.uint8)
    kind = rasterio.enums.ColorInterp
    path = write(tmp_path / "bgr.tif", values, kinds=[kind.blue, kind.green, kind.red, kind.undefined])
    np.testing.assert_array_equal(whole(RasterFile(path)).image, values[[2, 1, 0]].transpose(1, 2, 0))
    np.testing.assert_array_equal(
        whole(RasterFile(path, Reading((4, 1, 1)))).image, values[[3, 0, 0]].transpose(1, 2, 0)
    )
    np.testing.assert_array_equal(whole(RasterFile(path, Reading((2,)))).image, values[[1, 1, 1]].transpose(1, 2, 0))
    grey = write(tmp_path / "grey.tif", values[:1])
    np.testing.assert_array_equal(whole(RasterFile(grey)).image, values[[0, 0, 0]].transpose(1, 2, 0))


def test_a_palette_is_looked_up(tmp_path):
    values = RNG.integers(0, 3, (1, 40, 50), dtype=np.uint8)
    table = {0: (1, 2, 3, 255), 1: (40, 50, 60, 255), 2: (250, 0, 9, 255)}
    source = RasterFile(write(tmp_path / "a.tif", values, colors=table))
    expected = np.array([color[:3] for color in table.values()], dtype=np.uint8)[values[0]]
    np.testing.assert_array_equal(whole(source).image, expected)
    assert {tuple(color) for color in source.picture((20, 25)).reshape(-1, 3)} <= {c[:3] for c in table.values()}


@pytest.mark.parametrize("kind", ["uint16", "int16", "float32", "float64", "int32"])
def test_value_range(tmp_path, kind):
    values = RNG.uniform(100, 5000, (3, 40, 50)).astype(kind)
    source = RasterFile(write(tmp_path / "a.tif", values), Reading(value_range=(200, 4000)))
    expected = np.clip((values.astype(np.float64) - 200) / 3800, 0, 1) * 255
    got = whole(source).image.transpose(2, 0, 1)
    assert np.abs(got - expected).max() <= 0.501
    assert got.min() == 0
    assert got.max() == 255


def test_pixels_without_data(tmp_path):
    values = RNG.integers(1, 256, (3, 40, 50), dtype=np.uint8)
    values[:, 5:10, :20] = 0
    values[0, 20] = 0  # in one band only: still data
    empty = (values == 0).all(0)
    for name, options, given in (("own", {"nodata": 0}, None), ("told", {}, 0)):
        source = RasterFile(write(tmp_path / f"{name}.tif", values, **options), Reading(nodata=given))
        np.testing.assert_array_equal(whole(source).valid, ~empty)
        assert (source.picture((40, 50))[empty] == 255).all()
    alpha = np.concatenate([values, np.where(empty, 0, 255)[None].astype(np.uint8)])
    kind = rasterio.enums.ColorInterp
    path = write(tmp_path / "alpha.tif", alpha, kinds=[kind.red, kind.green, kind.blue, kind.alpha])
    np.testing.assert_array_equal(whole(RasterFile(path)).valid, ~empty)
    real = np.where(empty, np.nan, values).astype(np.float32)
    part = whole(RasterFile(write(tmp_path / "nan.tif", real), Reading(value_range=(0, 255))))
    np.testing.assert_array_equal(part.valid, ~empty)
    np.testing.assert_array_equal(part.image[~empty], values.transpose(1, 2, 0)[~empty])


def test_a_picture_is_averaged(tmp_path):
    image = smooth(400, 600)
    picture = RasterFile(write(tmp_path / "a.tif", image.transpose(2, 0, 1))).picture((100, 150))
    expected = image.reshape(100, 4, 150, 4, 3).mean((1, 3))
    assert np.abs(picture - expected).max() <= 1


def test_areas_are_those_of_the_ground():
    def area(epsg, side):
        crs = rasterio.crs.CRS.from_epsg(epsg)
        return Georeference(crs, rasterio.transform.from_origin(0, 0, side, side)).pixel_area_m2

    assert area(32632, 10) == 100
    assert area(2263, 3) == pytest.approx(9 * 0.3048006096**2)  # New York, in US feet
    assert area(4326, 1e-5) is None  # degrees
    assert area(3857, 10) is None  # Web Mercator
    assert Georeference(mpp=(0.5, 0.25)).pixel_area_m2 == 0.125e-12
    assert Georeference().pixel_area_m2 is None


def test_preview_size():
    assert preview_size((20_000, 10_000), 2048) == (2048, 1024)
    assert preview_size((30, 20), 2048) == (30, 20)
    assert preview_size((3, 50_000), 2048) == (1, 2048)


def complex_raster(folder):
    return write(folder / "a.tif", np.ones((1, 9, 9), dtype=np.complex64)), {}


def truncated(folder):
    path = write(folder / "a.tif", RNG.integers(0, 256, (3, 300, 300), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:20_000])
    return path, {}


def text_file(folder):
    (folder / "a.tif").write_text("no raster")
    return folder / "a.tif", {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: (folder / "a.tif", {}), "a.tif' does not exist"),
        (lambda folder: (folder, {}), "does not exist"),
        (text_file, "cannot read raster .*a.tif'.*gdal_translate"),
        (truncated, "cannot read raster .*a.tif'"),
        (complex_raster, "complex values"),
        (lambda folder: (write(folder / "a.tif", np.ones((3, 9, 9), "uint8")), {"bands": (1, 2, 4)}),
         "no band 4; give bands from 1 to 3"),
        (lambda folder: (write(folder / "a.tif", np.ones((3, 9, 9), "uint8")), {"bands": (1, 2)}),
         r"bands is \[1, 2\]; allowed: three"),
        (lambda folder: (write(folder / "a.tif", np.full((3, 9, 9), 700, "uint16")), {}),
         r"uint16 values \(a sample of it goes from 700 to 700\).*--value_range"),
        (lambda folder: (write(folder / "a.tif", np.full((3, 9, 9), 7, "float32")), {"value_range": (5, 5)}),
         "the first value must be below the second"),
        (lambda folder: (write(folder / "a.svs", np.ones((3, 9, 9), "uint8")), {"bands": (1, 2, 3)}),
         "bands is for rasters"),
    ],
)  # fmt: skip
def test_unreadable(tmp_path, make, message):
    path, options = make(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        whole(open_raster(path, Reading(**options)))
    assert len(str(caught.value)) < 400


def test_written_rows(tmp_path):
    labels = RNG.integers(0, 5, (701, 530), dtype=np.uint8)
    place = Georeference(rasterio.crs.CRS.from_epsg(32632), UTM["transform"])
    path = tmp_path / "new" / "a.tif"
    with RasterWriter(path, labels.shape, place, nodata=255, colors={3: (9, 8, 7)}, tags={"class_3": "tree"}) as writer:
        for start in range(0, 701, 90):
            writer.append(labels[start : start + 90])
            assert not path.exists()
    assert [child.name for child in path.parent.iterdir()] == ["a.tif"]
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), labels)
        assert dataset.crs.to_epsg() == 32632
        assert dataset.transform == UTM["transform"]
        assert dataset.nodata == 255
        assert dataset.colormap(1)[3] == (9, 8, 7, 255)
        assert dataset.tags()["class_3"] == "tree"
        assert dataset.block_shapes == [(256, 256)]
        assert dataset.compression.value == "DEFLATE"
        assert dataset.overviews(1) == [2, 4]
    assert read_small(path, (70, 53)).shape == (70, 53)


def test_written_bands(tmp_path):
    values = RNG.integers(0, 256, (3, 300, 40), dtype=np.uint8)
    with RasterWriter(tmp_path / "a.tif", (300, 40), Georeference(), bands=3, scale=1 / 255, pyramid=False) as writer:
        writer.append(values[:, :123])
        writer.append(values[:, 123:])
    with rasterio.open(tmp_path / "a.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(), values)
        assert dataset.scales == (1 / 255,) * 3
        assert dataset.overviews(1) == []


def test_control_points_are_kept(tmp_path):
    points = [rasterio.control.GroundControlPoint(row, column, x=column / 10, y=-row / 10, z=0.0)
              for row in (0, 99) for column in (0, 49)]  # fmt: skip
    crs = rasterio.crs.CRS.from_epsg(4326)
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", height=99, width=49, count=1, dtype="uint8") as dataset:
        dataset.gcps = (points, crs)
    place = RasterFile(tmp_path / "a.tif").georeference
    with RasterWriter(tmp_path / "b.tif", (99, 49), place) as writer:
        writer.append(np.zeros((99, 49), dtype=np.uint8))
    with rasterio.open(tmp_path / "b.tif") as dataset:
        written, written_crs = dataset.gcps
    assert written_crs == crs
    assert [(p.row, p.col, p.x, p.y) for p in written] == [(p.row, p.col, p.x, p.y) for p in points]


def test_a_failed_write_leaves_what_was_there(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"old")

    def fail():
        with RasterWriter(tmp_path / "a.tif", (300, 40), Georeference()) as writer:
            writer.append(np.zeros((260, 40), dtype=np.uint8))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [child.name for child in tmp_path.iterdir()] == ["a.tif"]
    assert (tmp_path / "a.tif").read_bytes() == b"old"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write into"), RasterWriter(
        tmp_path / "file" / "a.tif", (9, 9), Georeference()
    ):  # fmt: skip
        pass


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from engine.errors import InputError
from engine.reading.options import Reading
from engine.reading.raster_file import Georeference
from segmentation.large.raster_writer import RasterWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
labels = np.random.default_rng(0).integers(0, 255, (900, 900), dtype=np.uint8)
try:
    with RasterWriter(Path(sys.argv[1]), (900, 900), Georeference(), pyramid="pyramid" in sys.argv) as writer:
        writer.append(labels)
except InputError as error:
    sys.exit(f"short: {error}")
"""


# All of it takes SIZE bytes and with the pyramid a third more: the disk is full at once, at the end, in the pyramid.
@pytest.mark.parametrize(("share", "options"), [(0.01, []), (0.999, []), (0.9, ["pyramid"]), (0.999, ["pyramid"])])
def test_full_disk(tmp_path, share, options):
    labels = np.random.default_rng(0).integers(0, 255, (900, 900), dtype=np.uint8)
    with RasterWriter(tmp_path / "whole.tif", (900, 900), Georeference(), pyramid=bool(options)) as writer:
        writer.append(labels)
    limit = int((tmp_path / "whole.tif").stat().st_size * share)
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "a.tif"), str(limit), *options]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "short: cannot write" in done.stderr
    assert "Free some space" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["whole.tif"]


@pytest.fixture
def slide(tmp_path):
    """A pyramid of three levels that OpenSlide reads, 0.5 micrometres per pixel."""
    pytest.importorskip("openslide")
    image = smooth(1000, 1300, 10)
    tags = {"TIFFTAG_XRESOLUTION": "20000", "TIFFTAG_YRESOLUTION": "20000", "TIFFTAG_RESOLUTIONUNIT": "3"}
    path = write(tmp_path / "s.tif", image.transpose(2, 0, 1), tags=tags, tiled=True, blockxsize=256, blockysize=256,
                 interleave="pixel", photometric="RGB")  # fmt: skip
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4], rasterio.enums.Resampling.average)
    return path, image


def test_a_slide_as_it_was_scanned(slide):
    path, image = slide
    source = SlideFile(path)
    assert source.size_hw == (1000, 1300)
    part = window(source, 100, 612, 788, 1300)
    np.testing.assert_array_equal(part.image, image[100:612, 788:])
    assert part.valid is None
    assert source.georeference.mpp == (0.5, 0.5)
    assert source.georeference.pixel_area_m2 == pytest.approx(0.25e-12)
    assert np.abs(source.picture((250, 325)).astype(int) - resize(image, (250, 325))).mean() < 2
    source.close()


def test_a_slide_at_a_level_is_that_level(slide):
    path, image = slide
    source = SlideFile(path, mpp=1.0)
    assert source.size_hw == (500, 650)
    expected = image.reshape(500, 2, 650, 2, 3).mean((1, 3))
    assert np.abs(whole(source).image - expected).max() <= 1


@pytest.mark.parametrize("mpp", [0.47, 0.8, 1.3, 2.5])
def test_a_slide_between_levels(slide, mpp):
    path, image = slide
    source = SlideFile(path, mpp=mpp)
    size_hw = (round(1000 * 0.5 / mpp), round(1300 * 0.5 / mpp))
    assert source.size_hw == size_hw
    assert source.georeference.mpp == pytest.approx((mpp, mpp), rel=2e-3)
    got = whole(source).image.astype(int)
    assert np.abs(got - resize(image, size_hw)).mean() < 2.5
    # Windows are cut from one grid.
    part = window(source, 51, 140, 33, size_hw[1]).image
    assert np.abs(part.astype(int) - got[51:140, 33:]).max() <= 2


def test_what_was_not_scanned_is_no_data(slide):
    source = SlideFile(slide[0])
    part = window(source, 990, 1010, 0, 20)  # beyond the edge OpenSlide answers as for what was not scanned
    np.testing.assert_array_equal(part.valid, np.arange(990, 1010)[:, None].repeat(20, 1) < 1000)


def test_bad_slides(slide, tmp_path):
    path, _ = slide
    with pytest.raises(InputError, match=r"has 0.5 micrometres per pixel, coarser than the mpp 0.25"):
        open_raster(path, mpp=0.25)
    with pytest.raises(InputError, match="mpp is -1; it must be above 0"):
        open_raster(path, mpp=-1)
    plain = write(tmp_path / "plain.tif", np.ones((3, 300, 300), "uint8"), tiled=True, blockxsize=256, blockysize=256)
    with pytest.raises(InputError, match="does not state its resolution"):
        open_raster(plain, mpp=1)
    (tmp_path / "b.svs").write_text("no slide")
    with pytest.raises(InputError, match=r"cannot read slide .*b.svs'"):
        open_raster(tmp_path / "b.svs")
    with pytest.raises(InputError, match="does not exist"):
        open_raster(tmp_path / "c.svs")


def test_a_damaged_slide_is_named_where_it_is_read(slide):
    path, _ = slide
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])
    with pytest.raises(InputError, match="cannot read slide"):
        whole(SlideFile(path))


def test_missing_extras(monkeypatch, tmp_path):
    (tmp_path / "a.tif").write_text("")
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(InputError, match=r"pip install 'effdense\[geo\]'"):
        open_raster(tmp_path / "a.tif")
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(InputError, match=r"pip install 'effdense\[slides\]'"):
        open_raster(tmp_path / "a.tif", mpp=1)


def test_no_warning_of_a_missing_georeference(tmp_path):
    path = write(tmp_path / "a.tif", np.ones((3, 9, 9), "uint8"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole(RasterFile(path))
        with RasterWriter(tmp_path / "b.tif", (9, 9), Georeference()) as writer:
            writer.append(np.zeros((9, 9), dtype=np.uint8))
        read_small(tmp_path / "b.tif", (3, 3))
