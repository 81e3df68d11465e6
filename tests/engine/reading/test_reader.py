"""The reader of training and prediction against NumPy by hand, and images as callers of `predict` give them."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from engine.errors import InputError
from engine.reading.images import read_image
from engine.reading.options import Reading, agreed_reading
from engine.reading.pixels import pixels_of
from engine.reading.raster_file import RasterFile
from engine.reading.reader import PixelReader

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
RNG = np.random.default_rng(4)


def write(path, values, **options):
    shape = {"count": len(values), "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype}
    with rasterio.open(path, "w", driver=options.pop("driver", "GTiff"), **shape, **options) as dataset:
        dataset.write(values)
    return path


def by_hand(values, low, high):
    return np.clip(np.floor((values.astype(np.float64) - low) * 255 / (high - low) + 0.5), 0, 255)


class TestRasters:
    @pytest.mark.parametrize("kind", ["uint16", "int16", "float32"])
    @pytest.mark.parametrize("driver", ["GTiff", "HFA"])
    def test_bands_and_range(self, tmp_path, kind, driver):
        values = RNG.integers(-50 if kind != "uint16" else 0, 3500, (5, 40, 50)).astype(kind)
        path = write(tmp_path / "a", values, driver=driver)
        pixels = PixelReader(Reading((4, 2, 1), (100, 3000))).pixels(path)
        np.testing.assert_array_equal(pixels.image, by_hand(values[[3, 1, 0]], 100, 3000).transpose(1, 2, 0))

    def test_no_data_is_filled(self, tmp_path):
        values = RNG.integers(1, 255, (3, 20, 20), dtype=np.uint8)
        values[:, 5:9, 3:6] = 0
        path = write(tmp_path / "a.tif", values, crs="EPSG:32632")
        empty = (values == 0).all(0)
        read = PixelReader(Reading(nodata=0), fill_color=(1, 2, 3))
        np.testing.assert_array_equal(read.pixels(path).valid, ~empty)
        image = read(path)
        assert (image[empty] == (1, 2, 3)).all()
        np.testing.assert_array_equal(image[~empty], values.transpose(1, 2, 0)[~empty])

    def test_every_window_is_a_part_of_the_whole(self, tmp_path):
        values = RNG.integers(0, 60000, (4, 70, 90), dtype=np.uint16)
        reading = Reading((4, 1, 2), (0, 50000))
        path = write(tmp_path / "a.tif", values)
        whole, raster = PixelReader(reading)(path), RasterFile(path, reading)
        for rows, columns in ((slice(0, 70), slice(0, 90)), (slice(13, 40), slice(50, 51))):
            np.testing.assert_array_equal(raster.read(rows, columns).image, whole[rows, columns])

    def test_a_range_of_another_depth(self, tmp_path):
        path = write(tmp_path / "a.tif", RNG.integers(0, 255, (4, 9, 9), dtype=np.uint8))
        with pytest.raises(InputError, match=r"value_range is \[0, 3000\], but raster .* has 8 bits"):
            PixelReader(Reading(value_range=(0, 3000)))(path)

    def test_sizes_and_annotated_sizes(self, tmp_path):
        path = write(tmp_path / "a.tif", RNG.integers(0, 255, (4, 9, 12), dtype=np.uint8))
        read = PixelReader()
        assert read(path, (9, 12)).shape == (9, 12, 3)
        with pytest.raises(InputError, match=r"is 12x9 .* annotations say 9x12"):
            read(path, (12, 9))

    def test_the_limit_of_pixels(self, tmp_path, monkeypatch):
        path = write(tmp_path / "a.tif", RNG.integers(0, 255, (4, 90, 120), dtype=np.uint8))
        monkeypatch.setenv("EFFDENSE_MAX_PIXELS", "9999")
        with pytest.raises(InputError, match="120 x 90 pixels"):
            PixelReader()(path)

    def test_a_picture_in_a_tiff_is_the_same_by_both_libraries(self, tmp_path):
        for compression in ("none", "lzw", "deflate"):
            path = write(tmp_path / f"{compression}.tif", RNG.integers(0, 256, (3, 50, 60), dtype=np.uint8),
                         compress=compression)  # fmt: skip
            raster = RasterFile(path)
            np.testing.assert_array_equal(PixelReader()(path), raster.whole().image)


class TestDeepPictures:
    def test_12_bits_of_grey(self, tmp_path):
        grey = RNG.integers(0, 4096, (30, 40), dtype=np.uint16)
        Image.fromarray(grey).save(tmp_path / "a.png")
        found = PixelReader(Reading(value_range=(0, 4095)))(tmp_path / "a.png")
        np.testing.assert_array_equal(found, np.repeat(by_hand(grey, 0, 4095)[..., None], 3, axis=2))
        assert PixelReader()(tmp_path / "a.png").max() <= 16  # by 257, as without a range

    def test_12_bits_of_colour(self, tmp_path):
        values = RNG.integers(0, 4096, (3, 30, 40), dtype=np.uint16)
        path = write(tmp_path / "a.png", values, driver="PNG")
        found = PixelReader(Reading(value_range=(0, 4095)))(path)
        np.testing.assert_array_equal(found, by_hand(values, 0, 4095).transpose(1, 2, 0))

    def test_strict(self, tmp_path):
        Image.fromarray(RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(tmp_path / "a.png")
        reading = Reading((1, 2, 3), (0, 100))
        with pytest.raises(InputError, match=r"bands is for rasters, but .*a\.png"):
            PixelReader(reading, strict=True)(tmp_path / "a.png")
        np.testing.assert_array_equal(PixelReader(reading)(tmp_path / "a.png"), read_image(tmp_path / "a.png"))


def test_a_reader_can_be_sent_to_processes():
    read = PixelReader(Reading((1,), (0, 9), 3), (1, 2, 3), strict=True)
    assert pickle.loads(pickle.dumps(read)) == read


class TestAgreement:
    @pytest.mark.parametrize("way", ["start", "resume", "score"])
    def test_the_same_or_nothing(self, way):
        given = {"bands": (3, 2, 1), "mean": 1}
        assert agreed_reading(Reading((3, 2, 1)), given, before="model", way=way) == given
        assert agreed_reading(Reading(), given, before="model", way=way) == given

    def test_a_training_takes_what_the_data_say(self):
        found = agreed_reading(Reading(nodata=0, value_range=(0, 9)), {"bands": (1,)}, before="model", way="start")
        assert found == {"bands": (1,), "nodata": 0, "value_range": (0, 9)}

    def test_two_truths(self, caplog):
        for way, message in (("start", r"but m.bands is \[1\]; give one"), ("resume", r"that goes on has \[1\]")):
            with pytest.raises(InputError, match=message):
                agreed_reading(Reading((2,)), {"bands": (1,)}, before="m", way=way)
        assert agreed_reading(Reading((2,)), {"bands": (1,)}, before="m", way="score") == {"bands": (1,)}
        assert "data.bands is [2]; the network was trained with [1]" in caplog.text

    @pytest.mark.parametrize(
        ("values", "message"),
        [({"bands": (1, 2)}, "three numbers"), ({"bands": (0,)}, "bands is"),
         ({"value_range": (3, 3)}, "must be below"), ({"value_range": (float("nan"), 3)}, "must be below")],
    )  # fmt: skip
    def test_wrong_values(self, values, message):
        with pytest.raises(InputError, match=message):
            Reading(**values)


class TestCallers:
    """What `predict` takes is what the same image is in a file."""

    @pytest.fixture
    def photo(self, tmp_path):
        """A JPEG that its EXIF data turn."""
        image = Image.fromarray(RNG.integers(0, 256, (30, 50, 3), dtype=np.uint8))
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(tmp_path / "a.jpg", exif=exif)
        return tmp_path / "a.jpg"

    def test_paths_bytes_and_images_of_pillow(self, photo):
        expected = read_image(photo)
        assert expected.shape == (50, 30, 3)
        for given in (str(photo), photo.read_bytes(), Image.open(photo)):
            np.testing.assert_array_equal(pixels_of(given), expected)

    @pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
    def test_every_mode(self, tmp_path, mode):
        if mode == "I;16":
            image = Image.fromarray(RNG.integers(0, 65536, (20, 30), dtype=np.uint16))
        else:
            rgba = Image.fromarray(RNG.integers(0, 256, (20, 30, 4), dtype=np.uint8), "RGBA")
            image = (rgba if mode in ("LA", "RGBA") else rgba.convert("RGB")).convert(mode)
        image.save(tmp_path / "a.tif")
        np.testing.assert_array_equal(pixels_of(image), upright(tmp_path / "a.tif"))

    def test_arrays(self, tmp_path):
        grey = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
        np.testing.assert_array_equal(pixels_of(grey), np.repeat(grey[..., None], 3, 2))
        np.testing.assert_array_equal(pixels_of(grey[..., None]), pixels_of(grey))
        rgba = RNG.integers(0, 256, (20, 30, 4), dtype=np.uint8)
        Image.fromarray(rgba).save(tmp_path / "a.png")
        np.testing.assert_array_equal(pixels_of(rgba), read_image(tmp_path / "a.png"))
        deep = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)
        Image.fromarray(deep).save(tmp_path / "b.png")
        np.testing.assert_array_equal(pixels_of(deep), read_image(tmp_path / "b.png"))
        ranged = PixelReader(Reading(value_range=(0, 4095)))
        np.testing.assert_array_equal(pixels_of(deep, ranged), ranged(tmp_path / "b.png"))
        colour = RNG.integers(0, 5000, (20, 30, 3), dtype=np.uint16)
        np.testing.assert_array_equal(pixels_of(colour, ranged), by_hand(colour, 0, 4095))

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (3, "got int"),
            (np.zeros((4, 4, 3)), "array of float64"),
            (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\)"),
            (np.zeros((2, 4, 4, 3), np.uint8), r"shape \(2, 4, 4, 3\)"),
            (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
            (np.zeros((4, 4, 3), np.uint16), "colour array of uint16"),
            (b"nothing", "cannot read image 'bytes'"),
            (b"", "cannot read image 'bytes'"),
        ],
    )
    def test_anything_else_is_one_sentence(self, given, message):
        with pytest.raises(InputError, match=message):
            pixels_of(given)

    def test_bytes_have_the_limit_too(self, photo, monkeypatch):
        monkeypatch.setenv("EFFDENSE_MAX_PIXELS", "100")
        with pytest.raises(InputError, match="50 x 30 pixels"):
            pixels_of(photo.read_bytes())


def upright(path):
    with Image.open(path) as image:
        image.load()
        content = io.BytesIO()
        if image.mode == "I;16":
            return np.repeat(((np.asarray(image).astype(int) + 128) // 257)[..., None], 3, 2)
        if "A" in image.mode or "transparency" in image.info:
            rgba = image.convert("RGBA")
            return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, (255,) * 4), rgba).convert("RGB"))
        image.convert("RGB").save(content, "PNG")
        return np.asarray(Image.open(content))


def test_a_world_file_is_the_one_file_beside_a_raster_that_counts(tmp_path, caplog):
    path = write(tmp_path / "a.tif", RNG.integers(0, 256, (3, 20, 30), dtype=np.uint8))
    (tmp_path / "a.tfw").write_text("0.5\n0\n0\n-0.5\n1000\n2000\n")
    place = RasterFile(path).georeference.transform
    assert (place.a, place.e, place.c, place.f) == (0.5, -0.5, 999.75, 2000.25)
    assert not caplog.messages
    (tmp_path / "a.tif.ovr").write_bytes(b"anything")
    assert RasterFile(path).georeference.transform is None
    assert caplog.messages == [f"'{path}' is read alone: not a.tif.ovr, nor a world file beside it"]
