"""What a training says of itself: classes that never appear, steps that wait, gradients that are no numbers."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from safetensors import safe_open
from torch import nn

from engine.data.sampling.appearing import Appearing
from engine.training.callbacks import watch
from tests.detection.small import command
from tests.every_task import watching

BRIEF = (
    "--config small.yaml --data.batch_size 2 --data.num_workers 0 --trainer.max_epochs 1 --trainer.limit_val_batches 0 "
    "--trainer.num_sanity_val_steps 0"
)


class BadGradient(Callback):
    """Gives the first convolution a gradient that is no number in a step, at a sound loss."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_train_start(self, trainer, pl_module):
        first = next(m for m in pl_module.modules() if isinstance(m, nn.Conv2d))

        def spoil(gradient):
            return gradient * float("inf") if trainer.global_step == self.at else gradient

        first.weight.register_hook(spoil)


@pytest.mark.by_default("segmentation")
def test_a_bad_gradient_ends_the_training_before_it_changes_the_weights(task):
    spoil = f"--trainer.callbacks+ {__name__}.BadGradient --trainer.callbacks.at 1 --run.name bad"
    said = command(f"fit {BRIEF} {spoil} --run.save_steps 1", watching.find_task(task))
    assert said.code == 2
    last = said.err.strip().splitlines()[-1]
    assert "became infinite or nan at step 1" in last
    assert "back from the loss, the first layer with such a gradient is 'backbone." in last.replace("'network.", "'")
    folder = Path(f"runs/{task}/bad")
    with safe_open(folder / "bad_batch.safetensors", "pt") as file:
        assert file.metadata()["step"] == "1"
        assert len(list(folder.glob("bad_batch_*.png"))) == len(file.get_tensor("images")) == 2
    kept = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    assert kept["global_step"] == 1
    assert all(value.isfinite().all() for value in kept["state_dict"].values() if value.is_floating_point())


@pytest.mark.slow
@pytest.mark.parametrize("task", ["detection"], indirect=True)
def test_classes_without_an_object_are_named(task):
    content = json.loads(Path("scenes/annotations/instances_train.json").read_text())
    content["categories"].append({"id": 99, "name": "unicorn"})
    Path("more.json").write_text(json.dumps(content))
    said = command(f"fit {BRIEF} --data.train_annotations more.json --run.name it", watching.find_task(task))
    assert said.code == 0, said.err
    (line,) = [line for line in said.err.splitlines() if "cannot be learnt" in line]
    assert "unicorn" in line
    said = command(f"fit {BRIEF} --data.train_annotations more.json --watch.warn false", watching.find_task(task))
    assert "cannot be learnt" not in said.err


@pytest.mark.slow
@pytest.mark.parametrize("task", ["segmentation"], indirect=True)
def test_a_training_that_waits_for_images_says_so(task, monkeypatch):
    from segmentation.data.dataset import TrainingCrops

    usual = TrainingCrops.__getitem__

    def slow(self, index):
        time.sleep(0.5)
        return usual(self, index)

    monkeypatch.setattr(TrainingCrops, "__getitem__", slow)
    monkeypatch.setattr(watch, "_STEPS", 3)
    said = command(f"fit {BRIEF} --data.batch_size 1 --run.name it", watching.find_task(task))
    assert said.code == 0, said.err
    (line,) = [line for line in said.err.splitlines() if "waits for images" in line]
    assert "the training's own process makes" in line


def test_classes_are_missing_until_a_batch_shows_them():
    appearing = Appearing({"boxes": ("a", "", "c"), "pixels": ("road", "sky")})
    assert appearing.missing() == {"boxes": ["a", "c"], "pixels": ["road", "sky"]}
    masks = torch.full((1, 8, 8), 255, dtype=torch.uint8)
    masks[0, 4, 4] = 1
    appearing.look({"boxes": torch.tensor([[2, -1]]), "pixels": masks})
    assert appearing.missing() == {"boxes": ["a"], "pixels": ["road"]}
    appearing.look({"boxes": torch.tensor([[0]])})
    assert appearing.missing() == {"pixels": ["road"]}
