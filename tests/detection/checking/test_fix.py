"""A cleaned copy: the original is not touched, what is broken is gone, and the copy passes the check."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detection.checking.check import check, check_sources, main
from detection.data.boxes import BoxTable
from detection.data.classes import BoxClasses
from detection.formats.found import read_set
from detection.network.family import architecture
from engine.checking.asked import Asked
from engine.errors import OutputError
from engine.reading.images import read_image
from tests.detection.checking.sets import GOOD, Boxes, boxes_of, clean_set
from tests.detection.formats.sets import write_coco
from tests.engine.checking.planted import as_jpeg, cut, pixels, resized, several_frames, turned

NETWORK = architecture("d0")


def state(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def boxes_in(splits: dict[str, BoxTable] | object, split: str, stem: str) -> np.ndarray:
    assert isinstance(splits, dict)
    table = splits[split]
    place = next(place for place in range(len(table)) if table.image_path(place).stem == stem)
    return table.boxes_xywh[slice(*table.box_ends[place : place + 2].tolist())]


BROKEN: Boxes = (
    *GOOD,
    (float("nan"), 5.0, 20.0, 20.0),
    (5.0, 5.0, 0.0, 20.0),
    (120.0, 5.0, 20.0, 20.0),
    (80.0, 50.0, 30.0, 30.0),
    GOOD[1],
)


@pytest.mark.parametrize("to", ["coco", "voc", "yolo"])
def test_a_cleaned_copy_passes_the_check(tmp_path: Path, to: str) -> None:
    root = tmp_path / "set"
    splits = clean_set(root, train={2: BROKEN, 3: ((5.0, 5.0, 40.0, 20.0), (10.0, 30.0, 30.0, 20.0))})
    splits["train"].class_ids[4 + 6] = 1  # the box that is there twice has one class
    train = root / "train"
    turned(train / "3.png")  # upside down, so that both frames have one size, and the upright one counts
    turned(train / "4.png", 6)
    splits["train"].sizes_hw[3] = 96, 64
    cut(train / "5.png")
    as_jpeg(train / "6.png")
    several_frames(train / "7.png")
    resized(train / "8.png")
    (train / "9.png").unlink()
    Image.fromarray(pixels(22)).save(train / "10.png")
    Image.fromarray(pixels(11)).save(train / "12.png")
    before = state(root)
    report = check_sources("set", splits, NETWORK, fix_to=to, asked=Asked(fix=tmp_path / "out"))
    assert state(root) == before
    assert report.exit_code() == 1
    told = " ".join(report.measures)
    for what in (
        "train 10 of 15 images, val 15 of 15 images",
        "2 images that cannot be read",
        "1 images of another size",
        "2 copies",
        "3 boxes of no use",
        "1 boxes that stood twice",
        "3 boxes were clipped",
        "2 images were turned upright",
        "1 images keep their first frame",
        "1 images got the suffix",
    ):
        assert what in told
    cleaned = check(tmp_path / "out")
    assert {one.name for one in cleaned.findings if one.severity != "note"} == set()
    assert cleaned.exit_code() == 0
    found = read_set(tmp_path / "out").splits
    names = {split: {table.image_path(place).stem for place in range(len(table))} for split, table in found.items()}
    assert {"5", "8", "9", "10", "12"}.isdisjoint(names["train"])
    assert "22" in names["val"]
    np.testing.assert_allclose(boxes_in(dict(found), "train", "2"), [*GOOD, (80, 50, 16, 14)], atol=1e-3)
    np.testing.assert_allclose(boxes_in(dict(found), "val", "21"), boxes_of(21), atol=1e-3)
    images = {path.stem: path for path in (tmp_path / "out").rglob("*") if path.suffix in (".png", ".jpeg")}
    np.testing.assert_array_equal(read_image(images["3"]), pixels(3)[::-1, ::-1])
    np.testing.assert_array_equal(read_image(images["4"]), np.rot90(pixels(4), -1))
    assert images["6"].suffix == ".jpeg"


def test_boxes_of_stored_pixels_stay_there(tmp_path: Path) -> None:
    """Boxes that were drawn on a picture as it is stored are trained there, and so the copy has the stored pixels."""
    splits = clean_set(tmp_path / "set")
    turned(tmp_path / "set" / "train" / "4.png", 6)
    check_sources("set", splits, NETWORK, asked=Asked(fix=tmp_path / "out"))
    found = read_set(tmp_path / "out").splits
    np.testing.assert_allclose(boxes_in(dict(found), "train", "4"), boxes_of(4))
    image = next(path for path in (tmp_path / "out").rglob("4.png"))
    np.testing.assert_array_equal(read_image(image), pixels(4))


def test_splits_get_one_class_list(tmp_path: Path) -> None:
    splits = clean_set(tmp_path / "set")
    splits["val"] = dataclasses.replace(splits["val"], classes=BoxClasses(("nut", "washer"), (1, 2)))
    check_sources("set", splits, NETWORK, asked=Asked(fix=tmp_path / "out"))
    found = read_set(tmp_path / "out").splits
    assert {table.classes.names for table in found.values()} == {("bolt", "nut", "washer")}
    assert np.bincount(found["val"].class_ids, minlength=3).tolist() == [0, 30, 30]
    assert np.bincount(found["train"].class_ids, minlength=3).tolist() == [30, 30, 0]


def test_a_copy_is_not_written_over_anything(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "set")
    assert main([str(root), "--fix", str(tmp_path / "out")]) == 0
    assert main([str(tmp_path / "out")]) == 0
    before = state(tmp_path / "out")
    assert main([str(root), "--fix", str(tmp_path / "out")]) == 2
    assert state(tmp_path / "out") == before
    assert main([str(root), "--fix", str(root / "images" / "clean")]) == 2
    assert not (root / "images" / "clean").exists()


def test_a_set_without_anything_of_use_is_refused(tmp_path: Path) -> None:
    splits = clean_set(tmp_path / "set")
    for path in (tmp_path / "set").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(OutputError, match="no image of the set can be used"):
        check_sources("set", splits, NETWORK, asked=Asked(fix=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))
