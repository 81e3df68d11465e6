"""`python -m classification` as a user runs it: train, measure, predict, and what the files hold."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.metrics import accuracy_score, f1_score, log_loss

from classification import load
from classification.data.classes import LabelClasses
from classification.network.model import Classifier
from detection.network.model import EfficientDet
from detection.spec import SPEC as DETECTION
from engine.training.checkpoints import read_checkpoint
from segmentation.network.model import Segmenter
from tests.classification.small import CLASSES, COUNTS, command
from tests.detection.small import ARCHITECTURE
from tests.detection.small import command as run_command

EVALUATION = "--trainer.accelerator cpu --data.num_workers 0 --run.pictures false"
PREDICTION = "--trainer.accelerator cpu --trainer.enable_progress_bar false --num_workers 0"


def best_of(run: Path) -> Path:
    return next((run / "checkpoints").glob("best*"))


def logged(run: Path, measure: str) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row[measure]) for row in csv.DictReader(file) if row.get(measure)]


def test_a_training_leaves_everything_in_its_folder(trained):
    names = {path.name.partition(".")[0] for path in trained.iterdir()}
    assert {"config", "versions", "metrics", "events", "checkpoints", "pictures", "report"} <= names
    assert (trained / "pictures/train/losses.png").is_file() or any((trained / "pictures/train").iterdir())
    assert (trained / "pictures/val/confusion.png").is_file()
    losses = logged(trained, "train_loss")
    assert len(losses) == 3 * (3 * COUNTS["train"] // 6)
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])
    stored = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)["effdense"]["model"]
    assert stored["classes"] == {"names": list(CLASSES), "several": False}
    assert stored["architecture"]["image_size"] == 64
    assert stored["threshold"] == 0.5


def test_validation_scores_as_training_did_and_as_prediction_finds(here, trained, tmp_path):
    said = command(
        f"validate --config small.yaml --ckpt_path {best_of(trained)} {EVALUATION} --model.scores found.json"
    )
    assert said.code == 0, said.err
    found = json.loads(Path("found.json").read_text())
    assert found["top1"] == pytest.approx(max(logged(trained, "val_top1")), abs=1e-6)
    assert found["score"] == found["top1"]
    assert "confusion" in found
    # The same images by prediction, and scikit-learn's measures of them.
    classifier = load(best_of(trained))
    files = sorted(Path("colors/val").rglob("*.png"))
    truth = [CLASSES.index(path.parent.name) for path in files]
    answers = classifier.predict_many(files)
    rows = [answer.top(1)[0].class_id for answer in answers]
    assert accuracy_score(truth, rows) == pytest.approx(found["top1"], abs=1e-6)
    assert f1_score(truth, rows, average="macro") == pytest.approx(found["f1_macro"], abs=1e-5)
    loss = log_loss(truth, np.stack([answer.probabilities for answer in answers]))
    assert loss == pytest.approx(min(logged(trained, "val_loss"), key=lambda value: abs(value - loss)), abs=1e-4)
    assert np.sum(found["confusion"]) == len(files)


@pytest.mark.slow
def test_the_test_command_scores_the_test_split(here, trained):
    said = command(
        f"test --config small.yaml --ckpt_path last --run.name trained {EVALUATION} --model.scores test.json"
    )
    assert said.code == 0, said.err
    assert said.out.splitlines()[0].split() == ["class", "precision", "recall", "F1", "images"]
    assert np.sum(json.loads(Path("test.json").read_text())["confusion"]) == 3 * COUNTS["test"]


def test_predictions_are_a_table_and_pictures(here, trained, tmp_path):
    line = f"predict --ckpt_path {best_of(trained)} --source colors/val --output {tmp_path}/out --top 2 {PREDICTION}"
    said = command(line)
    assert said.code == 0, said.err
    with (tmp_path / "out/classes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    files = sorted(Path("colors/val").rglob("*.png"))
    assert len(rows) == 2 * len(files)
    classifier = load(best_of(trained))
    answers = {str(path): classifier.predict(path) for path in files[:3]}
    for path, answer in answers.items():
        mine = [row for row in rows if row["image"].endswith(path)]
        assert [row["rank"] for row in mine] == ["1", "2"]
        assert mine[0]["class"] == answer.label
        assert float(mine[0]["probability"]) == pytest.approx(float(answer.probabilities.max()), abs=1e-5)
        assert [row["found"] for row in mine] == ["1", "0"]
    assert (tmp_path / "out/red/0.jpg").is_file()
    assert command(line).code == 0  # all are finished


@pytest.mark.slow
def test_a_training_goes_on(here, trained):
    said = command("fit --config small.yaml --run.name on --trainer.max_epochs 1")
    assert said.code == 0, said.err
    said = command("fit --config small.yaml --run.name on --trainer.max_epochs 2 --ckpt_path last")
    assert said.code == 0, said.err
    last = torch.load("runs/classification/on/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 2 * (3 * COUNTS["train"] // 6)
    said = command("fit --config small.yaml --run.name on --ckpt_path last --model.architecture.image_size 96")
    assert said.code == 2
    assert "has 64" in said.err


def test_a_classifier_is_the_backbone_of_every_head(here, trained):
    source = str(best_of(trained))
    own = read_checkpoint(source, "classification").state_dict
    detector = EfficientDet("lite0", num_classes=2, backbone_weights=source, **ARCHITECTURE)
    segmenter = Segmenter("lite0", num_classes=2, backbone_weights=source, decoder_channels=16)
    for network in (detector, segmenter):
        for name, value in network.backbone.state_dict().items():
            assert torch.equal(value, own[f"classifier.backbone.{name}"]), name
    # As a config gives it.
    config = {"model": {"member": "lite0", "backbone_weights": source, "architecture": ARCHITECTURE}}
    Path("detector.yaml").write_text(yaml.safe_dump(config))
    assert run_command("fit --config detector.yaml --print_config", DETECTION).code == 0


def test_a_backbone_of_other_colours_is_told(here, trained, tmp_path):
    """A network that was trained with a mean of its own says so to the head that takes its backbone."""
    content = torch.load(best_of(trained), weights_only=True)
    content["effdense"]["model"]["architecture"] |= {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]}
    torch.save(content, tmp_path / "own.ckpt")
    with pytest.warns(UserWarning, match=r"trained with mean and std \[0.1, 0.2, 0.3\]"):
        Classifier("lite0", classes=LabelClasses(CLASSES), backbone_weights=tmp_path / "own.ckpt")


@pytest.mark.slow
def test_a_classifier_starts_another(here, trained):
    said = command(
        f"fit --config small.yaml --run.name next --model.pretrained {best_of(trained)} --trainer.max_steps 1"
    )
    assert said.code == 0, said.err
    assert "class list changed" not in said.err


@pytest.mark.parametrize(
    ("line", "holds"),
    [
        pytest.param(
            "fit --config small.yaml --data.root none", "the data's root 'none' does not exist", marks=pytest.mark.slow
        ),
        ("fit --config small.yaml --data.split 0.8/0.2", "Leave --data.split out"),
        ("fit --config small.yaml --data.augmentation.policy rand-q9", "which timm does not know"),
        pytest.param(
            "fit --config small.yaml --model.mixing.mixup 0.2 --data.batch_size 5",
            "Give an even number",
            marks=pytest.mark.slow,
        ),
        ("fit --config small.yaml --model.progressive.magnitude [5,9]", "progressive.stages is 1"),
        pytest.param(
            "fit --config small.yaml --model.loss.class_weights [1,2]",
            "2 weights for 3 classes",
            marks=pytest.mark.slow,
        ),
        ("fit --config small.yaml --model.member b9", "allowed"),
        ("validate --config small.yaml", "Give --ckpt_path FILE"),
    ],
)
def test_a_wrong_command_is_one_short_line(here, line, holds):
    said = command(f"{line} --trainer.accelerator cpu")
    assert said.code == 2
    assert holds in said.err
    assert len(said.err.strip().splitlines()[-1]) < 400
    assert "Traceback" not in said.err


@pytest.mark.slow
def test_an_exported_file_stands_where_a_checkpoint_does(here, trained, tmp_path):
    from deployment.export.command import main as export
    from deployment.serving.predicting import open_predictor

    best, file = best_of(trained), tmp_path / "colors.onnx"
    assert export(["--ckpt_path", str(best), "--output", str(file)]) == 0
    scores = []
    for source in (best, file):
        said = command(
            f"validate --config small.yaml --ckpt_path {source} {EVALUATION} --model.scores {tmp_path / 'found.json'}"
        )
        assert said.code == 0, said.err
        scores.append(json.loads((tmp_path / "found.json").read_text()))
    assert scores[1]["confusion"] == scores[0]["confusion"]
    assert scores[1]["calibration_error"] == pytest.approx(scores[0]["calibration_error"], abs=1e-4)
    said = command(f"predict --ckpt_path {file} --source colors/val --output {tmp_path / 'out'} {PREDICTION}")
    assert said.code == 0, said.err
    with (tmp_path / "out/classes.csv").open(newline="") as table:
        assert {row["class"] for row in csv.DictReader(table)} == set(CLASSES)
    predictor, task = open_predictor(file, None, "cpu", None)
    assert task == "classification"
    name = next(Path("colors/val/red").glob("*.png"))
    assert predictor.predict(name).label == load(best).predict(name).label
    said = command(f"fit --config small.yaml --model.pretrained {file}")
    assert said.code == 2
    assert "is an exported file, which cannot be trained" in said.err
