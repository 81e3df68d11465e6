"""Settings with which a joint training takes a second, and the command line as its user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from detection.data.classes import BoxClasses
from detection.network.model import EfficientDet
from engine.training.checkpoints import save_metadata
from joint.spec import SPEC
from segmentation.network.model import Segmenter
from tests.detection.small import Said
from tests.detection.small import command as run_command

CANVAS_HW = (128, 256)
DETECTOR: dict[str, Any] = {"image_size": list(CANVAS_HW), "fpn_channels": 16, "fpn_cells": 1, "head_repeats": 1}
SEGMENTER: dict[str, Any] = {"decoder_channels": 16, "skip_channels": 8, "norm_momentum": 0.3}
CONFIG: dict[str, Any] = {
    "model": {
        "member": "lite0",
        "backbone_weights": None,
        "detector": {"architecture": {**DETECTOR, "norm_momentum": 0.1}},
        "segmenter": {"architecture": SEGMENTER},
        "optimizer": {"name": "adamw", "lr": 5e-3, "lr_batch": 0},
        "schedule": {"warmup_steps": 2},
    },
    "ema": {"decay": 0.9},
    "run": {"pictures": False},
    "data": {"batch_size": 3, "num_workers": 0},
    "trainer": {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
        "gradient_clip_val": 10,
    },
}
BOXES = {"train_images": "train", "train_annotations": "train.json", "val_images": "val", "val_annotations": "val.json"}


def write_configs(folder: Path, streets: Path, photos: Path) -> None:
    """`both.yaml` of scenes with boxes and masks, and `two.yaml` of photographs with boxes and scenes with masks."""
    both = {"format": "both", "root": str(streets)}
    two = {"format": "two", "boxes": {"root": str(photos), **BOXES}, "masks": {"root": str(streets)}}
    for name, data in (("both", both), ("two", two)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**CONFIG, "data": {**CONFIG["data"], **data}}))


def command(line: str) -> Said:
    """Run `python -m joint LINE` in this process."""
    return run_command(line, SPEC)


def fitted(line: str) -> None:
    """Run a training that must succeed."""
    said = command(f"fit {line}")
    assert said.code == 0, said.err


def stored(run: str, kind: str = "last") -> dict[str, Any]:
    """A checkpoint of a run, found by the beginning of its name."""
    content: dict[str, Any] = torch.load(
        next(Path("runs/joint", run, "checkpoints").glob(f"{kind}*")), weights_only=True
    )
    return content


def write_parts(folder: Path, streets: Path) -> tuple[EfficientDet, Segmenter]:
    """`detector.ckpt` and `segmenter.ckpt`, as the single tasks write them for the scenes after seeing an image."""
    torch.manual_seed(3)
    categories = json.loads((streets / "annotations/instances_train.json").read_text())["categories"]
    detector = EfficientDet("lite0", classes=BoxClasses.in_order((c["name"], c["id"]) for c in categories), **DETECTOR)
    segmenter = Segmenter("lite0", mean=detector.config.mean, std=detector.config.std, **SEGMENTER)
    for network, task in ((detector, "detection"), (segmenter, "segmentation")):
        network.train()(torch.randint(0, 256, (2, 3, *CANVAS_HW), dtype=torch.uint8))
        part = "detector" if task == "detection" else "segmenter"
        weights = {f"{part}.{key}": value for key, value in network.state_dict().items()}
        checkpoint: dict[str, Any] = {"state_dict": weights}
        save_metadata(checkpoint, task, network.settings())
        torch.save(checkpoint, folder / f"{part}.ckpt")
        network.eval()
    return detector, segmenter


class CrashAt(Callback):
    """Stops the program after a step, as a power cut does."""

    def __init__(self, crash: int) -> None:
        self.crash = crash

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.crash:
            msg = "power cut"
            raise RuntimeError(msg)
