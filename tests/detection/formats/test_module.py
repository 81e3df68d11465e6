"""`--data.root SET` on the command line, and splits that are made where a set has none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from detection.formats.found import read_set
from detection.formats.module import BoxSetModule
from engine.annotations.splits import shares_of
from engine.errors import InputError
from joint.data.module import BoxFiles, JointDataModule
from tests.detection.formats.sets import (
    WRITERS,
    boxes_of,
    coco,
    voc_xml,
    write_coco,
    write_images,
    write_voc,
    write_yolo,
)
from tests.detection.small import ARCHITECTURE, command


def many(root: Path, count: int) -> Path:
    """A VOC set without lists: images `N_0.png` and `N_1.png`, two frames each of `count` videos."""
    write_images(root, ("a1.png",))
    for number in range(count):
        for frame in range(2):
            shutil.copy(root / "a1.png", root / f"{number}_{frame}.png")
            (root / f"{number}_{frame}.xml").write_text(voc_xml("a1.png"))
    (root / "a1.png").unlink()
    return root


def names(module: BoxSetModule) -> dict[str, set[str]]:
    """The names of the images of each split."""
    return {
        split: {table.image_path(place).name for place in range(len(table))} for split, table in module.parts.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("word", WRITERS)
def test_fit_and_validate_take_a_folder(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    WRITERS[word](tmp_path / "set")
    small = " ".join(f"--model.architecture.{key} {value}".replace(", ", ",") for key, value in ARCHITECTURE.items())
    common = f"--data.root set {small} --data.batch_size 2 --data.num_workers 0 --trainer.accelerator cpu"
    said = command(
        f"fit --model.member lite0 --model.backbone_weights null {common} --trainer.max_steps 1 --run.name r"
    )
    assert said.code == 0, said.err
    assert "4 images, 3 classes, 5 boxes" in said.err + said.out
    said = command("validate --ckpt_path last --data.root set --data.num_workers 0 --trainer.accelerator cpu")
    assert said.code == 0, said.err


def test_split_is_by_name_and_stays_when_images_come(tmp_path: Path) -> None:
    few = names(BoxSetModule(str(many(tmp_path, 30)), split="0.6/0.2/0.2"))
    more = names(BoxSetModule(str(many(tmp_path, 60)), split="0.6/0.2/0.2"))
    assert sum(map(len, few.values())) == 60
    assert sum(map(len, more.values())) == 120
    assert all(few[split] < more[split] for split in few)
    # Binomial with 120 draws: five deviations from the shares.
    for split, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        assert abs(len(more[split]) - 120 * share) < 5 * np.sqrt(120 * share * (1 - share))


def test_split_keeps_boxes_with_their_images(tmp_path: Path) -> None:
    module = BoxSetModule(str(many(tmp_path, 10)), split="0.5/0.5")
    for table in module.parts.values():
        assert np.diff(table.box_ends).tolist() == [2] * len(table)
        np.testing.assert_array_equal(table.boxes_xywh[::2], [[10, 20, 40, 50]] * len(table))


def test_groups_stay_together(tmp_path: Path) -> None:
    parts = names(BoxSetModule(str(many(tmp_path, 40)), split="0.5/0.25/0.25", group=r"(\d+)_\d"))
    videos = [{name.split("_")[0] for name in found} for found in parts.values()]
    assert len(set.union(*videos)) == sum(map(len, videos)) == 40
    apart = names(BoxSetModule(str(tmp_path), split="0.5/0.25/0.25"))
    assert sum(len({name.split("_")[0] for name in found}) for found in apart.values()) > 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "has no splits. Give --data.split"),
        ({"split": "0.8/0.1"}, "which make 1"),
        ({"split": "a/b/c"}, "which make 1"),
        ({"split": "nan/0.5/0.5"}, "which make 1"),
        ({"split": "0.5/0.5", "group": "("}, "no regular expression"),
        ({"split": "0.5/0.5", "group": "zebra"}, "matches none of 8 images"),
        ({"split": "0.999999/0.000001"}, "leave none for val"),
        ({"group": "a"}, "Give --data.split too"),
        ({"format": "yolo"}, "no labels as YOLO"),
        ({"classes": ("nut", "bolt")}, "--data.classes lacks"),
    ],
)
def test_mistakes_in_one_line(options: dict[str, object], message: str, tmp_path: Path) -> None:
    many(tmp_path, 4)
    with pytest.raises(InputError, match=message) as error:
        BoxSetModule(str(tmp_path), **options).has("train")
    assert "\n" not in str(error.value)


def test_a_set_with_splits_takes_no_others(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has the splits train, val already"):
        BoxSetModule(str(write_voc(tmp_path)), split="0.5/0.5").has("train")


def test_classes_give_the_order(tmp_path: Path) -> None:
    sets = [write_coco(tmp_path / "c"), write_voc(tmp_path / "v"), write_yolo(tmp_path / "y")]
    for root in sets[:2]:
        table = BoxSetModule(str(root), classes=("nut", "wheel", "bolt")).parts["train"]
        assert table.classes.names == ("nut", "wheel", "bolt")
        assert [table.classes.names[row] for row in table.class_ids] == [
            box.name for box in boxes_of(("a1.png", "a2.png"))
        ]


def test_two_formats_in_one_folder_are_asked_about(tmp_path: Path) -> None:
    write_voc(tmp_path)
    (tmp_path / "train.json").write_text(json.dumps(coco(("a1.png", "a2.png"))))
    with pytest.raises(InputError, match=r"COCO and Pascal VOC\. Say which: --data\.format coco or voc"):
        BoxSetModule(str(tmp_path)).has("train")
    with pytest.raises(InputError, match=r"Say which: --format coco or voc"):
        read_set(tmp_path)  # as `check` and `convert-data` read, which name it so
    assert read_set(tmp_path, "voc").line().startswith("Pascal VOC, 4 images")
    assert read_set(tmp_path / "train.json").line() == "COCO, 2 images, 3 classes, 3 boxes (train 2)"


def test_joint_takes_a_folder_for_its_boxes(tmp_path: Path) -> None:
    module = JointDataModule("two", boxes=BoxFiles(root=str(write_yolo(tmp_path))), ratio=(1, 0))
    assert module.has_boxes("train")
    assert not module.has_boxes("test")
    assert module.classes.names == ("wheel", "bolt", "nut")
    assert len(module.box_source("val").image_ids) == 2


def test_shares() -> None:
    assert shares_of("0.8/0.1/0.1") == (0.8, 0.1, 0.1)
    assert shares_of(" 0.7 / 0.3 ") == (0.7, 0.3, 0.0)
