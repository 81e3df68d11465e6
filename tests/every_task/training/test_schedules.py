"""Canvases that change, kept images, equal averages, gradual unfreezing and early ends: exact, and as they are told."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from lightning.pytorch import Callback

from engine.errors import InputError
from engine.training.averaging import EMA
from engine.training.callbacks.stopping import Stopping
from engine.training.callbacks.watch import Watch
from engine.training.recipe import Staged
from tests.detection.small import command
from tests.engine.checkpoints import assert_same_training
from tests.every_task import watching
from tests.every_task.training.test_exact_options import EVERY, OWN

BRIEF = "--config small.yaml --data.batch_size 2 --trainer.num_sanity_val_steps 0"
MIXED = "--data.multi_scale 0.5 --data.cache_mib 16 --unfreeze.epochs 0.34 --ema.decay 0.9998 --ema.kind equal"
MORE = f"{EVERY} {OWN['segmentation']}"  # a task's options with a state of their own; the other tasks' are slow


class Course(Callback):
    """What each step sees: the canvas, which stages learn, and the first weight of each stage."""

    rows: ClassVar[list[tuple[tuple[int, ...], list[bool], list[float]]]] = []

    def _stages(self, module):
        return [
            [p for part in stage for p in part.parameters()]
            for part in module.modules()
            if isinstance(part, Staged)
            for stage in part.stages()
        ][:9]

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        stages = self._stages(pl_module)
        learns = [any(p.requires_grad for p in stage) for stage in stages]
        Course.rows.append(
            (tuple(batch.images.shape[-2:]), learns, [float(stage[0].detach().sum()) for stage in stages])
        )


def stored(task: str, name: str) -> dict[str, object]:
    content: dict[str, object] = torch.load(Path(f"runs/{task}/{name}/checkpoints/last.ckpt"), weights_only=True)
    return content


@pytest.mark.by_default("segmentation")
def test_they_are_exact_with_workers_and_after_an_interruption(task, monkeypatch):
    from engine.data.supply import canvases

    monkeypatch.setattr(canvases, "EVERY", 1)
    line = f"fit {BRIEF} {MIXED} {MORE} --ema.begin 0.5 --trainer.max_epochs 2 --trainer.limit_val_batches 0 --run.name"
    Course.rows = []
    course = f"--trainer.callbacks+ {__name__}.Course"
    watching.run(task, f"{line} whole --data.num_workers 0 {course}")
    sizes, learns, weights = (list(column) for column in zip(*Course.rows, strict=True))
    assert len(set(sizes)) > 1
    # The last stage first; those before it stay as they were until it is their turn.
    counts = [sum(each) for each in learns]
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert counts[-1] > 1
    assert all(each == sorted(each) for each in learns)
    stem = [each[0] for each in weights]
    still = [not each[0] for each in learns]
    assert all(value == stem[0] for value, frozen in zip(stem, still, strict=True) if frozen)
    crash = "--run.save_steps 1 --trainer.callbacks+ tests.joint.small.CrashAt --trainer.callbacks.crash 5"
    with pytest.raises(RuntimeError, match="power cut"):
        command(f"{line} cut --data.num_workers 0 {crash}", watching.find_task(task))
    watching.run(task, f"{line} cut --data.num_workers 2 --ckpt_path last")
    assert_same_training(stored(task, "whole"), stored(task, "cut"))


@pytest.mark.slow  # by default a training ends early in test_val_loss
def test_a_training_that_gets_no_better_ends(task):
    # No score rises by 1, so the first one stays the best.
    options = "--trainer.max_epochs 6 --stop.patience 2 --stop.min_delta 1 --data.num_workers 0"
    said = command(f"fit {BRIEF} {options} --run.name it", watching.find_task(task))
    assert said.code == 0, said.err
    assert re.search(r"the training ends early: val_\w+ was not above \S+ in 2 validations in a row", said.err)
    content = stored(task, "it")
    assert content["epoch"] == 2


def test_the_equal_average_is_the_mean():
    averaging = EMA(kind="equal")
    weights = [torch.randn(3, generator=torch.Generator().manual_seed(seed)) for seed in range(5)]
    average = torch.zeros(3)
    for count, weight in enumerate(weights):
        averaging._average_model = SimpleNamespace(n_averaged=torch.tensor(count))  # type: ignore[assignment]
        averaging._update([average], [weight], count)
    torch.testing.assert_close(average, torch.stack(weights).mean(0))


def test_options_that_cannot_apply_are_refused():
    with pytest.raises(InputError, match=r"ema\.begin is 0\.5, but only kind equal"):
        EMA(begin=0.5)
    with pytest.raises(InputError, match=r"ema\.kind is equal, and ema\.decay is 0\.9,"):
        EMA(kind="equal", decay=0.9)
    with pytest.raises(InputError, match=r"stop\.patience is not given"):
        Stopping(min_delta=0.1)


def test_classes_of_which_nothing_is_found_are_named_once(caplog):
    caplog.set_level("INFO")
    watch = Watch()
    scores = SimpleNamespace(never_found=lambda: {"boxes": ["dog", "cat"], "pixels": []})
    trainer = SimpleNamespace(
        state=SimpleNamespace(fn="fit"), sanity_checking=False, estimated_stepping_batches=100, global_step=40
    )
    watch.on_validation_end(trainer, SimpleNamespace(scores=scores))  # type: ignore[arg-type]
    assert not caplog.messages
    trainer.global_step = 60
    for _ in range(2):
        watch.on_validation_end(trainer, SimpleNamespace(scores=scores))  # type: ignore[arg-type]
    (line,) = caplog.messages
    assert "after 60 steps nothing of 2 classes of boxes is found in the validation: dog, cat." in line


def test_scores_name_the_classes_of_which_nothing_is_found():
    from detection.scores.metric import BoxScores
    from joint.scores.scores import JointScores
    from segmentation.scores.metric import SegmentationScores

    numbers = dict.fromkeys(BoxScores.names(), 0.5)
    boxes = BoxScores(**numbers, per_class={"a": 0.0, "b": None, "c": 0.2}, max_detections=100, masks=None)
    masks = SegmentationScores(0.5, 0.5, 0.5, class_ious={"road": 0.9, "sky": 0.0, "car": None})
    assert JointScores(boxes, masks).never_found() == {"boxes": ["a"], "pixels": ["sky"]}
