"""Planted faults of boxes, images, classes and splits, each found by name and file; none in a clean set."""

from __future__ import annotations

import dataclasses
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detection.checking.check import check, check_splits, main
from detection.data.boxes import BoxTable, box_table
from detection.data.classes import BoxClasses
from engine.checking.findings import CheckReport
from tests.detection.formats.sets import write_coco

CLASSES = BoxClasses(("bolt", "nut"), (1, 2))
GOOD = ((5.0, 5.0, 20.0, 20.0), (30.0, 30.0, 25.0, 20.0))
SIZE = (64, 96)  # height, width


def _pixels(seed: int) -> np.ndarray:
    cells = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    return np.kron(cells, np.ones((8, 8, 1), np.uint8))


def _table(folder: Path, seeds: tuple[int, ...], **boxes: tuple[tuple[float, ...], ...]) -> BoxTable:
    """A split with an image for each seed, and two boxes in each if the image has no others."""
    folder.mkdir(exist_ok=True, parents=True)
    paths = [folder / f"{seed}.png" for seed in seeds]
    rows, corners = [], []
    for place, (seed, path) in enumerate(zip(seeds, paths, strict=True)):
        Image.fromarray(_pixels(seed)).save(path)
        for box in boxes.get(f"b{seed}", GOOD):
            rows.append(place)
            corners.append(box)
    class_ids = np.arange(len(rows)) % 2
    for row in range(1, len(rows)):
        if corners[row] == corners[row - 1]:
            class_ids[row] = class_ids[row - 1]
    table = box_table(str(folder), CLASSES, paths, np.array(corners, np.float64), np.array(rows), class_ids)
    return dataclasses.replace(table, sizes_hw=np.array([SIZE] * len(seeds), np.int32))


def _found(splits: dict[str, BoxTable]) -> set[tuple[str, str]]:
    return {(found.name, Path(found.file).name) for found in check_splits(splits, 512)}


def test_a_clean_set_has_no_finding(tmp_path: Path) -> None:
    train, val = _table(tmp_path / "t", (1, 2, 3)), _table(tmp_path / "v", (4, 5))
    assert _found({"train": train, "val": val}) == set()


NAN = float("nan")
BOX_FAULTS = {
    "nan": ("box.nan", (NAN, 5, 20, 20)),
    "infinite": ("box.nan", (5, 5, float("inf"), 20)),
    "no width": ("box.no_area", (5, 5, 0, 20)),
    "no height": ("box.no_area", (5, 5, 20, 0)),
    "negative": ("box.no_area", (5, 5, -3, 20)),
    "right of it": ("box.outside", (96, 5, 20, 20)),
    "below it": ("box.outside", (5, 70, 20, 20)),
    "left of it": ("box.outside", (-30, 5, 20, 20)),
    "over the right edge": ("box.over_edge", (90, 5, 20, 20)),
    "over the top": ("box.over_edge", (5, -8, 20, 20)),
    "tiny": ("box.tiny", (5, 5, 0.5, 20)),
    "huge": ("box.huge", (0, 0, 96, 64)),
    "twice": ("box.duplicate", GOOD[1]),
}


@pytest.mark.parametrize("fault", BOX_FAULTS)
def test_a_fault_of_a_box(tmp_path: Path, fault: str) -> None:
    name, box = BOX_FAULTS[fault]
    assert _found({"train": _table(tmp_path, (1, 2), b2=(*GOOD, box))}) == {(name, "2.png")}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-400])


def _as_jpeg(path: Path) -> None:
    Image.open(io.BytesIO(path.read_bytes())).save(path, "jpeg")


def _turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(io.BytesIO(path.read_bytes())).save(path, exif=exif)


def _resized(path: Path) -> None:
    Image.open(io.BytesIO(path.read_bytes())).resize((100, 70)).save(path)


def _postscript(path: Path) -> None:
    """A picture for another program, which would have to be started."""
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 64\n%%EndComments\nshowpage\n%%EOF\n")


