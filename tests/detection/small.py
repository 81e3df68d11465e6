"""Scenes and a detector so small that a training takes seconds, and the command line as a user runs it."""

from __future__ import annotations

import io
import json
import logging
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from detection.spec import SPEC
from engine.cli.commands import run_task
from engine.scenes.generate import write_scenes
from engine.tasks import TaskSpec

SIZE_HW = (64, 128)
CANVAS_HW = (128, 128)  # a multiple of the coarsest stride
ARCHITECTURE = {"image_size": list(CANVAS_HW), "fpn_channels": 16, "fpn_cells": 1, "head_repeats": 1}
COUNTS = {"train": 12, "val": 5}  # 5 is not divisible by any number of processes here
CONFIG: dict[str, Any] = {
    "model": {
        "member": "lite0",
        "backbone_weights": None,
        "architecture": {**ARCHITECTURE, "norm_momentum": 0.1},
        "optimizer": {"name": "adamw", "lr": 2e-3, "lr_batch": 0},
        "schedule": {"warmup_steps": 3},
    },
    "ema": {"decay": 0.9},
    "run": {"pictures": False},
    "data": {
        "train_images": "scenes/leftImg8bit/train",
        "train_annotations": "scenes/annotations/instances_train.json",
        "val_images": "scenes/leftImg8bit/val",
        "val_annotations": "scenes/annotations/instances_val.json",
        "test_images": "scenes/leftImg8bit/train",
        "test_annotations": "scenes/annotations/instances_train.json",
        "batch_size": 4,
        "num_workers": 0,
    },
    "trainer": {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "gradient_clip_val": 10,
    },
}


LOGGERS = ("lightning", "lightning.pytorch", "lightning.fabric")


class Said(NamedTuple):
    """The output of a command."""

    code: int
    out: str
    err: str


def command(line: str, spec: TaskSpec = SPEC) -> Said:
    """Run `python -m detection LINE` in this process; Lightning's loggers write to the captured stderr.

    With another spec, that task is run.
    """
    out, err = io.StringIO(), io.StringIO()
    handlers = [h for name in LOGGERS for h in logging.getLogger(name).handlers]
    with redirect_stdout(out), redirect_stderr(err):
        patches = [mock.patch.object(handler, "stream", err) for handler in handlers]
        for patch in patches:
            patch.start()
        try:
            code = run_task(spec, line.split())
        finally:
            for patch in patches:
                patch.stop()
    return Said(code, out.getvalue(), err.getvalue())


def write_set(folder: Path) -> None:
    """Scenes below `scenes/`, and `small.yaml`, whose paths start from the folder."""
    write_scenes(folder / "scenes", COUNTS, SIZE_HW, seed=1, workers=1)
    (folder / "small.yaml").write_text(yaml.safe_dump(CONFIG))


def write_few(count: int) -> None:
    """Write `few.json`, the training annotations of the images with the most boxes, into the working folder."""
    content = json.loads(Path("scenes/annotations/instances_train.json").read_text())
    boxes = Counter(annotation["image_id"] for annotation in content["annotations"])
    kept = {image_id for image_id, _ in boxes.most_common(count)}
    content["images"] = [image for image in content["images"] if image["id"] in kept]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    Path("few.json").write_text(json.dumps(content))


class StillNorms(Callback):
    """Keeps every batch norm in eval mode, so that no image of a batch touches another."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        for module in pl_module.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


class Gradients(Callback):
    """Writes the gradients of every optimiser step to `PLACE/STEP.pt`."""

    def __init__(self, place: str) -> None:
        self.place = Path(place)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if trainer.is_global_zero:
            self.place.mkdir(parents=True, exist_ok=True)
            gradients = {name: p.grad for name, p in pl_module.named_parameters() if p.requires_grad}
            torch.save(gradients, self.place / f"{trainer.global_step}.pt")


def norms(net: nn.Module) -> list[nn.Module]:
    """Its batch norms."""
    return [module for module in net.modules() if isinstance(module, _BatchNorm)]
