"""What `predict` writes: names that never clash, JSON that COCO's own reader accepts, and little use of memory."""

from __future__ import annotations

import contextlib
import io
import json
import tracemalloc
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from detection.data.batch import Detections
from detection.data.classes import BoxClasses
from detection.prediction.document import JSON_NAME, BoxEntry, box_values, write_detections
from detection.prediction.found import Found
from detection.prediction.predictor import DetectionPredictor, found_in
from detection.prediction.results import DetectionResults
from engine.errors import InputError
from engine.prediction.results import ResultFolder
from engine.prediction.sources import IMAGE, SourceFile, output_names
from engine.prediction.streaming import PredictionBatch
from engine.prediction.writer import PredictionWriter
from engine.reading.images import Letterbox

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


def picture_names(paths):
    """The path of each image's picture below the output folder."""
    results, sources = DetectionResults(CLASSES), [SourceFile(path, IMAGE) for path in paths]
    names = zip(sources, output_names(sources, results), strict=True)
    return [path for file, name in names for path in results.outputs(file, name)]


def folder_of(output, paths, *, pictures=True, settings=None):
    sources = [SourceFile(path, IMAGE) for path in paths]
    return ResultFolder(output, sources, DetectionResults(CLASSES, pictures), settings or {})


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
    results = {"a.jpg": found([], [], (5, 6)), "in/c.png": found([[1, 2, 11, 22], [0, 0, 60, 40]], [2, 0])}
    entries = [msgspec.convert({"source": name, **box_values(one)}, BoxEntry) for name, one in results.items()]
    write_detections(tmp_path / "out.json", lambda: iter(entries), CLASSES)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(tmp_path / "out.json")
    assert {i: coco.imgs[i]["file_name"] for i in coco.getImgIds()} == {0: "a.jpg", 1: "in/c.png"}
    assert (coco.imgs[0]["height"], coco.imgs[0]["width"]) == (5, 6)
    first, second = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert (first["category_id"], first["bbox"], first["area"]) == (30, [1, 2, 10, 20], 200)
    assert (second["category_id"], second["bbox"]) == (7, [0, 0, 60, 40])
    assert first["score"] > second["score"]
    assert coco.getCatIds(catNms=["person"]) == [30]  # the row without a name is no category
    assert sorted(coco.cats) == [7, 30]


@pytest.fixture
def half_done(tmp_path):
    """A writer of two images that has seen the first, and the images."""
    paths = [tmp_path / "in/a.png", tmp_path / "in/b.png"]
    paths[0].parent.mkdir()
    for path in paths:
        Image.new("RGB", (60, 40), "grey").save(path)
    predictor = DetectionPredictor.__new__(DetectionPredictor)  # only asked whether samples hold their pixels
    writer = PredictionWriter(folder_of(tmp_path / "out", paths), predictor)
    writer.folder.begin()
    boxes = torch.tensor([[[5.0, 6, 30, 20], [0, 0, 0, 0]]])
    detections = Detections(boxes, torch.tensor([[0.8, 0]]), torch.tensor([[2, -1]]))
    answers = found_in(detections, CLASSES, [Letterbox.fit((40, 60), (64, 64))])
    writer.write_on_batch_end(None, None, answers, None, PredictionBatch([0], [None], [], {}), 0, 0)
    return writer, paths


BOOKS = ["finished.jsonl", "settings.json"]


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_pictures_come_with_their_batch_and_the_json_at_the_end(half_done):
    writer, _ = half_done
    output = writer.folder.path
    assert names_in(output) == ["a.png", *BOOKS]
    drawn = np.array(Image.open(output / "a.png"))
    assert drawn.shape == (40, 60, 3)
    assert (drawn != drawn[0, 0]).any()
    writer.on_predict_end(None, None)
    assert len(json.loads((output / JSON_NAME).read_text())["annotations"]) == 1


def test_an_interruption_keeps_what_was_found(half_done):
    writer, paths = half_done
    writer.on_exception(None, None, KeyboardInterrupt())
    document = json.loads((writer.folder.path / JSON_NAME).read_text())
    assert [image["file_name"] for image in document["images"]] == [paths[0].as_posix()]
    assert document["annotations"][0]["bbox"] == [5, 6, 25, 14]
    assert names_in(writer.folder.path) == sorted(["a.png", JSON_NAME, *BOOKS])


def test_an_interruption_before_the_first_image_writes_nothing(half_done):
    writer, _ = half_done
    writer.done = 0
    writer.on_exception(None, None, KeyboardInterrupt())
    assert names_in(writer.folder.path) == ["a.png", *BOOKS]


def test_no_picture_is_written_over_an_image(tmp_path):
    image = tmp_path / "in/a.png"
    image.parent.mkdir()
    Image.new("RGB", (8, 8)).save(image)
    with pytest.raises(InputError, match=r"would write over the source .*Give another folder"):
        folder_of(image.parent, [image])
    with pytest.raises(InputError, match="would write over"):
        folder_of(tmp_path / "in/../in", [image])
    folder_of(image.parent, [image], pictures=False)
    folder_of(image.parent / "out", [image])


@pytest.mark.slow
def test_memory_does_not_grow_with_what_is_found(tmp_path):
    """A hundred boxes per image would take more than ten kilobytes per image if they were held until the end."""
    paths = [tmp_path / f"in/{number:04}.png" for number in range(600)]
    paths[0].parent.mkdir()
    for path in paths:
        path.touch()
    answer = found(np.random.default_rng(0).uniform(0, 40, (100, 4)), np.zeros(100))
    folder = folder_of(tmp_path / "out", paths, pictures=False)
    folder.begin()
    folder.write(0, paths[0], answer)
    tracemalloc.start()
    try:
        for index in range(1, len(paths)):
            folder.write(index, paths[index], answer)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        folder.write_tables()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 50_000
    assert (peak - held) / len(paths) < 1000  # of each image its path and where its line begins
    document = json.loads((tmp_path / "out" / JSON_NAME).read_text())
    assert (len(document["images"]), len(document["annotations"])) == (600, 60_000)