def _transparent(path: Path) -> None:
    Image.open(io.BytesIO(path.read_bytes())).convert("RGBA").save(path)


FILE_FAULTS: dict[str, Callable[[Path], object]] = {
    "image.missing": Path.unlink,
    "image.empty": lambda path: path.write_bytes(b""),
    "image.unreadable": lambda path: path.write_text("<html>not found</html>"),
    "image.truncated": _cut,
    "image.suffix": _as_jpeg,
    "image.exif_rotated": _turned,
    "image.mode": _transparent,
    "image.size": _resized,
}


def test_a_picture_of_another_program_is_not_opened(tmp_path: Path) -> None:
    table = _table(tmp_path, (1, 2))
    _postscript(tmp_path / "2.png")
    assert _found({"train": table}) == {("image.unreadable", "2.png")}


def test_a_picture_of_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = _table(tmp_path, (1, 2))
    Image.fromarray(np.zeros((200, 200), np.uint8)).save(tmp_path / "2.png")
    monkeypatch.setenv("EFFDENSE_MAX_PIXELS", "10000")
    assert _found({"train": table}) == {("image.large", "2.png")}


@pytest.mark.parametrize("name", FILE_FAULTS)
def test_a_fault_of_a_file(tmp_path: Path, name: str) -> None:
    table = _table(tmp_path, (1, 2, 3))
    FILE_FAULTS[name](tmp_path / "2.png")
    assert _found({"train": table}) == {(name, "2.png")}


def test_an_image_without_boxes(tmp_path: Path) -> None:
    assert _found({"train": _table(tmp_path, (1, 2), b2=())}) == {("image.without_boxes", "2.png")}


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("near", [False, True])
def test_twins(tmp_path: Path, across: bool, near: bool) -> None:
    train, val = _table(tmp_path / "t", (1, 2)), _table(tmp_path / "v", (3, 4))
    changed = np.clip(_pixels(1).astype(int) + 2, 0, 255).astype(np.uint8) if near else _pixels(1)
    path = tmp_path / ("v/4.png" if across else "t/2.png")
    Image.fromarray(changed).save(path)
    name = f"{'leak' if across else 'image'}.{'near_' * near}duplicate"
    assert _found({"train": train, "val": val}) == {(name, path.name)}


def test_classes(tmp_path: Path) -> None:
    train, val = _table(tmp_path / "t", (1, 2)), _table(tmp_path / "v", (3, 4))
    other = dataclasses.replace(val, classes=BoxClasses(("nut", "bolt"), (1, 2)))
    assert _found({"train": train, "val": other}) == {("class.differs", "val")}
    unused = dataclasses.replace(val, class_ids=np.zeros_like(val.class_ids))
    assert _found({"train": train, "val": unused}) == {("class.unused", "val")}
    many = _table(tmp_path / "m", (6,), b6=tuple((x * 0.5, 5.0, 20.0, 20.0) for x in range(101)))
    rare = dataclasses.replace(many, class_ids=np.array([1] + [0] * 100, np.int32))
    assert _found({"train": rare}) == {("class.rare", "train")}


def test_the_command_writes_json_and_tells_by_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_coco(tmp_path / "set")
    assert main([str(root), "--output", str(tmp_path / "found.json")]) == 0
    (root / "images" / "a1.png").unlink()
    Image.fromarray(_pixels(9)).save(root / "images" / "extra.png")
    assert main([str(root), "--output", str(tmp_path / "found.json")]) == 1
    assert "image.missing" in capsys.readouterr().out
    rows = json.loads((tmp_path / "found.json").read_text())["findings"]
    found = {(row["name"], Path(row["file"]).name) for row in rows}
    assert {("image.missing", "a1.png"), ("image.without_labels", "extra.png")} <= found
    assert main([str(tmp_path / "nowhere")]) == 2


@pytest.mark.real
def test_the_two_boxes_without_area_of_bccd() -> None:
    report: CheckReport = check(Path(os.environ["EFFDENSE_REAL"], "bccd"), "voc")
    assert len(report.by_name()["box.no_area"]) == 2
