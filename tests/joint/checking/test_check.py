"""Faults of boxes and masks of one set or of two, each found once, by one reading of each file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detection.network.family import architecture
from engine.checking import image_files
from joint.checking.check import check, main
from joint.checking.quick import quick_report
from tests.engine.checking.planted import cut
from tests.joint.sets import PHOTOS, both, two

NETWORK = architecture("lite0")
EXPECTED = {"class.absent", "class.rare", "class.unused", "class.few", "box.tiny", "class.not_trained", "class.shifted"}


@pytest.fixture
def own(streets: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(streets, tmp_path / "streets"))


def strange(found: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Without what six small scenes have by themselves."""
    return {(name, file) for name, file in found if name not in EXPECTED and not name.startswith("anchors.")}


def found(root: Path, **options: object) -> set[tuple[str, str]]:
    return {(one.name, Path(one.file).name) for one in check(both(root, **options), NETWORK).findings}


def test_faults_of_boxes_and_masks_are_found_in_one_reading(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert strange(found(own)) == set()
    images = sorted((own / "leftImg8bit" / "train").rglob("*.png"))
    masks = sorted((own / "gtFine" / "train").rglob("*_labelIds.png"))
    cut(images[0])
    mask = np.array(Image.open(masks[1]))
    mask[:3, :3] = 99
    Image.fromarray(mask).save(masks[1])
    file = own / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    first = content["annotations"][0]
    first["bbox"][2] = 0
    named = {image["id"]: Path(image["file_name"]).name for image in content["images"]}
    content["images"] = [image for image in content["images"] if named[image["id"]] != images[2].name]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
    file.write_text(json.dumps(content))
    read: list[Path] = []
    real = image_files.read_facts
    monkeypatch.setattr(image_files, "read_facts", lambda path, **rest: (read.append(path), real(path, **rest))[1])
    expected = {
        ("image.truncated", images[0].name),
        ("mask.values", masks[1].name),
        ("image.without_labels", images[2].name),
    }
    if first["image_id"] in kept:
        expected.add(("box.no_area", named[first["image_id"]]))
    assert strange(found(own)) == expected
    assert sorted(read) == sorted({path.resolve() for path in read})
    assert len(read) == 9


def test_two_sets(photos: Path, streets: Path, tmp_path: Path) -> None:
    report = check(two(photos, streets), NETWORK)
    assert strange({(one.name, Path(one.file).name) for one in report.findings}) == set()
    assert len(report.measures) == 4
    shutil.copytree(photos, tmp_path / "photos")
    leaked = sorted((streets / "leftImg8bit" / "val").rglob("*.png"))[0]
    target = sorted((tmp_path / "photos" / "train").rglob("*.png"))[0]
    shutil.copy(leaked, target)
    names = {(one.name, Path(one.file).name) for one in check(two(tmp_path / "photos", streets), NETWORK).findings}
    assert ("leak.duplicate", leaked.name) in names


def test_the_command_and_the_line_of_a_training(
    own: Path, photos: Path, streets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(f"model: {{member: lite0}}\ndata: {{root: {own}, canvas_size: [128, 192]}}\n")
    assert main(["--config", str(config), "--output", str(tmp_path / "found.json")]) == 0
    shown = capsys.readouterr().out
    assert "on 192 x 128" in shown
    assert "masks of train: 6 images" in shown
    report = quick_report(both(own), NETWORK)
    assert report is not None
    assert report.first_look("x").startswith("quick check of the boxes of 9 images and some of their masks: ")
    report = quick_report(two(photos, streets), NETWORK)
    assert report is not None
    assert "boxes of 22 images" in report.title
    assert main([]) == 2
    boxes = {f"--data.boxes.{key}": value for key, value in PHOTOS.items()}
    words = [word for pair in boxes.items() for word in pair]
    root = ["--data.format", "two", "--data.boxes.root", str(photos), "--data.masks.root", str(streets)]
    assert main([*root, *words]) == 0
