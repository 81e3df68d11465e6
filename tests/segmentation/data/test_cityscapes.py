"""Cityscapes on disk: pairs, ids to rows as the official scripts map them, and every refusal."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels
from PIL import Image

from engine.errors import InputError
from engine.scenes.generate import write_scenes
from segmentation.data.cityscapes.files import CityscapesFiles, read_instance_ids, read_label_ids
from segmentation.data.cityscapes.labels import CITYSCAPES, LABELS
from segmentation.data.pairs import read_image_of

IDS = np.arange(34, dtype=np.uint8).reshape(2, 17)


def write(root: Path, split: str, city: str, count: int = 1, truth: str = "gtFine", ids: np.ndarray = IDS) -> None:
    for number in range(count):
        stem = f"{city}_{number:06}_000019"
        image = root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png"
        mask = root / truth / split / city / f"{stem}_{truth}_labelIds.png"
        for path, pixels in ((image, np.zeros((2, 17, 3), dtype=np.uint8)), (mask, ids)):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def instances(root: Path, city: str, values: np.ndarray) -> Path:
    path = root / "gtFine" / "train" / city / f"{city}_000000_000019_gtFine_instanceIds.png"
    Image.fromarray(values).save(path)
    return path


def test_labels_are_the_official_ones() -> None:
    official = [label for label in labels if label.id >= 0]
    for own, theirs in zip(LABELS, official, strict=True):
        assert own == (theirs.name, theirs.id, theirs.trainId, theirs.category, theirs.hasInstances, theirs.color)
        assert own.ignored == theirs.ignoreInEval


def test_every_id_becomes_its_training_id(tmp_path: Path) -> None:
    write(tmp_path, "val", "ulm")
    files = CityscapesFiles(tmp_path, ["val"])
    wanted = {label.id: label.trainId for label in labels}
    rows = files.read_mask(files.pairs[0].mask)
    assert rows.ravel().tolist() == [wanted[i] for i in range(34)]
    assert rows.dtype == np.uint8
    np.testing.assert_array_equal(read_label_ids(files.pairs[0].mask), IDS)
    assert files.classes is CITYSCAPES


def test_splits_and_coarse_annotations(tmp_path: Path) -> None:
    write(tmp_path, "train", "ulm", 2)
    write(tmp_path, "train", "aachen", 1)
    write(tmp_path, "train", "ulm", 2, "gtCoarse")
    write(tmp_path, "train", "aachen", 1, "gtCoarse")
    write(tmp_path, "train_extra", "bonn", 3, "gtCoarse")
    files = CityscapesFiles(tmp_path, ["train", "train_extra"])
    assert [pair.image.name[:-16] for pair in files.pairs] == [
        "aachen_000000_000019", "ulm_000000_000019", "ulm_000001_000019",
        "bonn_000000_000019", "bonn_000001_000019", "bonn_000002_000019",
    ]  # fmt: skip
    assert [pair.mask.parts[-4] for pair in files.pairs] == ["gtFine"] * 3 + ["gtCoarse"] * 3
    coarse = CityscapesFiles(tmp_path, ["train"], "coarse")
    assert {pair.mask.parts[-4] for pair in coarse.pairs} == {"gtCoarse"}
    for pair in (*files.pairs, *coarse.pairs):
        assert pair.mask.name.startswith(pair.image.name.removesuffix("leftImg8bit.png"))
        assert pair.mask.is_file()


def test_instances(tmp_path: Path) -> None:
    write(tmp_path, "train", "ulm")
    write(tmp_path, "train", "bonn")
    assert all(pair.instances is None for pair in CityscapesFiles(tmp_path, ["train"]).pairs)
    values = np.array([[24001, 26, 33999]], dtype=np.uint16)
    path = instances(tmp_path, "bonn", values)
    with pytest.raises(InputError, match=r"1 of 2 masks have no instances beside them, the first is .*ulm_000000"):
        CityscapesFiles(tmp_path, ["train"])
    instances(tmp_path, "ulm", values)
    assert CityscapesFiles(tmp_path, ["train"]).pairs[0].instances == path
    np.testing.assert_array_equal(read_instance_ids(path), values)
    assert read_instance_ids(path).dtype == np.int32


def test_generated_scenes_are_read(tmp_path: Path) -> None:
    write_scenes(tmp_path, counts={"val": 2}, size_hw=(64, 128), workers=0)
    files = CityscapesFiles(tmp_path, ["val"])
    assert len(files.pairs) == 2
    for pair in files.pairs:
        rows = files.read_mask(pair.mask)
        assert read_image_of((64, 128), pair).image.shape == (64, 128, 3)
        assert (rows == 0).any()
        things = read_instance_ids(pair.instances)
        np.testing.assert_array_equal(CITYSCAPES.class_by_label[np.where(things > 999, things // 1000, things)], rows)


def test_masks_without_image_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "val", "ulm", 3)
    (tmp_path / "leftImg8bit/val/ulm/ulm_000001_000019_leftImg8bit.png").unlink()
    with caplog.at_level(logging.INFO):
        assert len(CityscapesFiles(tmp_path, ["val"]).pairs) == 2
    assert "1 masks have no image" in caplog.text


def test_refusals(tmp_path: Path) -> None:
    write(tmp_path, "train", "ulm", 3)
    write(tmp_path, "void", "ulm")
    (tmp_path / "leftImg8bit/void/ulm/ulm_000000_000019_leftImg8bit.png").unlink()
    for splits, kind, wording in (
        (["trian"], "fine", "has no split 'trian'; it has train, void. Did you mean 'train'?"),
        (["train"], "coarse", "has no folder 'gtCoarse'"),
        (["void"], "fine", "holds no 'CITY/*_leftImg8bit.png'"),
    ):
        with pytest.raises(InputError) as caught:
            CityscapesFiles(tmp_path, splits, kind)  # type: ignore[arg-type]
        assert wording in str(caught.value)
    with pytest.raises(
        InputError, match=r"has no folder 'leftImg8bit'\. Give the folder that holds leftImg8bit and gtF"
    ):
        CityscapesFiles(tmp_path / "leftImg8bit", ["train"])
    folder = tmp_path / "gtFine/train/ulm"
    for number in (1, 2):
        name = folder / f"ulm_00000{number}_000019_gtFine_labelIds.png"
        name.rename(folder / name.name.replace("labelIds", "labelTrainIds"))
    with pytest.raises(InputError, match=r"has 'ulm/ulm_000001_000019_gtFine_labelTrainIds.png' but no .*labelIds.png"):
        CityscapesFiles(tmp_path, ["train"])
    (folder / "ulm_000001_000019_gtFine_labelTrainIds.png").unlink()
    with pytest.raises(
        InputError, match=r"2 of 3 images have no mask, the first is '.*ulm_000001_000019_leftImg8bit.p"
    ):
        CityscapesFiles(tmp_path, ["train"])


def test_training_ids_in_the_files_are_noticed(tmp_path: Path) -> None:
    write(tmp_path, "val", "ulm", ids=CITYSCAPES.class_by_label[IDS])
    files = CityscapesFiles(tmp_path, ["val"])
    with pytest.raises(
        InputError, match=r"has the value 255 and others .* in 15 pixels; ids are 0 to 33. Give '_label"
    ):
        files.read_mask(files.pairs[0].mask)
