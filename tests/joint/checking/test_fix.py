"""A cleaned copy of boxes and masks: the sets are not touched, and the copy trains without a fault."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from detection.network.family import architecture
from engine.checking.asked import Asked
from engine.errors import OutputError
from joint.checking.check import check, main
from joint.data.files import BoxFiles, MaskFiles
from joint.data.module import JointDataModule
from segmentation.data.mask_folder import FolderData
from tests.detection.checking.test_fix import state
from tests.engine.checking.planted import cut
from tests.joint.sets import LOADING, both, two

NETWORK = architecture("lite0")


def module_of(config: Path) -> JointDataModule:
    """The data module that the copy's own config describes."""
    data: dict[str, Any] = yaml.safe_load(config.read_text())["data"]
    masks = dict(data["masks"])
    folder = masks.pop("folder", None)
    if folder is not None:
        masks["folder"] = FolderData(**folder)
    return JointDataModule(
        data["format"], data.get("root"), boxes=BoxFiles(**data["boxes"]), masks=MaskFiles(**masks), **LOADING
    )


def errors(report: Any) -> list[tuple[str, str]]:
    return [(one.name, Path(one.file).name) for one in report.findings if one.severity == "error"]


def test_one_set_keeps_what_has_both(streets: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(streets, tmp_path / "streets"))
    images = sorted((root / "leftImg8bit" / "train").rglob("*.png"))
    masks = sorted((root / "gtFine" / "train").rglob("*_labelIds.png"))
    cut(images[0])
    Image.fromarray(np.array(Image.open(masks[1]))[:, :50]).save(masks[1])
    file = root / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    named = {image["id"]: Path(image["file_name"]).name for image in content["images"]}
    content["images"] = [image for image in content["images"] if named[image["id"]] != images[2].name]
    known = {image["id"] for image in content["images"]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in known]
    whole = next(one for one in content["annotations"] if named[one["image_id"]] == images[3].name)
    content["annotations"].append({**whole, "id": 99_999, "bbox": [5, 5, 0, 7]})
    content["annotations"].append({**whole, "id": 99_998, "bbox": "none"})
    file.write_text(json.dumps(content))
    shutil.copy(sorted((root / "leftImg8bit" / "val").rglob("*.png"))[0], images[4])
    before = state(root)
    report = check(both(root), NETWORK, Asked(fix=tmp_path / "out"))
    assert state(root) == before
    told = "\n".join(report.measures)
    for what in (
        "train 2 of 6 images, val 3 of 3 images",
        "1 images without an entry",
        "1 copies of other images",
        "2 pairs that cannot be used",
        "1 boxes of no use",
        "1 rows of labels that cannot be read",
    ):
        assert what in told, told
    assert ("label.broken", file.name) in errors(report)
    copy = module_of(tmp_path / "out" / "data.yaml")
    assert errors(check(copy, NETWORK)) == []
    copied = copy.box_source("train")
    kept = {images[3].name, images[5].name}
    assert {copied.image_path(place).name for place in range(len(copied.image_ids))} == kept
    # What stays is as it was: the boxes of the kept images, and the masks byte by byte.
    source = both(streets).box_source("train")
    places = [place for place in range(len(source.image_ids)) if source.image_path(place).name in kept]
    rows = np.concatenate([np.arange(source.box_ends[place], source.box_ends[place + 1]) for place in places])
    np.testing.assert_allclose(copied.boxes_xywh, source.boxes_xywh[rows])
    for pair in copy.mask_source("train").pairs:
        (original,) = (root / "gtFine" / "train").rglob(pair.mask.name)
        assert pair.mask.read_bytes() == original.read_bytes()


def test_two_sets_and_what_leaks_between_them(photos: Path, streets: Path, tmp_path: Path) -> None:
    """An image that trains boxes and validates masks goes from the training; one with both kinds in one split stays."""
    own = Path(shutil.copytree(photos, tmp_path / "photos"))
    train = sorted((own / "train").rglob("*.png"))
    shutil.copy(sorted((streets / "leftImg8bit" / "val").rglob("*.png"))[0], train[0])
    content = json.loads((own / "train.json").read_text())
    for image in content["images"]:
        if Path(image["file_name"]).name == train[0].name:
            image["height"], image["width"] = 64, 128
    (own / "train.json").write_text(json.dumps(content))
    data = two(own, streets)
    report = check(data, NETWORK, Asked(fix=tmp_path / "out"))
    told = "\n".join(report.measures)
    assert "boxes of train 8 of 9 images, boxes of val 4 of 4 images, masks of train 6 of 6 images" in told, told
    copy = module_of(tmp_path / "out" / "data.yaml")
    assert errors(check(copy, NETWORK)) == []
    assert len(copy.box_source("train").image_ids) == 8
    assert len(copy.mask_source("val").pairs) == 3


def test_the_command_refuses_a_folder_that_holds_something(
    streets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("")
    words = ["--data.root", str(streets), "--fix", str(tmp_path / "out")]
    assert main(words) == 2
    assert "holds something already" in capsys.readouterr().err
    for image in (root := Path(shutil.copytree(streets, tmp_path / "s")) / "leftImg8bit").rglob("*.png"):
        cut(image)
    with pytest.raises(OutputError, match="no image of the set can be used"):
        check(both(root.parent), NETWORK, Asked(fix=tmp_path / "none"))
    assert not (tmp_path / "none").exists()
