"""`python -m detection` as a user runs it: train, measure, predict, score, resume."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detection import load
from tests.detection.small import CANVAS_HW, command
from tests.engine.checkpoints import assert_same_training

ROOT = Path(__file__).parents[2]
QUICK = "--trainer.max_epochs 1 --trainer.limit_train_batches 1 --trainer.limit_val_batches 1"


def twelve(text):
    """The twelve numbers of a printed table."""
    return [float(line.rpartition("=")[2]) for line in text.splitlines() if line.startswith(" Average ")]


def pycocotools(annotations, results):
    """The twelve numbers by pycocotools' own reader and evaluation."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(annotations)
        evaluator = COCOeval(truth, truth.loadRes(str(results)), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats.tolist()


def test_a_training_leaves_everything_in_its_folder(trained):
    names = {path.name.partition(".")[0] for path in trained.iterdir()}
    assert {"config", "versions", "metrics", "events", "checkpoints"} <= names
    kinds = sorted(path.name.partition("-")[0] for path in (trained / "checkpoints").iterdir())
    assert kinds == ["best", "last.ckpt"]
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["model"]["architecture"]["image_size"] == list(CANVAS_HW)
    assert config["data"]["augmentation"]["scale_min"] == 0.8
    versions = json.loads((trained / "versions.json").read_text())
    assert versions["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert "detection fit --config small.yaml" in versions["command"]
    rows = list(csv.DictReader((trained / "metrics.csv").open()))
    losses = [float(row["train_loss"]) for row in rows if row["train_loss"]]
    assert len(losses) == 36
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    # The checkpoint describes itself with plain values: architecture, classes, recipe.
    content = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
    stored = content["effdense"]["model"]
    assert stored["member"] == "lite0"
    assert stored["architecture"]["fpn_channels"] == 16
    assert "car" in stored["classes"]["names"]
    assert stored["optimizer"]["name"] == "adamw"


def test_what_a_newcomer_sees(here, trained):
    said = command("fit --config small.yaml --trainer.max_epochs 1 --run.name seen")
    assert said.code == 0
    assert said.out == ""
    # Under pytest Lightning's logger has another format.
    precision, device, what, data, where = (line.removeprefix("INFO: ") for line in said.err.strip().splitlines())
    assert precision.startswith("precision ")
    assert device == "GPU available: False, used: False" or "GPU available: True" in device
    assert what == "EfficientDet lite0: 3.0 M parameters; 10 classes; images on 128 x 128 pixels (height x width)"
    assert data.startswith("quick check of the boxes of ")
    assert where.startswith(
        "Results are in runs/detection/seen; best checkpoint: runs/detection/seen/checkpoints/best-"
    )


def truth_near(results, annotations):
    """Annotations that match the detections in part: some of the best, moved a little, because otherwise
    pycocotools' own numbers would all be 0 or 1.
    """
    rng = np.random.default_rng(0)
    content = json.loads(Path(annotations).read_text())
    found = json.loads(Path(results).read_text())
    content["annotations"] = []
    for image in content["images"]:
        best = [entry for entry in found if entry["image_id"] == image["id"]][:12:2]
        for entry in best:
            box = (np.array(entry["bbox"]) + rng.uniform(0, 2, 4)).tolist()
            new = {"id": len(content["annotations"]) + 1, "iscrowd": 0, "area": box[2] * box[3], "bbox": box}
            content["annotations"].append({**entry, **new})
    return content


@pytest.mark.by_default("validate")
@pytest.mark.parametrize(("which", "split"), [("validate", "val"), ("test", "train")])
def test_measures_are_pycocotools(here, trained, which, split):
    checkpoint = next((trained / "checkpoints").glob("best*"))
    annotations, results = f"scenes/annotations/instances_{split}.json", Path(f"found/{which}.json")
    measure = f"{which} --config small.yaml --ckpt_path {checkpoint} --model.detections {results}"
    # A former name, and what it writes beside the new one.
    said = command(f"{measure.replace('detections', 'results')} --model.scores found/scores.json")
    assert said.code == 0, said.err
    assert "model.results is now called model.detections" in said.err
    first = pycocotools(annotations, results)
    assert np.abs(np.array(twelve(said.out)) - first).max() < 0.0005 + 1e-9  # half of the last digit
    scores = json.loads(Path("found/scores.json").read_text())
    twelve_scores = [-1 if value is None else value for name, value in scores.items() if name != "per_class"]
    assert twelve_scores == pytest.approx(first, abs=1e-9)
    assert "car" in scores["per_class"]
    assert len(said.out.strip().splitlines()) < 20  # the table of the twelve and of the classes, once
    if which == "validate":
        logged = [row["val_ap"] for row in csv.DictReader((trained / "metrics.csv").open()) if row["val_ap"]]
        assert max(map(float, logged)) == pytest.approx(first[0], abs=1e-7)

    Path("near.json").write_text(json.dumps(truth_near(results, annotations)))
    name = "val" if which == "validate" else "test"
    said = command(f"{measure} --data.{name}_annotations near.json")
    numbers = pycocotools("near.json", results)
    assert 0.2 < numbers[1] < 0.99
    assert np.abs(np.array(twelve(said.out)) - numbers).max() < 0.0005 + 1e-9
    scored = command(f"score --ground-truth near.json --predictions {results} --output numbers.json")
    assert scored.out == said.out
    former = command(f"score --annotations near.json --results {results}")
    assert former.out == said.out
    assert former.err == "annotations is now called ground_truth\nresults is now called predictions\n"
    written = json.loads(Path("numbers.json").read_text())
    written.pop("per_class")
    assert list(written.values()) == pytest.approx(numbers, abs=1e-9)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Images of several sizes and modes."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name, (height, width), mode in [("a.jpg", (64, 128), "RGB"), ("sub/b.png", (90, 50), "L"),
                                        ("sub/c.png", (40, 200), "RGBA")]:  # fmt: skip
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).convert(mode).save(path)
    return folder


