"""The results of `predict`: both kinds of answers, tables of all images, and nothing done twice or written over."""

from __future__ import annotations

import contextlib
import csv
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from detection.network.postprocess import Postprocess
from detection.prediction.found import Found
from detection.prediction.keys import Keys
from engine.errors import InputError
from engine.prediction.canvas import Canvas
from engine.prediction.sources import find_sources
from engine.prediction.streaming import PredictingModule
from engine.prediction.trainer import PredictionTrainer, Work
from engine.reading.options import Reading
from joint.prediction.found import JointFound
from joint.prediction.predictor import JointPredictor
from joint.prediction.results import JointResults, settings_of
from segmentation.inference.segmented import Segmented
from tests.joint.tiny_network import OBJECTS, SURFACES

CANVAS_HW = (64, 64)
BOOKS = ["areas.csv", "detections.json", "finished.jsonl", "settings.json"]


def answer(size_hw):
    """The answer of the task below for any image: one box for each ten pixels of its width, and three stripes."""
    height, width = size_hw
    count = width // 10
    rows = np.zeros(size_hw, np.uint8)
    rows[: height // 2] = 2
    rows[0] = 255  # of no class
    class_ids = np.arange(count) % 2 * 2
    boxes = np.array([[i, 1, 10 + i, height / 3] for i in range(count)], np.float32).reshape(-1, 4)
    found = Found(
        boxes, np.linspace(0.9, 0.4, count).astype(np.float32), [OBJECTS.names[row] for row in class_ids], class_ids,
        np.array([OBJECTS.category_ids[row] for row in class_ids]), size_hw,
    )  # fmt: skip
    return found, Segmented(rows, SURFACES)


class Toy(JointPredictor):
    """A predictor that gives those answers."""

    def __init__(self, task):
        self.network, self.task, self.reading = torch.nn.Linear(1, 1), task, Reading()

    @property
    def fill_color(self):
        return 1, 2, 3

    @property
    def prepare(self):
        return Canvas(CANVAS_HW, (1, 2, 3), 32)

    def compute(self, images, samples):
        task, answers = self.task, [answer(sample.letterbox.image_hw) for sample in samples]
        return [JointFound(f if task.detect else None, s if task.segment else None) for f, s in answers]


class Task(PredictingModule):
    """The part of the task that prediction needs."""

    def __init__(self, detect=True, segment=True, stop_at=None):
        super().__init__()
        self.detect, self.segment, self.stop_at, self.seen = detect, segment, stop_at, 0

    def predict_step(self, batch, batch_idx):
        if self.stop_at is not None and self.seen >= self.stop_at:
            msg = "power cut"
            raise RuntimeError(msg)
        self.seen += len(batch.samples)
        return super().predict_step(batch, batch_idx)


def run(source, output, task=None, score_threshold=0.3, pictures=True, overwrite=False, keys=None):
    task = task or Task()
    results = JointResults(OBJECTS, SURFACES, task.detect, task.segment, pictures, keys)
    settings = settings_of(None, "64 x 64", Postprocess(score_threshold=score_threshold), results)
    names = ("enable_progress_bar", "logger", "enable_checkpointing", "enable_model_summary")
    trainer = PredictionTrainer(accelerator="cpu", devices=1, **dict.fromkeys(names, False))
    work = Work(str(source), str(output), overwrite, 2, 0)
    trainer.stream(task, None, work, work.sources(), Toy(task), results, settings)
    return task


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "in"
    for name, size in (("a.png", (60, 40)), ("b/c.png", (5, 9)), ("b/d.bmp", (35, 20))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (90, 90, 90)).save(folder / name)
    return folder


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def table(folder):
    with (folder / "areas.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_both_kinds_of_answers(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    run("in", out)
    written = [f"{name}{end}" for name in ("a", "b/c", "b/d") for end in (".png", "_overlay.jpg")]
    assert files(out) == sorted(BOOKS + written)
    mask = np.array(Image.open(out / "b/d.png"))
    np.testing.assert_array_equal(mask[:, 0], [255] + 9 * [21] + 10 * [7])
    overlay = np.array(Image.open(out / "a_overlay.jpg")).astype(int)
    assert overlay.shape[0] > 40  # the legend
    assert np.abs(overlay[30, 40] - (90 + np.array(SURFACES.colors[0])) / 2).max() < 12  # below the boxes
    assert np.abs(overlay[13, 5:14] - overlay[30, 40]).max() > 60  # a box's lower edge
    # The areas of every class, and the objects as COCO's own reader sees them.
    rows = [(row["image"], row["class"], row["label_id"], row["pixels"]) for row in table(out)]
    areas = [("road", "7", "1200"), ("car", "26", "0"), ("tree", "21", "1140")]
    assert rows[:3] == [("in/a.png", *area) for area in areas]
    assert len(rows) == 9
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(out / "detections.json")
    names = [coco.imgs[image_id]["file_name"] for image_id in sorted(coco.imgs)]
    assert names == ["in/a.png", "in/b/c.png", "in/b/d.bmp"]
    assert (coco.imgs[2]["height"], coco.imgs[2]["width"]) == (20, 35)
    assert [len(coco.getAnnIds(imgIds=[image_id])) for image_id in range(3)] == [6, 0, 3]
    assert sorted(coco.anns) == list(range(1, 10))
    first, second, _ = coco.loadAnns(coco.getAnnIds(imgIds=[2]))
    assert (first["category_id"], second["category_id"]) == (7, 30)
    np.testing.assert_allclose(second["bbox"], [1, 1, 10, 20 / 3 - 1], atol=1e-6)
    assert first["score"] == pytest.approx(0.9)
    assert sorted(coco.cats) == [7, 30]


def test_what_is_finished_is_not_done_again(images, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(images, whole)
    with pytest.raises(RuntimeError, match="power cut"):
        run(images, out, Task(stop_at=2))
    assert len(json.loads((out / "detections.json").read_text())["images"]) == 2  # of what was done
    assert len(table(out)) == 6
    first = (out / "a.png").stat().st_mtime_ns
    assert run(images, out).seen == 1
    assert (out / "a.png").stat().st_mtime_ns == first
    for name in ("detections.json", "areas.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert run(images, out).seen == 0
    # The image of a lost file and a new image are done, and nothing else.
    (out / "b/c_overlay.jpg").unlink()
    Image.new("RGB", (20, 20)).save(images / "b/e.png")
    assert run(images, out).seen == 2
    with contextlib.redirect_stdout(io.StringIO()):
        assert len(COCO(out / "detections.json").imgs) == 4
    assert len(table(out)) == 12
    assert run(images, out, overwrite=True).seen == 4


def test_other_settings_and_other_files_are_refused(images, tmp_path):
    out = tmp_path / "out"
    run(images, out)
    with pytest.raises(InputError, match=r"holds results of other settings: postprocess was .*--overwrite true"):
        run(images, out, score_threshold=0.5)
    with pytest.raises(InputError, match=r"other settings: segment was true, now false"):
        run(images, out, Task(segment=False))
    assert run(images, out, score_threshold=0.5, overwrite=True).seen == 3
    with pytest.raises(InputError, match="among the sources"):
        run(images, images)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "a.png").write_text("mine")
    with pytest.raises(InputError, match="would be replaced"):
        run(images, foreign)
    assert (foreign / "a.png").read_text() == "mine"


def test_one_kind_alone(images, tmp_path):
    boxes, masks, bare = tmp_path / "boxes", tmp_path / "masks", tmp_path / "bare"
    run(images, boxes, Task(segment=False))
    tables = ["finished.jsonl", "settings.json"]
    overlays = ["a_overlay.jpg", "b/c_overlay.jpg", "b/d_overlay.jpg"]
    assert files(boxes) == sorted(["detections.json", *tables, *overlays])
    assert Image.open(boxes / "a_overlay.jpg").size == (60, 40)  # no legend of classes that were not asked for
    assert run(images, boxes, Task(segment=False)).seen == 0
    run(images, masks, Task(detect=False), pictures=False)
    assert files(masks) == sorted(["areas.csv", *tables, "a.png", "b/c.png", "b/d.png"])
    run(images, bare, Task(segment=False), pictures=False)
    assert files(bare) == sorted(["detections.json", *tables])
    assert (bare / "detections.json").read_bytes() == (boxes / "detections.json").read_bytes()
    assert run(images, bare, Task(segment=False), pictures=False).seen == 0


def test_results_are_no_images_to_look_at(images, tmp_path):
    run(images, images / "out")
    assert [file.path.name for file in find_sources(images)] == ["a.png", "c.png", "d.bmp"]
    assert [file.path.name for file in find_sources([images, images / "b", str(images / "a.png")])] == [
        "a.png", "c.png", "d.bmp",
    ]  # fmt: skip
    assert run(images, images / "out").seen == 0
    with pytest.raises(InputError, match="does not exist"):
        find_sources(tmp_path / "none")


def test_the_same_settings_are_those_of_the_same_weights(tmp_path):
    (tmp_path / "a.ckpt").write_bytes(b"weights")
    (tmp_path / "b.ckpt").write_bytes(b"weights")
    (tmp_path / "c.ckpt").write_bytes(b"others")
    results = JointResults(OBJECTS, SURFACES)
    a, b, c = (settings_of(tmp_path / f"{name}.ckpt", "", Postprocess(), results) for name in "abc")
    assert a == b
    assert a != c


def test_objects_have_the_ids_of_an_annotation_file(images, tmp_path):
    """As in detection: the list of objects can be scored against the file."""
    listed = [{"id": 90 + number, "file_name": name} for number, name in enumerate(["d.bmp", "b/c.png", "a.png"])]
    categories = [{"id": 40 + n, "name": name} for n, name in enumerate(filter(None, reversed(OBJECTS.names)))]
    content = {"images": listed, "annotations": [], "categories": categories}
    (tmp_path / "val.json").write_text(json.dumps(content))
    keys = Keys.of(tmp_path / "val.json", [file.path for file in find_sources(images)], OBJECTS)
    run(images, tmp_path / "keyed", keys=keys)
    document = json.loads((tmp_path / "keyed/detections.json").read_text())
    assert sorted(image["id"] for image in document["images"]) == [90, 91, 92]
    assert document["categories"] == sorted(categories, key=lambda category: category["id"])
    named = {category["id"]: category["name"] for category in categories}
    assert all(found["category_id"] in named for found in document["annotations"])
