"""Reading images of every kind, the letter-box and its inverse, and finding image files."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from engine.errors import InputError
from engine.reading.images import Letterbox, image_size, pad_to_canvas, read_image
from engine.reading.listing import find_images


def gradient(height: int = 40, width: int = 60, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(height * width)
    small = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize((width, height))
    return np.asarray(small)[..., :channels]


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


class TestModes:
    """Every mode against values computed by hand from the stored numbers."""

    def test_rgb_is_untouched_and_writable(self, tmp_path: Path) -> None:
        pixels = gradient()
        read = read_image(saved(Image.fromarray(pixels), tmp_path / "a.png"))
        np.testing.assert_array_equal(read, pixels)
        assert read.dtype == np.uint8
        assert read.flags.writeable

    def test_grey(self, tmp_path: Path) -> None:
        grey = gradient()[..., 0]
        read = read_image(saved(Image.fromarray(grey), tmp_path / "a.png"))
        np.testing.assert_array_equal(read, np.repeat(grey[..., None], 3, axis=2))

    def test_one_bit(self, tmp_path: Path) -> None:
        bits = gradient()[..., 0] > 120
        read = read_image(saved(Image.fromarray(bits), tmp_path / "a.png"))
        np.testing.assert_array_equal(read, np.repeat(bits[..., None] * np.uint8(255), 3, axis=2))

    def test_palette(self, tmp_path: Path) -> None:
        colours = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
        index = gradient()[..., 0]
        image = Image.fromarray(index)
        image.putpalette(colours.tobytes())
        np.testing.assert_array_equal(read_image(saved(image, tmp_path / "a.png")), colours[index])

    def test_palette_with_a_transparent_entry(self, tmp_path: Path) -> None:
        image = Image.fromarray(np.array([[0, 1], [1, 0]], dtype=np.uint8))
        image.putpalette([255, 0, 0, 0, 0, 255])
        read = read_image(saved(image, tmp_path / "a.png", transparency=1))
        red, white = [255, 0, 0], [255, 255, 255]
        np.testing.assert_array_equal(read, [[red, white], [white, red]])

    @pytest.mark.parametrize("channels", [1, 3])
    def test_alpha_is_laid_on_white(self, tmp_path: Path, channels: int) -> None:
        colour = gradient(channels=channels)
        alpha = gradient()[::-1, ::-1, :1]
        pixels = np.concatenate([colour, alpha], axis=2)
        read = read_image(saved(Image.fromarray(pixels), tmp_path / "a.png"))
        part = alpha / 255.0
        assert np.abs(read - (colour * part + 255 * (1 - part))).max() <= 1.0

    def test_rgb_with_a_transparent_colour(self, tmp_path: Path) -> None:
        pixels = np.array([[[1, 2, 3], [9, 9, 9]]], dtype=np.uint8)
        read = read_image(saved(Image.fromarray(pixels), tmp_path / "a.png", transparency=(1, 2, 3)))
        np.testing.assert_array_equal(read, [[[255, 255, 255], [9, 9, 9]]])

    def test_cmyk(self, tmp_path: Path) -> None:
        inks = np.concatenate([gradient(), gradient()[::-1, ::-1, :1]], axis=2)
        read = read_image(saved(Image.fromarray(inks, mode="CMYK"), tmp_path / "a.tif"))
        by_hand = (255.0 - inks[..., :3]) * (255.0 - inks[..., 3:]) / 255.0
        assert np.abs(read - by_hand).max() <= 1.5

    @pytest.mark.parametrize("name", ["a.png", "a.tif"])
    def test_16_bit_grey_is_divided_by_257(self, tmp_path: Path, name: str) -> None:
        grey = np.array([[0, 128, 129, 257], [32896, 65535, 65406, 65407]], dtype=np.uint16)
        read = read_image(saved(Image.fromarray(grey), tmp_path / name))
        by_hand = np.floor(grey / 257 + 0.5).astype(np.uint8)
        np.testing.assert_array_equal(read, np.repeat(by_hand[..., None], 3, axis=2))

    def test_32_bit_grey_within_16_bits(self, tmp_path: Path) -> None:
        grey = np.array([[0, 65535]], dtype=np.int32)
        read = read_image(saved(Image.fromarray(grey), tmp_path / "a.tif"))
        np.testing.assert_array_equal(read, [[[0] * 3, [255] * 3]])

    @pytest.mark.parametrize(
        ("pixels", "wording"),
        [
            (np.array([[0, 65536]], dtype=np.int32), "has values 0 to 65536; allowed are 0 to 65535"),
            (np.array([[-1, 5]], dtype=np.int32), "has values -1 to 5"),
            (np.array([[0.0, 0.5]], dtype=np.float32), "has float pixels, which have no agreed range"),
        ],
    )
    def test_without_agreed_range_is_refused(self, tmp_path: Path, pixels: np.ndarray, wording: str) -> None:
        path = saved(Image.fromarray(pixels), tmp_path / "a.tif")
        with pytest.raises(InputError, match=wording) as caught:
            read_image(path)
        assert str(path) in str(caught.value)

    def test_first_frame_of_an_animation(self, tmp_path: Path) -> None:
        frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
        path = tmp_path / "a.gif"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        np.testing.assert_array_equal(read_image(path)[0, 0], [255, 0, 0])


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_upright_as_pillow_has_it(self, tmp_path: Path, orientation: int) -> None:
        image = Image.fromarray(gradient(24, 40))
        exif = image.getexif()
        exif[0x0112] = orientation
        path = saved(image, tmp_path / "a.png", exif=exif)
        with Image.open(path) as stored:
            upright = np.asarray(ImageOps.exif_transpose(stored))
        read = read_image(path)
        np.testing.assert_array_equal(read, upright)
        assert image_size(path) == upright.shape[:2] == ((24, 40) if orientation < 5 else (40, 24))

    def test_orientation_6_by_hand(self, tmp_path: Path) -> None:
        # Orientation 6: row 0 of the stored pixels is the right side of the picture.
        image = Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0]]], dtype=np.uint8))
        exif = image.getexif()
        exif[0x0112] = 6
        read = read_image(saved(image, tmp_path / "a.png", exif=exif))
        np.testing.assert_array_equal(read, [[[255, 0, 0]], [[0, 255, 0]]])

    def test_annotations_of_the_stored_frame_keep_it(self, tmp_path: Path) -> None:
        pixels = gradient(24, 40)
        exif = Image.Exif()
        exif[0x0112] = 6
        path = saved(Image.fromarray(pixels), tmp_path / "a.png", exif=exif)
        np.testing.assert_array_equal(read_image(path, annotated_hw=(24, 40)), pixels)
        assert read_image(path, annotated_hw=(40, 24)).shape == (40, 24, 3)

    def test_a_size_of_neither_frame_is_refused(self, tmp_path: Path) -> None:
        path = saved(Image.fromarray(gradient(24, 40)), tmp_path / "a.png")
        with pytest.raises(InputError, match=r"a\.png' is 40x24 .* but its annotations say 48x24"):
            read_image(path, annotated_hw=(24, 48))

    def test_damaged_exif_does_not_hide_the_image(self, tmp_path: Path) -> None:
        pixels = gradient(24, 40)
        path = saved(Image.fromarray(pixels), tmp_path / "a.png", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff\xff")
        np.testing.assert_array_equal(read_image(path), pixels)


class TestBrokenFiles:
    @pytest.mark.parametrize("part", [0.2, 0.6, 0.95])
    @pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.gif", "a.webp", "a.tif", "a.ppm"])
    def test_truncated(self, tmp_path: Path, name: str, part: float) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        path = saved(Image.fromarray(noise), tmp_path / name)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
        with pytest.raises(InputError, match=rf"{name}.*Repair the file or leave it out"):
            read_image(path)

    @pytest.mark.parametrize("content", [b"", b"hello, this is text", b"\xff\xd8\xff\xe0nothing", b"\x89PNG\r\n\x1a\n"])
    def test_not_an_image(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "a.jpg"
        path.write_bytes(content)
        for read in (read_image, image_size):
            with pytest.raises(InputError, match=r"cannot read image '.*a\.jpg'") as caught:
                read(path)
            assert "\n" not in str(caught.value)

    def test_missing_and_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"image '.*b\.jpg' does not exist"):
            read_image(tmp_path / "b.jpg")
        with pytest.raises(InputError, match="Is a directory"):
            read_image(tmp_path)

    @settings(deadline=None)  # a damaged header may claim as many pixels as are allowed
    @given(data=st.data())
    def test_any_damaged_byte_reads_or_is_refused(self, data: st.DataObject, tmp_path_factory: object) -> None:
        buffer = io.BytesIO()
        kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "TIFF"]))
        Image.fromarray(gradient(8, 8)).save(buffer, kind)
        content = bytearray(buffer.getvalue())
        for _ in range(3):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path = tmp_path_factory.getbasetemp() / "damaged"  # type: ignore[attr-defined]
        path.write_bytes(content)
        try:
            read = read_image(path)
        except InputError:
            return
        assert read.ndim == 3


def effdet_transforms() -> object:
    """The module alone: importing the effdet package would build its model zoo."""
    file = Path(importlib.util.find_spec("timm").origin).parents[1] / "effdet" / "data" / "transforms.py"
    spec = importlib.util.spec_from_file_location("effdet_transforms", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sides = st.integers(1, 300)


class TestLetterbox:
    @pytest.mark.parametrize("image_hw", [(48, 64), (64, 48), (33, 70), (200, 31), (64, 64), (5, 3)])
    @pytest.mark.parametrize("canvas_hw", [(64, 64), (64, 96)])
    def test_pixels_equal_effdets_resize_pad(self, image_hw: tuple[int, int], canvas_hw: tuple[int, int]) -> None:
        pixels = gradient(*image_hw)
        reference = effdet_transforms().ResizePad(canvas_hw, fill_color=(124, 116, 104))
        canvas, found = reference(Image.fromarray(pixels), {})
        letterbox = Letterbox.fit(image_hw, canvas_hw)
        np.testing.assert_array_equal(letterbox.apply(pixels, (124, 116, 104)), np.asarray(canvas))
        assert letterbox.scale == pytest.approx(1 / found["img_scale"])

    @given(height=sides, width=sides, canvas_h=sides, canvas_w=sides)
    def test_fits_and_touches_a_side(self, height: int, width: int, canvas_h: int, canvas_w: int) -> None:
        scaled = Letterbox.fit((height, width), (canvas_h, canvas_w)).scaled_hw
        assert 1 <= scaled[0] <= canvas_h
        assert 1 <= scaled[1] <= canvas_w
        # The upstream truncation may lose the last pixel if the product is just below a whole number.
        assert canvas_h - scaled[0] <= 1 or canvas_w - scaled[1] <= 1

    @given(
        height=sides,
        width=sides,
        canvas=st.integers(300, 640),
        box=st.tuples(*[st.floats(0.0, 1.0)] * 4),
    )
    def test_boxes_come_back(self, height: int, width: int, canvas: int, box: tuple[float, ...]) -> None:
        boxes = np.array([box], dtype=np.float32) * np.array([width, height] * 2, dtype=np.float32)
        letterbox = Letterbox.fit((height, width), (canvas, canvas))
        # The truncated side ends up to one canvas pixel before the image does.
        limit = (np.array(letterbox.scaled_hw * 2)[[1, 0, 3, 2]] / letterbox.scale).astype(np.float32)
        back = letterbox.to_image(letterbox.to_canvas(boxes))
        np.testing.assert_allclose(back, np.minimum(boxes, limit), atol=1e-3)

    def test_clips_to_the_image_on_both_ways(self) -> None:
        letterbox = Letterbox.fit((50, 100), (200, 200))
        assert letterbox.scaled_hw == (100, 200)
        np.testing.assert_array_equal(letterbox.to_canvas(np.array([[-5, 10, 300, 70]])), [[0, 20, 200, 100]])
        np.testing.assert_array_equal(letterbox.to_image(np.array([[-5, 10, 300, 170]])), [[0, 5, 100, 50]])
        assert letterbox.to_canvas(np.empty((0, 4))).shape == (0, 4)

    def test_padding_lies_right_and_below(self) -> None:
        canvas = pad_to_canvas(np.ones((2, 3), dtype=np.uint8), (4, 5), 255)
        np.testing.assert_array_equal(canvas[:2, :3], 1)
        assert (canvas == 255).sum() == 20 - 6


class TestFindImages:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "deep" / "er").mkdir(parents=True)
        (tmp_path / ".cache").mkdir()
        for name in ("b.JPG", "a.png", "notes.txt", "deep/er/c.webp", ".hidden.png", ".cache/d.png", "x[1].jpg"):
            (tmp_path / name).touch()
        return tmp_path

    def test_folder(self, folder: Path) -> None:
        found = [path.relative_to(folder).as_posix() for path in find_images(folder)]
        assert found == ["a.png", "b.JPG", "deep/er/c.webp", "x[1].jpg"]

    def test_pattern(self, folder: Path) -> None:
        assert find_images(f"{folder}/*.png") == [folder / "a.png"]
        assert find_images(f"{folder}/*") == [folder / "a.png", folder / "b.JPG", folder / "x[1].jpg"]
        assert folder / "deep/er/c.webp" in find_images(f"{folder}/**/*.webp")

    def test_files_named_outright_keep_their_order(self, folder: Path) -> None:
        names = [folder / "notes.txt", folder / "x[1].jpg", folder / "a.png"]
        assert find_images([str(name) for name in names]) == names
        assert find_images(folder / "x[1].jpg") == [folder / "x[1].jpg"]

    @pytest.mark.parametrize(
        ("source", "wording"),
        [
            ("nowhere", "'.*nowhere' does not exist. Give an image, a folder"),
            ("*.tiff", r"pattern '.*\*\.tiff' matches no image"),
            ("*.txt", "matches no image"),
            (".cache", "holds no image|does not exist"),
        ],
    )
    def test_nothing_found(self, folder: Path, source: str, wording: str) -> None:
        (folder / ".cache" / "d.png").unlink()
        with pytest.raises(InputError, match=wording):
            find_images(str(folder / source))