@pytest.mark.by_default("pictures1")
@pytest.mark.parametrize(
    ("source", "pictures"),
    [
        ("{}/a.jpg", ["a.jpg"]),
        ("{}", ["a.jpg", "sub/b.png", "sub/c.png"]),
        ("{}/sub/*.png", ["b.png", "c.png"]),
    ],
)
def test_predictions_of_an_image_a_folder_and_a_pattern(here, trained, photographs, source, pictures):
    given = source.format(photographs)
    checkpoint = trained / "checkpoints/last.ckpt"
    options = "--output found --score_threshold 0.02 --trainer.accelerator cpu --num_workers 0"
    said = command(f"predict --ckpt_path {checkpoint} --source {given} {options}")
    assert said.code == 0, said.err
    written = sorted(path.relative_to("found").as_posix() for path in Path("found").rglob("*.*"))
    assert written == sorted([*pictures, "detections.json", "finished.jsonl", "settings.json"])
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO("found/detections.json")
    assert len(coco.imgs) == len(pictures)
    assert coco.anns
    for picture, image in zip(pictures, coco.loadImgs(coco.getImgIds()), strict=True):
        original = Image.open(image["file_name"])
        assert Image.open(Path("found", picture)).size == original.size == (image["width"], image["height"])
        for found in coco.imgToAnns[image["id"]]:
            left, top, width, height = found["bbox"]
            assert min(left, top, width, height) >= 0
            assert left + width <= image["width"] + 1e-3
            assert top + height <= image["height"] + 1e-3
            assert found["category_id"] in coco.cats
            assert found["score"] > 0.02


def test_python_and_the_command_line_agree(here, trained):
    checkpoint = trained / "checkpoints/last.ckpt"
    images = sorted(Path("scenes/leftImg8bit/train").rglob("*.png"))[:3]
    options = "--output found --pictures false --score_threshold 0.05 --trainer.accelerator cpu --num_workers 0"
    assert command(f"predict --ckpt_path {checkpoint} --source scenes/leftImg8bit/train {options}").code == 0
    names = ["detections.json", "finished.jsonl", "settings.json"]
    assert sorted(path.name for path in Path("found").iterdir()) == names
    document = json.loads(Path("found/detections.json").read_text())
    detector = load(checkpoint)
    compared = 0
    for number, image in enumerate(images):
        mine = detector.predict(image, score_threshold=0.05)
        theirs = [a for a in document["annotations"] if a["image_id"] == number]
        assert document["images"][number]["file_name"] == image.as_posix()
        assert mine.category_ids.tolist() == [a["category_id"] for a in theirs]
        np.testing.assert_allclose(mine.scores, [a["score"] for a in theirs], atol=1e-5)
        sides = mine.boxes_xyxy[:, 2:] - mine.boxes_xyxy[:, :2]
        wanted = np.concatenate([mine.boxes_xyxy[:, :2], sides], axis=1)
        np.testing.assert_allclose(wanted, np.reshape([a["bbox"] for a in theirs], (-1, 4)), atol=1e-3)
        compared += len(mine)
    assert compared > 3
    names = {c["id"]: c["name"] for c in document["categories"]}
    assert mine.labels == [names[i] for i in mine.category_ids.tolist()]


