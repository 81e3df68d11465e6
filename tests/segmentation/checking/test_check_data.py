"""Planted faults of masks, pairs and classes, each found by name and file; none in a clean set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.checking.asked import Asked
from segmentation.checking.check_data import check_data, main
from segmentation.data.cityscapes.files import CityscapesData
from segmentation.data.mask_folder import FolderData
from segmentation.data.module import SegmentationDataModule
from tests.engine.checking.planted import FILE_FAULTS, SIZE_HW, cut, pixels, turned

NAMES = ["background", "thing", "other"]
SEEDS = {"train": range(1, 13), "val": range(21, 33)}


def labels(seed: int) -> np.ndarray:
    """Three classes in two blocks before a background, and a stripe that is not counted."""
    mask = np.zeros(SIZE_HW, np.uint8)
    mask[4:30, 4 : 24 + seed % 20] = 1
    mask[34:60, 40 : 85 - seed % 20] = 2
    mask[:2] = 255
    return mask


def write_set(root: Path) -> None:
    for split, seeds in SEEDS.items():
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for seed in seeds:
            Image.fromarray(pixels(seed)).save(root / "images" / split / f"{seed}.png")
            Image.fromarray(labels(seed)).save(root / "masks" / split / f"{seed}.png")


def data(root: Path, **options: object) -> SegmentationDataModule:
    paths = {f"{split}_{kind}": f"{kind}/{split}" for split in SEEDS for kind in ("images", "masks")}
    return SegmentationDataModule("folder", str(root), folder=FolderData(**{**paths, "classes": NAMES, **options}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_set(tmp_path / "set")
    return tmp_path / "set"


def found(root: Path, **options: object) -> set[tuple[str, str]]:
    return {(one.name, Path(one.file).name) for one in check_data(data(root, **options)).findings}


def test_a_clean_set_has_no_finding(root: Path) -> None:
    assert found(root) == set()


def _changed(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(change(np.array(Image.open(path)))).save(path)


def _with(value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(mask: np.ndarray) -> np.ndarray:
        mask[10:12, 50:60] = value
        return mask

    return change


def _soft(path: Path) -> None:
    mask = Image.fromarray(np.where(labels(3) == 1, 200, 0).astype(np.uint8))
    mask.resize((48, 32), Image.Resampling.BILINEAR).resize(SIZE_HW[::-1], Image.Resampling.BILINEAR).save(path)


def _in_colours(path: Path) -> None:
    picture = Image.open(path)
    picture.putpalette([40, 60, 80, 120, 10, 10, 10, 120, 10] + [0] * 759)
    picture.convert("RGB").save(path)


MASK_FAULTS: dict[str, Callable[[Path], object]] = {
    "mask.empty": lambda path: path.write_bytes(b""),
    "mask.unreadable": lambda path: path.write_text("<html>not found</html>"),
    "mask.truncated": cut,
    "mask.jpeg": lambda path: Image.open(path).save(path, "jpeg"),
    "mask.suffix": lambda path: Image.open(path).save(path, "bmp"),
    "mask.size": lambda path: Image.open(path).resize((48, 32), Image.Resampling.NEAREST).save(path),
    "mask.turned": _changed(lambda mask: np.ascontiguousarray(np.rot90(mask))),
    "mask.values": _changed(_with(7)),
    "mask.blurred": _soft,
    "mask.mode": _in_colours,
    "mask.deep": _changed(lambda mask: mask.astype(np.uint16)),
    "mask.all_ignored": _changed(lambda mask: np.full_like(mask, 255)),
    "mask.mostly_ignored": _changed(lambda mask: np.where(np.arange(64)[:, None] < 40, 255, mask).astype(np.uint8)),
    "mask.one_class": _changed(np.zeros_like),
}


@pytest.mark.parametrize("name", MASK_FAULTS)
def test_a_fault_of_a_mask(root: Path, name: str) -> None:
    MASK_FAULTS[name](root / "masks" / "train" / "3.png")
    assert found(root) == {(name, "3.png")}


@pytest.mark.parametrize("name", sorted(FILE_FAULTS.keys() - {"image.missing"}))
def test_a_fault_of_an_image(root: Path, name: str) -> None:
    FILE_FAULTS[name](root / "images" / "train" / "3.png")
    assert found(root) == {(name, "3.png")}


def test_a_mask_of_a_picture_that_is_turned(root: Path) -> None:
    """Either frame is one that training reads; a mask that fits neither is not."""
    turned(root / "images" / "train" / "3.png", 6)
    assert found(root) == {("image.exif_rotated", "3.png")}
    _changed(lambda mask: np.ascontiguousarray(np.rot90(mask)))(root / "masks" / "train" / "3.png")
    assert found(root) == {("image.exif_rotated", "3.png")}


def test_halves_of_pairs(root: Path) -> None:
    (root / "masks" / "train" / "3.png").unlink()
    (root / "images" / "val" / "22.png").unlink()
    assert found(root) == {("mask.missing", "3.png"), ("mask.without_image", "22.png")}
    (root / "list.txt").write_text("1\n2\n4\nnone\n")
    assert ("mask.missing", "none") in found(root, train_list="list.txt")


def test_a_mask_that_may_mean_two_things(root: Path) -> None:
    for path in (root / "masks").rglob("*.png"):
        _changed(lambda mask: np.where(mask == 1, 255, 0).astype(np.uint8))(path)
    assert {name for name, _ in found(root, classes=["background", "thing"])} == {"mask.two_meanings"}


def test_values_that_begin_at_one(root: Path) -> None:
    for path in (root / "masks" / "train").iterdir():
        _changed(lambda mask: np.where(mask == 255, 255, mask + 1).astype(np.uint8))(path)
    names = {name for name, file in found(root) if file == "train"}
    assert names == {"masks.from_one"}
    fixed = {"names": NAMES, "label_ids": [1, 2, 3]}
    assert "masks.from_one" not in {name for name, _ in found(root, classes=fixed)}


def test_one_mask_for_many_images(root: Path) -> None:
    for seed in range(2, 6):
        Image.fromarray(labels(1)).save(root / "masks" / "train" / f"{seed}.png")
    assert found(root) == {("mask.repeated", f"{seed}.png") for seed in range(2, 6)}


def test_copies(root: Path) -> None:
    Image.fromarray(pixels(1)).save(root / "images" / "val" / "22.png")
    assert found(root) == {("leak.duplicate", "22.png"), ("label.conflict", "22.png")}
    Image.fromarray(labels(1)).save(root / "masks" / "val" / "22.png")
    assert found(root) == {("leak.duplicate", "22.png")}


def test_classes_that_are_absent_or_rare(root: Path) -> None:
    assert found(root, classes=[*NAMES, "ghost"]) == {("class.absent", "train"), ("class.absent", "val")}
    for path in (root / "masks" / "train").iterdir():
        _changed(lambda mask: np.where(mask == 2, 0, mask).astype(np.uint8))(path)
    assert found(root) == {("class.absent", "train"), ("class.not_trained", "val"), ("class.shifted", "val")}
    rare = labels(1)
    rare[rare == 2] = 0
    rare[40, 40] = 2
    Image.fromarray(rare).save(root / "masks" / "train" / "1.png")
    assert found(root) == {("class.rare", "train"), ("class.shifted", "val")}
    assert ("class.twice", "train") in found(root, classes=["background", "thing", "Thing "])


def test_one_class_that_is_nearly_all(root: Path) -> None:
    for path in (root / "masks").rglob("*.png"):
        _changed(lambda mask: np.where(np.arange(SIZE_HW[1]) == 5, mask, 0).astype(np.uint8))(path)
    assert ("class.dominant", "train") in found(root, classes=NAMES)


def test_a_split_that_cannot_be_used_or_is_another_again(root: Path) -> None:
    assert found(root, test_images="nowhere", test_masks="masks/val") == {("split.unusable", "test")}
    assert found(root, test_images="images/val", test_masks="masks/val") == set()
    assert found(root, test_images="images/train", test_masks="masks/train") == {("split.same", "test")}


def test_cityscapes(tmp_path: Path) -> None:
    for seed in (1, 2):
        for kind, end, content in (
            ("leftImg8bit", "leftImg8bit", pixels(seed)),
            ("gtFine", "gtFine_labelIds", np.where(labels(seed) == 1, 26, 7).astype(np.uint8)),
        ):
            folder = tmp_path / kind / "train" / "ulm"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(folder / f"ulm_00000{seed}_000019_{end}.png")
    given = SegmentationDataModule("cityscapes", str(tmp_path), CityscapesData(val_split=None, test_split=None))
    names = {(one.name, Path(one.file).name) for one in check_data(given).findings}
    assert names == {("class.absent", "train")}
    mask = tmp_path / "gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png"
    _changed(_with(99))(mask)
    (tmp_path / "leftImg8bit/train/ulm/ulm_000002_000019_leftImg8bit.png").rename(
        tmp_path / "leftImg8bit/train/ulm/ulm_000003_000019_leftImg8bit.png"
    )
    names = {(one.name, Path(one.file).name) for one in check_data(given).findings}
    assert names == {
        ("mask.values", mask.name),
        ("mask.missing", "ulm_000003_000019_leftImg8bit.png"),
        ("mask.without_image", "ulm_000002_000019_gtFine_labelIds.png"),
    }


def test_the_command(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "run.yaml"
    folder = {f"{split}_{kind}": f"{kind}/{split}" for split in SEEDS for kind in ("images", "masks")}
    content = {"data": {"format": "folder", "root": str(root), "folder": {**folder, "classes": NAMES}}}
    config.write_text(json.dumps(content))
    command = ["--config", str(config), "--output", str(tmp_path / "found.json")]
    assert main(command) == 0
    assert "nothing found" in capsys.readouterr().out
    _changed(_with(7))(root / "masks" / "train" / "3.png")
    Image.fromarray(labels(4)[:, :50]).save(root / "masks" / "train" / "4.png")
    assert main([*command, "--pictures", str(tmp_path / "pictures")]) == 1
    rows = json.loads((tmp_path / "found.json").read_text())["findings"]
    assert {(row["name"], Path(row["file"]).name) for row in rows} == {("mask.values", "3.png"), ("mask.size", "4.png")}
    drawn = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert drawn == {"mask.size-1-4.jpg", "mask.values-1-3.jpg"}
    assert main([]) == 2
    assert main(["--config", str(config), "--data.folder.clases", "[a]"]) == 2


def test_drawn_objects(tmp_path: Path) -> None:
    """Objects of annotation tools have no mask files; their images are looked at all the same, and a copy has masks."""
    root = tmp_path / "set"
    images, annotations = [], []
    (root / "images").mkdir(parents=True)
    for seed in (1, 2, 3):
        Image.fromarray(pixels(seed)).save(root / "images" / f"{seed}.png")
        images.append({"id": seed, "file_name": f"{seed}.png", "height": SIZE_HW[0], "width": SIZE_HW[1]})
        x = 10 + seed
        polygon = [x, 10, x + 30, 10, x + 30, 40, x, 40]
        annotations.append({"id": seed, "image_id": seed, "category_id": 1, "bbox": [x, 10, 30, 30], "area": 900})
        annotations[-1] |= {"segmentation": [polygon], "iscrowd": 0}
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    given = SegmentationDataModule("drawn", str(root))
    assert check_data(given).findings == ()
    cut(root / "images" / "2.png")
    report = check_data(SegmentationDataModule("drawn", str(root)), asked=Asked(fix=tmp_path / "out"))
    assert {(one.name, Path(one.file).name) for one in report.findings} == {("image.truncated", "2.png")}
    assert main(["--config", str(tmp_path / "out" / "data.yaml")]) == 0
    mask = np.array(Image.open(tmp_path / "out" / "masks" / "train" / "1.png"))
    assert set(np.unique(mask).tolist()) == {0, 1}
    assert mask[10:40, 11:41].mean() == 1
