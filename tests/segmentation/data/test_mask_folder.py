"""Folders of images and masks: what a mask's values mean, how files pair, and every refusal."""

from __future__ import annotations

import json
import logging
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.errors import InputError
from segmentation.data.class_files import class_list, read_class_list
from segmentation.data.classes import IGNORED, MaskClasses
from segmentation.data.mask_folder import MaskFolder
from segmentation.data.masks import MaskReader
from segmentation.data.pairs import Pair, read_image_of

CLASSES = MaskClasses(("ground", "tree", "house"), (0, 7, 200), ((10, 20, 30), (0, 255, 0), (255, 0, 0)))
ROWS = np.array([[0, 1, 2, IGNORED], [2, 2, 1, 0]], dtype=np.uint8)
VALUES = np.array([[0, 7, 200, 255], [200, 200, 7, 0]], dtype=np.uint8)
TWO = MaskClasses(("background", "nucleus"))


def picture(path: Path, size: tuple[int, int] = (2, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


def mask(path: Path, values: np.ndarray = VALUES, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return path


class TestReader:
    @pytest.mark.parametrize("name", ["m.png", "m.tif", "m.bmp"])
    def test_index(self, tmp_path: Path, name: str) -> None:
        rows = MaskReader(CLASSES)(mask(tmp_path / name))
        np.testing.assert_array_equal(rows, ROWS)
        assert rows.dtype == np.uint8

    @pytest.mark.parametrize("name", ["m.png", "m.tif"])
    def test_index_of_16_bits(self, tmp_path: Path, name: str) -> None:
        wide = VALUES.astype(np.uint16)
        wide[0, 3] = 65535
        reader = MaskReader(CLASSES, ignore_values=(65535,))
        np.testing.assert_array_equal(reader(mask(tmp_path / name, wide)), ROWS)
        with pytest.raises(InputError, match=r"has 65535 \(1 pixel\)"):
            MaskReader(CLASSES)(tmp_path / name)

    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    def test_a_palette_counts_by_its_indices(self, tmp_path: Path, bits: int) -> None:
        indices = np.array([[0, 1], [1, 0]], dtype=np.uint8)
        image = Image.frombytes("P", (2, 2), indices.tobytes())
        image.putpalette([9, 9, 9, 200, 100, 50])
        image.save(tmp_path / "m.png", bits=bits)
        np.testing.assert_array_equal(MaskReader(TWO)(tmp_path / "m.png"), indices)

    @pytest.mark.parametrize("bits", [1, 2, 4])
    def test_grey_of_few_bits_is_not_spread_over_255(self, tmp_path: Path, bits: int) -> None:
        # Pillow gives 255, 85 and 17 for a stored 1 of one, two and four bits; cv2 does too.
        (tmp_path / "m.png").write_bytes(grey_png(bits, [[0, 1], [1, 0]]))
        np.testing.assert_array_equal(MaskReader(TWO)(tmp_path / "m.png"), [[0, 1], [1, 0]])

    def test_0_and_255_alone_are_two_meanings(self, tmp_path: Path) -> None:
        path = mask(tmp_path / "m.png", np.array([[0, 255], [255, 0]], dtype=np.uint8))
        with pytest.raises(InputError, match=r"give label_ids .0, 255.; where not, ignore_values"):
            MaskReader(TWO)(path)
        for reader, rows in (
            (MaskReader(TWO, "binary"), [[0, 1], [1, 0]]),
            (MaskReader(TWO, ignore_values=(255,)), [[0, 255], [255, 0]]),
            (MaskReader(MaskClasses(TWO.names, (0, 255))), [[0, 1], [1, 0]]),
        ):
            np.testing.assert_array_equal(reader(path), rows)

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
    def test_color(self, tmp_path: Path, mode: str) -> None:
        colors = np.array([*CLASSES.colors, (1, 2, 3)], dtype=np.uint8)[np.minimum(ROWS, 3)]
        image = Image.fromarray(colors)
        image = image.quantize(4) if mode == "P" else image.convert(mode)
        image.save(tmp_path / "m.png")
        reader = MaskReader(CLASSES, "color", ignore_colors=((1, 2, 3),))
        np.testing.assert_array_equal(reader(tmp_path / "m.png"), ROWS)

    @given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=40, unique=True), st.randoms())
    @settings(max_examples=30, deadline=None)
    def test_color_equals_a_dictionary(self, tmp_path_factory: Any, colors: list[Any], random: Any) -> None:
        classes = MaskClasses(tuple(map(str, colors)), (), tuple(colors))
        wanted = np.array([[random.randrange(len(colors)) for _ in range(9)] for _ in range(5)])
        path = mask(tmp_path_factory.mktemp("color") / "m.png", np.array(colors, dtype=np.uint8)[wanted])
        np.testing.assert_array_equal(MaskReader(classes, "color")(path), wanted)

    def test_binary(self, tmp_path: Path) -> None:
        wide = np.array([[0, 1, 256, 65535]], dtype=np.uint16)
        np.testing.assert_array_equal(MaskReader(TWO, "binary")(mask(tmp_path / "a.png", wide)), [[0, 1, 1, 1]])
        np.testing.assert_array_equal(MaskReader(TWO, "binary")(mask(tmp_path / "b.png")), VALUES != 0)
        np.testing.assert_array_equal(MaskReader(TWO, "binary")(mask(tmp_path / "c.png", VALUES > 7)), VALUES > 7)
        ignoring = MaskReader(TWO, "binary", ignore_values=(7,))
        np.testing.assert_array_equal(ignoring(tmp_path / "b.png"), [[0, 255, 1, 1], [1, 1, 255, 0]])

    def test_255_may_be_a_class(self, tmp_path: Path) -> None:
        classes = MaskClasses(("a", "b"), (0, 255))
        path = mask(tmp_path / "m.png", np.array([[0, 255]], dtype=np.uint8))
        assert MaskReader(classes)(path).tolist() == [[0, 1]]

    def test_unknown_values_are_named_with_file_and_count(self, tmp_path: Path) -> None:
        values = VALUES.copy()
        values[1] = [3, 3, 3, 4]
        path = mask(tmp_path / "m.png", values)
        with pytest.raises(InputError) as caught:
            MaskReader(CLASSES)(path)
        assert f"mask '{path}' has 3 (3 pixels), 4 (1 pixel), which the class list does not know" in str(caught.value)
        assert "(0 ground, 7 tree, 200 house; ignored: 255)" in str(caught.value)
        np.testing.assert_array_equal(
            MaskReader(CLASSES, ignore_values=(3, 4, 255))(path), [[0, 1, 2, 255], [255, 255, 255, 255]]
        )
        with pytest.raises(InputError, match=r"255 \(1 pixel\)"):
            MaskReader(CLASSES, ignore_values=(3, 4))(path)

    def test_unknown_colors(self, tmp_path: Path) -> None:
        colors = CLASSES.color_by_class[np.minimum(ROWS, 2)]
        colors[0, 0] = (255, 255, 255)
        colors[1, :2] = (10, 20, 31)
        with pytest.raises(InputError, match=r"colours \(10, 20, 31\) \(2 pixels\), \(255, 255, 255\) \(1 pixel\), w"):
            MaskReader(CLASSES, "color")(mask(tmp_path / "m.png", colors))

    def test_what_is_no_such_mask(self, tmp_path: Path) -> None:
        color = np.zeros((2, 4, 3), dtype=np.uint8)
        half = np.full((2, 4, 4), 128, dtype=np.uint8)
        (tmp_path / "broken.png").write_bytes(
            mask(tmp_path / "whole.png", np.eye(300, dtype=np.uint8)).read_bytes()[:90]
        )
        (tmp_path / "text.png").write_text("no image")
        for path, mask_format, wording in (
            (mask(tmp_path / "m.jpg"), "index", "is saved as JPEG, which changes its values"),
            (mask(tmp_path / "hidden.png", format="JPEG"), "binary", "is saved as JPEG"),
            (mask(tmp_path / "j.tif", compression="jpeg"), "index", "is saved as JPEG"),
            (mask(tmp_path / "rgb.png", color), "index", "is RGB, where mask_format 'index' means one value a pixel"),
            (mask(tmp_path / "rgba.png", half), "binary", "is RGB, where mask_format 'binary'"),
            (mask(tmp_path / "f.tif", color[..., 0].astype(np.float32)), "index", "of Pillow's mode F"),
            (mask(tmp_path / "grey.png"), "color", "has one value a pixel, where mask_format 'color' means RGB"),
            (mask(tmp_path / "half.png", half), "color", "has transparent pixels"),
            (tmp_path / "broken.png", "index", "cannot read mask"),
            (tmp_path / "text.png", "index", "it is no image of a known kind"),
            (tmp_path / "none.png", "index", "does not exist"),
        ):
            with pytest.raises(InputError) as caught:
                MaskReader(TWO if mask_format == "binary" else CLASSES, mask_format)(path)
            assert wording in str(caught.value)
            assert str(path) in str(caught.value)
            assert "\n" not in str(caught.value)

    def test_settings_that_contradict_each_other(self) -> None:
        same = ((1, 1, 1), (1, 1, 1))
        for options, wording in (
            ({"mask_format": "indexed"}, "Did you mean 'index'"),
            ({"mask_format": "binary"}, "the class list has 3 names"),
            ({"ignore_values": (0, 7)}, "0 is both ignored and a class's"),
            ({"mask_format": "color", "ignore_colors": ((0, 255, 0),)}, "is both ignored"),
            (
                {"mask_format": "color", "classes": MaskClasses(("a", "b"), (), same)},
                "the colour (1, 1, 1) more than once",
            ),
        ):
            with pytest.raises(InputError) as caught:
                MaskReader(**({"classes": CLASSES} | options))  # type: ignore[arg-type]
            assert wording in str(caught.value)


def grey_png(bits: int, rows: list[list[int]]) -> bytes:
    """A grey PNG of less than eight bits, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), bits, 0, 0, 0, 0)
    packed = b"".join(
        b"\0" + bytes([sum(value << (8 - bits * (place + 1)) for place, value in enumerate(row))]) for row in rows
    )
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(packed)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def folder(root: Path, **options: Any) -> MaskFolder:
    return MaskFolder(root / "images", root / options.pop("masks", "masks"), MaskReader(CLASSES), **options)


def names(found: MaskFolder) -> list[tuple[str, str]]:
    return [(pair.image.name, pair.mask.name) for pair in found.pairs]


class TestPairs:
    def test_by_relative_name(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        for name in ("b.jpg", "a/b.png", "a.b.png"):
            picture(tmp_path / "images" / name)
        for name in ("b.png", "a/b.tif", "a.b.png", "c.png"):
            mask(tmp_path / "masks" / name)
        with caplog.at_level(logging.INFO):
            found = folder(tmp_path)
        pairs = {pair.image.relative_to(tmp_path).as_posix(): pair.mask.relative_to(tmp_path) for pair in found.pairs}
        assert {image: path.as_posix() for image, path in pairs.items()} == {
            "images/b.jpg": "masks/b.png",
            "images/a/b.png": "masks/a/b.tif",
            "images/a.b.png": "masks/a.b.png",
        }
        assert "1 masks have no image and are left out" in caplog.text
        assert found.classes is CLASSES
        np.testing.assert_array_equal(found.read_mask(found.pairs[0].mask), ROWS)

    def test_suffixes_in_one_folder(self, tmp_path: Path) -> None:
        for name in ("1.png", "2.png"):
            picture(tmp_path / "images" / name)
        for name in ("1_mask.png", "2_mask.png"):
            mask(tmp_path / "images" / name)
        found = folder(tmp_path, masks="images", mask_suffix="_mask")
        assert names(found) == [("1.png", "1_mask.png"), ("2.png", "2_mask.png")]

    def test_suffixes_of_both(self, tmp_path: Path) -> None:
        picture(tmp_path / "images" / "1_rgb.jpg")
        picture(tmp_path / "images" / "1_depth.png")
        mask(tmp_path / "images" / "1_mask.png")
        mask(tmp_path / "masks" / "1_mask.png")
        for masks in ("images", "masks"):
            found = folder(tmp_path, masks=masks, image_suffix="_rgb", mask_suffix="_mask")
            assert names(found) == [("1_rgb.jpg", "1_mask.png")]

    def test_masks_below_the_images(self, tmp_path: Path) -> None:
        picture(tmp_path / "images" / "1.png")
        mask(tmp_path / "images" / "masks" / "1.png")
        assert names(folder(tmp_path, masks="images/masks")) == [("1.png", "1.png")]

    def test_lists(self, tmp_path: Path) -> None:
        for name in ("1", "2", "s/3"):
            picture(tmp_path / "images" / f"{name}_rgb.png")
            mask(tmp_path / "masks" / f"{name}.png")
        # The third has no mask and is not asked for.
        picture(tmp_path / "images" / "4_rgb.png")
        (tmp_path / "list.txt").write_text("s/3_rgb.png\r\n\n1\n2_rgb\n", encoding="utf-8")
        content = {"images": [{"id": 4, "file_name": "2_rgb.png", "height": 2}], "annotations": [{"id": 1}]}
        (tmp_path / "list.json").write_text(json.dumps(content))
        found = folder(tmp_path, image_suffix="_rgb", list_file=tmp_path / "list.txt")
        assert names(found) == [("3_rgb.png", "3.png"), ("1_rgb.png", "1.png"), ("2_rgb.png", "2.png")]
        found = folder(tmp_path, image_suffix="_rgb", list_file=tmp_path / "list.json")
        assert names(found) == [("2_rgb.png", "2.png")]

    def test_refusals(self, tmp_path: Path) -> None:
        for number in range(4):
            picture(tmp_path / "images" / f"{number}.png")
        mask(tmp_path / "masks" / "0.png")
        (tmp_path / "empty").mkdir()
        for text, name in (
            ("0\n9.png\n8\n", "gone"),
            ("", "void"),
            ("0\n0.png", "twice"),
            ("{", "bad.json"),
            ('{"images": []}', "no.json"),
        ):
            (tmp_path / name).write_text(text)
        for options, wording in (
            ({}, "3 of 4 images have no mask, the first is '{}/images/1.png'. Add '{}/masks/1.png'"),
            ({"masks": "nowhere"}, "mask folder '{}/nowhere' does not exist"),
            ({"masks": "empty"}, "folder '{}/empty' holds no image"),
            ({"mask_suffix": "_m"}, "holds no file that ends in '_m'. Correct mask_suffix"),
            ({"list_file": tmp_path / "gone"}, "list '{}/gone' names 2 images that are not in the folder"),
            ({"list_file": tmp_path / "void"}, "names no image"),
            ({"list_file": tmp_path / "twice"}, "names '0' more than once"),
            ({"list_file": tmp_path / "bad.json"}, "cannot read list '{}/bad.json'"),
            ({"list_file": tmp_path / "no.json"}, "names no image"),
            ({"list_file": tmp_path / "none.txt"}, "does not exist"),
        ):
            with pytest.raises(InputError) as caught:
                folder(tmp_path, **options)
            assert wording.replace("{}", str(tmp_path)) in str(caught.value)
        picture(tmp_path / "images" / "1.jpg")
        with pytest.raises(InputError, match="have the same name"):
            folder(tmp_path)


class TestImageOf:
    def test_exif_rotation(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        path = picture(tmp_path / "1.png")
        stored = np.asarray(Image.open(path))
        Image.open(path).save(path, exif=exif)
        pair = folder_pair(path)
        np.testing.assert_array_equal(read_image_of((2, 4), pair).image, stored)
        np.testing.assert_array_equal(read_image_of((4, 2), pair).image, np.rot90(stored, -1))
        with pytest.raises(InputError, match=r"is 2x4 \(width x height\) but its mask '.*m.png' is 3x2. Give the mask"):
            read_image_of((2, 3), pair)

    def test_a_turned_mask_of_an_upright_image_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="but its mask"):
            read_image_of((4, 2), folder_pair(picture(tmp_path / "1.png")))


def folder_pair(path: Path) -> Pair:
    return Pair(path, path.with_name("m.png"))


class TestClassLists:
    def test_forms(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text("[ground, tree]\n")
        (tmp_path / "b.yaml").write_text("names: [a, b]\nlabel_ids: [3, 4]\ncolors:\n- [1, 2, 3]\n- [4, 5, 6]\n")
        assert read_class_list(tmp_path / "a.yaml") == MaskClasses(("ground", "tree"))
        assert read_class_list(tmp_path / "b.yaml") == MaskClasses(("a", "b"), (3, 4), ((1, 2, 3), (4, 5, 6)))
        assert class_list(CLASSES.to_dict()) == CLASSES
        assert MaskClasses(["a", "b"], [3, 4], [[1, 2, 3], [4, 5, 6]]) == read_class_list(tmp_path / "b.yaml")  # type: ignore[arg-type]

    def test_refusals(self, tmp_path: Path) -> None:
        (tmp_path / "bad.yaml").write_text("a: [b")
        (tmp_path / "no.yaml").write_text("[yes, no]")
        for path, wording in (("none", "does not exist"), ("bad.yaml", "cannot read"), ("no.yaml", "True is not text")):
            with pytest.raises(InputError, match=wording):
                read_class_list(tmp_path / path)
        for content, wording in (
            ({"names": ["a"], "colours": []}, "Did you mean 'colors'"),
            ({"label_ids": [1]}, "names is None, not a list"),
            (3, "names is 3, not a list"),
            ({"names": ["a"], "label_ids": ["1"]}, "whole numbers"),
            ({"names": ["a"], "colors": [[1, 2]]}, "three for each of the colors"),
            ({"names": ["a", "a"]}, "more than once"),
        ):
            with pytest.raises(InputError, match=wording):
                class_list(content)