def test_configs_compose_and_the_command_line_wins(here):
    Path("more.yaml").write_text("model:\n  optimizer: {lr: 0.5}\n  schedule: {name: poly}\ntrainer: {max_epochs: 7}\n")
    said = command("fit --config small.yaml --config more.yaml --trainer.max_epochs 3 --print_config")
    config = yaml.safe_load(said.out)
    assert (config["model"]["optimizer"]["lr"], config["model"]["optimizer"]["name"]) == (0.5, "adamw")
    assert (config["model"]["schedule"]["name"], config["trainer"]["max_epochs"]) == ("poly", 3)


@pytest.mark.slow
def test_a_side_given_as_one_number_fits_its_own_checkpoint(here):
    square = "--config small.yaml --model.architecture.image_size 64"
    assert command(f"fit {square} {QUICK}").code == 0
    assert command(f"validate {square} --ckpt_path last").code == 0
    said = command("validate --config small.yaml --model.architecture.image_size 96 --ckpt_path last")
    assert said.code == 2
    assert "image_size is 96, but the checkpoint" in said.err


@pytest.mark.slow
def test_an_interrupted_training_resumed_equals_an_uninterrupted_one(here):
    """Killed between two epochs and within one; orders, crops and colours are random, the workers are others."""
    fit = "fit --config small.yaml --trainer.max_epochs 2 --data.augmentation.color 0.4 --run.name"
    assert command(f"{fit} whole").code == 0
    whole = torch.load("runs/detection/whole/checkpoints/last.ckpt", weights_only=True)
    averaged, live = whole["state_dict"], whole["current_model_state"]
    assert any(not torch.equal(averaged[name], live[name]) for name in live)
    between = "--trainer.callbacks+ tests.engine.toy.Crash --trainer.callbacks.epoch 1"
    within = "--run.save_steps 2 --trainer.callbacks+ tests.joint.small.CrashAt --trainer.callbacks.crash 5"
    for run, crash, workers, later in (("between", between, 2, 0), ("within", within, 2, 2)):
        with pytest.raises(RuntimeError, match="power cut"):
            command(f"{fit} {run} {crash} --data.num_workers {workers}")
        said = command(f"{fit} {run} --ckpt_path last --data.num_workers {later}")
        assert said.code == 0, said.err
        cut = torch.load(f"runs/detection/{run}/checkpoints/last.ckpt", weights_only=True)
        assert cut["global_step"] == 6
        assert_same_training(whole, cut)


@pytest.mark.slow
def test_a_start_that_failed_does_not_bar_its_name(here):
    assert command("fit --config small.yaml --run.name first --data.train_images nowhere").code == 2
    assert command(f"fit --config small.yaml --run.name first {QUICK}").code == 0
    assert "exists" in command("fit --config small.yaml --run.name first").err


def test_published_weights_need_no_checkpoint(here, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("EFFDENSE_WEIGHTS_URL", (tmp_path / "mirror").as_uri())
    said = command("validate --config small.yaml --model.pretrained tf_efficientdet_lite0")
    assert said.code == 2
    # What fails is the download, not the missing --ckpt_path.
    assert "cannot download" in said.err
    assert "give its local path" in said.err


def test_help_version_and_score_do_not_wait_for_torch():
    code = (
        "import sys\n"
        "from engine.cli.commands import run_task\nfrom detection.spec import SPEC\n"
        "for words in (['--help'], ['--version'], ['score', '--help'], ['fit', '--help'], ['predict', '--help'],\n"
        "    ['fit', '--help', 'data'], ['fit', '--config', 'none'], ['fti'], ['fit', '--ckpt_path', 'none.ckpt']):\n"
        "    try:\n"
        "        run_task(SPEC, words)\n"
        "    except SystemExit as leaving:\n"
        "        assert not leaving.code\n"
        "sys.exit(sorted({'torch', 'lightning', 'timm', 'albumentations'} & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "fit        train" in done.stdout
    assert re.search(r"^(\d+\.\d+|unknown: .* not installed)", done.stdout, re.MULTILINE)
    assert "--ground_truth" in done.stdout
