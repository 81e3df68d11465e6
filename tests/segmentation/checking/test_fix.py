"""A cleaned copy of masks: the original is not touched, what is broken is gone, and the copy passes the check."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.checking.asked import Asked
from engine.errors import OutputError
from engine.reading.images import read_image
from segmentation.checking.check_data import check_data, main
from segmentation.data.cityscapes.files import CityscapesData
from segmentation.data.module import SegmentationDataModule
from tests.detection.checking.test_fix import state
from tests.engine.checking.planted import cut, pixels, turned
from tests.segmentation.checking.test_check_data import NAMES, data, labels, write_set


def _save(path: Path, mask: np.ndarray) -> None:
    Image.fromarray(mask).save(path)


def test_a_cleaned_copy_passes_the_check(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_set(root)
    images, masks = root / "images" / "train", root / "masks" / "train"
    strange = labels(1)
    strange[10, 50:60] = 7
    _save(masks / "1.png", strange)
    _save(masks / "2.png", np.repeat(labels(2)[..., None], 3, axis=2))
    _save(masks / "3.png", labels(3).astype(np.uint16))
    colours = np.array([[255, 140, 64], [64, 255, 140], [140, 64, 255]], np.uint8)
    classes = {"names": NAMES, "colors": colours.tolist()}
    _save(
        masks / "4.png", np.where(labels(4)[..., None] == 255, 255, colours[np.minimum(labels(4), 2)]).astype(np.uint8)
    )
    _save(masks / "5.png", labels(5)[:, :50])
    cut(images / "6.png")
    Image.fromarray(labels(7)).save(masks / "7.png", "jpeg")
    (masks / "8.png").unlink()
    (images / "9.png").unlink()
    _save(masks / "10.png", np.full_like(labels(1), 255))
    turned(images / "11.png")
    Image.fromarray(pixels(22)).save(images / "12.png")
    before = state(root)
    report = check_data(data(root, classes=classes), asked=Asked(fix=tmp_path / "out"))
    assert state(root) == before
    told = " ".join(report.measures)
    for what in (
        "train 5 of 11 images, val 12 of 12 images",
        "1 images without a mask",
        "1 masks without an image",
        "4 pairs that cannot be used",
        "1 copies",
        "3 masks were mended",
        "1 images were turned upright",
    ):
        assert what in told, told
    assert main(["--config", str(tmp_path / "out" / "data.yaml"), "--fail_on", "note"]) == 0
    kept = {path.stem for path in (tmp_path / "out" / "images" / "train").iterdir()}
    assert kept == {"1", "2", "3", "4", "11"}
    written = {path.stem: np.array(Image.open(path)) for path in (tmp_path / "out" / "masks" / "train").iterdir()}
    np.testing.assert_array_equal(written["1"], np.where(strange == 7, 255, strange))
    for seed in (2, 3, 4, 11):
        np.testing.assert_array_equal(written[str(seed)], labels(seed))
        assert written[str(seed)].dtype == np.uint8
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "images" / "train" / "11.png"), pixels(11)[::-1, ::-1])


def test_a_class_with_the_value_255_gets_another(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_set(root)
    for path in (root / "masks").rglob("*.png"):
        mask = np.array(Image.open(path))
        _save(path, np.where(mask == 255, 9, np.where(mask == 1, 255, 0)).astype(np.uint8))
    classes = {"names": NAMES[:2], "label_ids": [0, 255]}
    check_data(data(root, classes=classes, ignore_values=(9,)), asked=Asked(fix=tmp_path / "out"))
    written = np.array(Image.open(tmp_path / "out" / "masks" / "train" / "1.png"))
    np.testing.assert_array_equal(written, np.where(labels(1) == 2, 0, labels(1)))
    assert main(["--config", str(tmp_path / "out" / "data.yaml")]) == 0


def test_cityscapes_stays_cityscapes(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for seed in (1, 2, 3):
        ids = np.select([labels(seed) == 1, labels(seed) == 255], [26, 4], 7).astype(np.uint8)
        if seed == 2:
            ids[20, 50:55] = 77
        for kind, end, content in (
            ("leftImg8bit", "leftImg8bit", pixels(seed)),
            ("gtFine", "gtFine_labelIds", ids),
            ("gtFine", "gtFine_instanceIds", np.where(ids == 26, 26001, ids).astype(np.uint16)),
        ):
            (root / kind / "train" / "ulm").mkdir(parents=True, exist_ok=True)
            _save(root / kind / "train" / "ulm" / f"ulm_00000{seed}_000019_{end}.png", content)
    cut(root / "leftImg8bit/train/ulm/ulm_000003_000019_leftImg8bit.png")
    given = SegmentationDataModule("cityscapes", str(root), CityscapesData(val_split=None, test_split=None))
    report = check_data(given, asked=Asked(fix=tmp_path / "out"))
    assert "train 2 of 3 images" in " ".join(report.measures)
    before, after = state(root), state(tmp_path / "out")
    changed = "gtFine/train/ulm/ulm_000002_000019_gtFine_labelIds.png"
    assert {name for name in after if after[name] != before.get(name)} == {changed, "data.yaml"}
    written = np.array(Image.open(tmp_path / "out" / changed))
    assert written[20, 50:55].tolist() == [0] * 5
    again = SegmentationDataModule("cityscapes", str(tmp_path / "out"), given.cityscapes)
    assert {one.severity for one in check_data(again).findings} <= {"warning", "note"}


def test_a_copy_is_not_written_over_or_into_the_set(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_set(root)
    before = state(root)
    for folder in (root, root / "images" / "train" / "new", root / "masks" / "val" / "new"):
        with pytest.raises(OutputError):
            check_data(data(root), asked=Asked(fix=folder))
    assert state(root) == before
