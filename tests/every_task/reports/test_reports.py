"""`report` and `compare` of each task: a page in the run's folder, whose numbers are those of the printed table."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from engine.reports.contents import Gallery, Table
from engine.reports.document import read_report
from engine.tasks import find_task
from tests.detection.small import command
from tests.every_task.watching import run

ANNOTATIONS = Path("scenes/annotations/instances_val.json")
TWELVE = ["AP", "AP50", "AP75", "AP small", "AP medium", "AP large"]
TWELVE += ["AR 1", "AR 10", "AR 100", "AR small", "AR medium", "AR large"]


def parts(report, kind):
    return [part for section in report.sections for part in section.parts if isinstance(part, kind)]


def figures(report):
    return {figure.name: figure.value for figure in report.figures}


def by_pycocotools():
    """The twelve numbers and the AP of each class of the detections in `found.json`."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(ANNOTATIONS))
        evaluator = COCOeval(truth, truth.loadRes("found.json"), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    precision = evaluator.eval["precision"][:, :, :, 0, -1]
    names = [truth.cats[number]["name"] for number in evaluator.params.catIds]
    classes = {
        name: float(precision[:, :, place].mean()) if precision[:, :, place].max() > -1 else None
        for place, name in enumerate(names)
    }
    return [None if value < 0 else value for value in evaluator.stats.tolist()], classes


def check_boxes(report):
    """Figures, classes and boxes are those of pycocotools and of the annotation file."""
    twelve, classes = by_pycocotools()
    shown = figures(report)
    assert [shown[name] for name in TWELVE] == pytest.approx(twelve, abs=1e-12)
    table = next(part for part in parts(report, Table) if part.title == "AP by class")
    assert {row[0]: row[1] for row in table.rows} == pytest.approx(classes, abs=1e-12)
    content = json.loads(ANNOTATIONS.read_text())
    names = {each["id"]: each["name"] for each in content["categories"]}
    counts = dict.fromkeys(names.values(), 0)
    for each in content["annotations"]:
        counts[names[each["category_id"]]] += not each["iscrowd"]
    assert {row[0]: row[2] for row in table.rows} == counts
    cards = [card for gallery in parts(report, Gallery) for card in gallery.cards if card.boxes]
    assert cards
    for card in cards:
        image = next(each for each in content["images"] if Path(each["file_name"]).name == Path(card.name).name)
        assert (card.width, card.height) == (image["width"], image["height"])
        mine = [each for each in content["annotations"] if each["image_id"] == image["id"]]
        corners = sorted((x, y, x + w, y + h) for x, y, w, h in (each["bbox"] for each in mine))
        truth = [box for box in card.boxes if box.origin == "truth"]
        np.testing.assert_allclose(sorted(box.box_xyxy for box in truth), corners, atol=0.006)
        found = [each for each in json.loads(Path("found.json").read_text()) if each["image_id"] == image["id"]]
        scores = sorted(each["score"] for each in found if each["score"] >= 0.05)
        kept = sorted(box.score for box in card.boxes if box.origin == "prediction")
        np.testing.assert_allclose(kept, scores[-100:], atol=1e-4)


def check_masks(report, printed):
    """Figures and classes are those of the table; an overlay shows the pixels of the mask file."""
    shown = figures(report)
    pixels, mean = re.search(r"pixel accuracy ([\d.]+)   mean accuracy ([\d.]+)", printed).groups()
    assert (f"{shown['pixel accuracy']:.3f}", f"{shown['mean accuracy']:.3f}") == (pixels, mean)
    table = next(part for part in parts(report, Table) if part.title == "Classes")
    for name, iou, *_ in table.rows:
        said = re.findall(rf"^ {name} +([\d.-]+)", printed, re.MULTILINE)[-1]  # below the classes of boxes
        assert said == ("-" if iou is None else f"{iou:.3f}")
    cards = [card for gallery in parts(report, Gallery) for card in gallery.cards if card.overlays]
    assert cards
    colors = dict(zip(report.classes, report.class_colors, strict=False))
    for card in cards[:2]:
        names = [overlay.name for overlay in card.overlays]
        assert names == ["true classes", "found classes", "wrong pixels"]
        layers = [
            np.asarray(Image.open(io.BytesIO(overlay.image.data), formats=["WEBP"]).convert("RGBA"))
            for overlay in card.overlays
        ]
        assert all(layer.shape[:2] == (card.height, card.width) for layer in layers)
        true, found, wrong = layers
        differ = (true[..., :3] != found[..., :3]).any(axis=2) & (true[..., 3] > 0)
        np.testing.assert_array_equal(wrong[..., 3] > 0, differ)
        (label_file,) = Path("scenes/gtFine/val").rglob(Path(card.name).name.replace("leftImg8bit", "gtFine_labelIds"))
        road = np.asarray(Image.open(label_file)) == 7
        assert road.any()
        drawn = "#{:02x}{:02x}{:02x}".format(*true[road][0, :3])
        assert (true[road] == true[road][0]).all()
        assert drawn == colors["road"]


@pytest.mark.by_default("segmentation")
def test_a_report_has_the_numbers_of_the_evaluation(task):
    saving = "" if task == "segmentation" else "--model.detections found.json"
    run(task, f"fit --config small.yaml --run.name one --trainer.max_epochs 1 --trainer.limit_train_batches 1 {saving}")
    folder = Path("runs", task, "one")
    said = command(f"report {folder}", find_task(task))
    assert said.code == 0, said.err
    assert f"Report: {folder}/report.html" in said.out
    report = read_report(folder / "report.html")
    if task != "segmentation":
        check_boxes(report)
    if task != "detection":
        check_masks(report, said.out)
    logged = {}
    for row in csv.DictReader((folder / "metrics.csv").open()):
        logged |= {name: float(value) for name, value in row.items() if value}
    monitor = {"detection": ("AP", "val_ap"), "segmentation": ("mIoU", "val_miou"), "joint": ("joint", "val_joint")}
    name, column = monitor[task]
    assert figures(report)[name] == pytest.approx(logged[column], abs=1e-6)
    assert "fit --config small.yaml" in report.provenance.command
    assert report.provenance.config == (folder / "config.yaml").read_text()
    assert "torch" in report.provenance.versions
    assert [section.title for section in report.sections][-1] == "Training"

    shutil.copy(folder / "report.html", "other.html")
    said = command(f"compare {folder} other.html --output both.html", find_task(task))
    assert said.code == 0, said.err
    both = read_report(Path("both.html"))
    assert both.title == "one beside other"
    assert [row[3] for row in parts(both, Table)[0].rows if row[3] is not None]
    assert all(row[3] == 0 for row in parts(both, Table)[0].rows if row[3] is not None)


def test_what_has_no_report_is_refused(task):
    spec = find_task(task)
    said = command("report runs", spec)
    assert (said.code, said.out) == (2, "")
    assert "is no folder of a run" in said.err
    Path("empty").mkdir()
    Path("empty/config.yaml").write_text("{}")
    assert "has no checkpoint" in command("report empty", spec).err
    assert "has no checkpoint" in command("report empty --ckpt_path last", spec).err
    assert "there is no checkpoint 'x.ckpt'" in command("report empty --ckpt_path x.ckpt", spec).err
    assert "there is no report 'empty/report.html'" in command("compare empty empty", spec).err
    assert "give" in command("compare empty", spec).err
    assert "split" in command("report empty --split train", spec).err
