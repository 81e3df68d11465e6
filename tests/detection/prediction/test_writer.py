"""What `predict` writes: names that never clash, and JSON that COCO's own reader takes."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from detection.data.batch import DetectionBatch, Detections
from detection.data.classes import BoxClasses
from detection.prediction.document import coco_document
from detection.prediction.predict import Found
from detection.prediction.writer import JSON_NAME, PredictionWriter, picture_names
from engine.errors import InputError

CLASSES = BoxClasses(("car", "", "person"), (7, 8, 30))


def found(boxes, class_ids, size_hw=(40, 60)):
    rows = np.array(class_ids, dtype=np.int64)
    return Found(
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, len(rows)).astype(np.float32),
        [CLASSES.names[row] for row in rows],
        rows,
        np.array([CLASSES.category_ids[row] for row in rows], dtype=np.int64),
        size_hw,
    )


def test_pictures_keep_the_tree_of_the_images():
    paths = [Path("in/a/1.jpg"), Path("in/b/1.jpg"), Path("in/b/c/2.JPEG"), Path("in/3.png")]
    assert [name.as_posix() for name in picture_names(paths)] == ["a/1.jpg", "b/1.jpg", "b/c/2.JPEG", "3.png"]
    assert picture_names([Path("deep/folder/x.jpg")]) == [Path("x.jpg")]
    assert picture_names([]) == []


@pytest.mark.parametrize(
    "files",
    [
        ["a.bmp", "a.png", "a.tif", "a.jpg", "a.jpeg"],
        ["a_bmp.png", "a.png", "a.bmp"],
        ["a.png", "a.bmp", "a_bmp.png"],
        ["x/a.jpg", "y/a.jpg", "a.jpg"],
        ["a.png", "a.png"],
        ["../up/a.webp", "a.gif", "a.webp"],
    ],
)
def test_no_picture_takes_the_place_of_another(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = picture_names([Path(file) for file in files])
    assert len(set(names)) == len(files)
    for name, file in zip(names, files, strict=True):
        assert name.suffix.lower() in (".jpg", ".jpeg", ".png")
        assert name.name.startswith(Path(file).stem)
        assert not name.is_absolute()
        assert ".." not in name.parts


def test_the_document_is_coco_and_holds_every_image(tmp_path):
    results = {2: found([[1, 2, 11, 22], [0, 0, 60, 40]], [2, 0]), 0: found([], [], (5, 6))}
    document = coco_document(results, [Path("a.jpg"), Path("b.jpg"), Path("in/c.png")], CLASSES)
    (tmp_path / "out.json").write_text(json.dumps(document))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(tmp_path / "out.json")
    assert {i: coco.imgs[i]["file_name"] for i in coco.getImgIds()} == {0: "a.jpg", 2: "in/c.png"}
    assert (coco.imgs[0]["height"], coco.imgs[0]["width"]) == (5, 6)
    first, second = coco.loadAnns(coco.getAnnIds(imgIds=[2]))
    assert (first["category_id"], first["bbox"], first["area"]) == (30, [1, 2, 10, 20], 200)
    assert (second["category_id"], second["bbox"]) == (7, [0, 0, 60, 40])
    assert first["score"] > second["score"]
    assert coco.getCatIds(catNms=["person"]) == [30]  # the row without a name is no category
    assert sorted(coco.cats) == [7, 30]


@pytest.fixture
def half_done(tmp_path):
    """A writer of two images that has seen the first."""
    paths = [tmp_path / "in/a.png", tmp_path / "in/b.png"]
    paths[0].parent.mkdir()
    for path in paths:
        Image.new("RGB", (60, 40), "grey").save(path)
    writer = PredictionWriter(tmp_path / "out", paths)
    task = SimpleNamespace(classes=CLASSES)
    batch = DetectionBatch(*[None] * 3, torch.tensor([0]), None, torch.tensor([[40, 60]]))
    boxes = torch.tensor([[[5.0, 6, 30, 20], [0, 0, 0, 0]]])
    detections = Detections(boxes, torch.tensor([[0.8, 0]]), torch.tensor([[2, -1]]))
    writer.write_on_batch_end(None, task, detections, None, batch, 0, 0)
    return writer, task


def test_pictures_come_with_their_batch_and_the_json_at_the_end(half_done):
    writer, task = half_done
    assert [path.name for path in writer.output.iterdir()] == ["a.png"]
    drawn = np.array(Image.open(writer.output / "a.png"))
    assert drawn.shape == (40, 60, 3)
    assert (drawn != drawn[0, 0]).any()
    writer.on_predict_end(None, task)
    assert len(json.loads((writer.output / JSON_NAME).read_text())["annotations"]) == 1


def test_an_interruption_keeps_what_was_found(half_done):
    writer, task = half_done
    writer.on_exception(None, task, KeyboardInterrupt())
    document = json.loads((writer.output / JSON_NAME).read_text())
    assert [image["file_name"] for image in document["images"]] == [writer.paths[0].as_posix()]
    assert document["annotations"][0]["bbox"] == [5, 6, 25, 14]
    assert sorted(path.name for path in writer.output.iterdir()) == ["a.png", JSON_NAME]


def test_an_interruption_before_the_first_image_writes_nothing(half_done):
    writer, task = half_done
    (writer.output / "a.png").unlink()
    writer.found.clear()
    writer.on_exception(None, task, KeyboardInterrupt())
    assert list(writer.output.iterdir()) == []


def test_no_picture_is_written_over_an_image(tmp_path):
    image = tmp_path / "in/a.png"
    image.parent.mkdir()
    Image.new("RGB", (8, 8)).save(image)
    with pytest.raises(InputError, match=r"would write over the image .*Give another folder"):
        PredictionWriter(image.parent, [image])
    with pytest.raises(InputError, match="would write over"):
        PredictionWriter(tmp_path / "in/../in", [image])
    PredictionWriter(image.parent, [image], pictures=False)
    PredictionWriter(image.parent / "out", [image])
