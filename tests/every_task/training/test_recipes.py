"""`fit --recipe`: what a user gives stays, the rest follows from the data, and every line says why."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from engine.cli.given.recipe import with_recipe
from engine.tasks import find_task
from tests.detection.small import command, write_set


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Twelve scenes and the configs of all tasks, with nothing that a recipe chooses."""
    from tests.joint import small as joint
    from tests.segmentation import small as segmentation

    folder = tmp_path_factory.mktemp("drawn")
    write_set(folder)
    small = yaml.safe_load((folder / "small.yaml").read_text())
    both = {**joint.CONFIG, "data": {**joint.CONFIG["data"], "format": "both", "root": "scenes"}}
    for name, config in (("detection", small), ("segmentation", segmentation.STREETS), ("joint", both)):
        data = {key: value for key, value in config["data"].items() if key not in ("batch_size", "crop_size")}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"data": data}))
    return folder


@pytest.mark.parametrize("task", ["detection", "segmentation", "joint"])
def test_each_choice_is_an_option_with_a_reason(drawn, monkeypatch, task):
    monkeypatch.chdir(drawn)
    given = ["--trainer.accelerator", "cpu", "--model.optimizer.lr", "0.5", "--model.schedule.warmup_epochs", "1"]
    line = ["fit", "--config", f"{task}.yaml", "--recipe", "auto", *given]
    words, lines = with_recipe(find_task(task), line)
    assert lines[0].startswith("recipe small: 12 training images of 128 x 64 pixels")
    settings = yaml.safe_load(words[2])
    assert words[3:] == line[1:]
    assert "lr" not in settings["model"]["optimizer"]
    assert "schedule" not in settings["model"]
    assert settings["model"]["optimizer"]["name"] == "adamw"
    assert settings["data"]["batch_size"] == 3
    assert "  model.optimizer.lr: as you gave it" in lines
    assert all(": " in each for each in lines)
    # A joint network's losses were not measured, and are left as they are.
    assert settings["model"].get("loss") == ({"assigner": "atss", "boxes": "ciou"} if task == "detection" else None)


@pytest.mark.parametrize("given", [["--model.head", "fcos"], ["--model.loss.match_iou", "0.4"]])
def test_a_loss_that_does_not_go_with_what_is_given_is_not_chosen(drawn, monkeypatch, given):
    monkeypatch.chdir(drawn)
    line = ["fit", "--config", "detection.yaml", "--recipe", "auto", "--trainer.accelerator", "cpu", *given]
    settings = yaml.safe_load(with_recipe(find_task("detection"), line)[0][2])
    assert "assigner" not in settings["model"].get("loss", {})
    assert ("loss" in settings["model"]) == ("fcos" not in given)
    assert (settings["model"]["optimizer"]["lr"] < 5e-3) == ("fcos" in given)


def test_a_training_runs_with_it(drawn, tmp_path, monkeypatch):
    for path in drawn.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    small = "--data.image_size 128 --model.member lite0 --model.backbone_weights null --model.frozen_stages 0"
    less = "--trainer.max_epochs 1 --trainer.limit_val_batches 0 --trainer.limit_train_batches 1 --run.pictures false"
    quiet = "--trainer.accelerator cpu --trainer.enable_progress_bar false --run.name it"
    said = command(f"fit --config detection.yaml --recipe small {small} {less} {quiet}")
    assert said.code == 0, said.err
    assert "ema.decay" in said.err
    kept = yaml.safe_load(Path("runs/detection/it/config.yaml").read_text())
    assert (kept["recipe"], kept["data"]["batch_size"], kept["model"]["optimizer"]["name"]) == ("small", 3, "adamw")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fit --config detection.yaml --recipe huge", "--recipe 'huge' is unknown; allowed: small, medium"),
        ("fit --recipe auto", "none are given. Give --data.root"),
        ("validate --config detection.yaml --recipe auto --ckpt_path x.ckpt", "the command is validate"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(drawn, monkeypatch, line, words):
    from engine.errors import InputError

    monkeypatch.chdir(drawn)
    with pytest.raises(InputError, match=words):
        with_recipe(find_task("detection"), line.split())
