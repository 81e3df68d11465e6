"""Data and a segmenter so small that a training takes a second, and the command line as a user runs it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import nn

from engine.scenes.generate import write_scenes
from segmentation.spec import SPEC
from tests.detection.small import Said, StillNorms
from tests.detection.small import command as run_command

SIZE_HW = (64, 128)
CROP_HW = (64, 96)
COUNTS = {"train": 12, "val": 5}  # 5 is not divisible by any number of processes here
FOLDER_CLASSES = ("background", "thing")
MODEL: dict[str, Any] = {
    "member": "lite0",
    "backbone_weights": None,
    "architecture": {"decoder_channels": 16, "skip_channels": 8, "drop_path": 0.0, "norm_momentum": 0.3},
    "optimizer": {"name": "adamw", "lr": 1e-2, "lr_batch": 0},
    "schedule": {"warmup_steps": 3},
}
TRAINER: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "max_epochs": 2,
    "log_every_n_steps": 1,
    "enable_progress_bar": False,
    "gradient_clip_val": 10,
}
LOADING: dict[str, Any] = {"crop_size": list(CROP_HW), "batch_size": 4, "num_workers": 0}
STREETS: dict[str, Any] = {
    "model": MODEL,
    "ema": {"decay": 0.9},
    "run": {"pictures": False},
    "data": {"format": "cityscapes", "root": "scenes", "cityscapes": {"test_split": "train"}, **LOADING},
    "trainer": TRAINER,
}
FOLDER: dict[str, Any] = {
    "model": MODEL,
    "ema": {"decay": 0},
    "run": {"pictures": False},
    "data": {
        "format": "folder",
        "root": "things",
        "folder": {
            "train_images": "images/train",
            "train_masks": "masks/train",
            "val_images": "images/val",
            "val_masks": "masks/val",
            "classes": list(FOLDER_CLASSES),
            "mask_format": "binary",
            "mask_suffix": "_mask",
        },
        **LOADING,
    },
    "trainer": TRAINER,
}


def command(line: str) -> Said:
    """Run `python -m segmentation LINE` in this process."""
    return run_command(line, SPEC)


def write_set(folder: Path) -> None:
    """`scenes/` with `streets.yaml`, and `things/` with `things.yaml`; the paths start from the folder."""
    write_scenes(folder / "scenes", COUNTS, SIZE_HW, seed=1, workers=1)
    write_things(folder / "things")
    (folder / "streets.yaml").write_text(yaml.safe_dump(STREETS))
    (folder / "things.yaml").write_text(yaml.safe_dump(FOLDER))


def write_things(folder: Path) -> None:
    """Bright discs on dark ground, whose sizes are not multiples of any stride; masks are 0 and 200."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 3)):
        for number in range(count):
            height, width = 65 + 6 * number, 99 - 4 * number
            rows, columns = np.mgrid[:height, :width]
            radius, top, left = 12 + 3 * number, *rng.integers(20, 50, 2)
            disc = (rows - top) ** 2 + (columns - left) ** 2 < radius**2
            picture = rng.integers(0, 60, (height, width, 3)) + 170 * disc[..., None] * np.array((1, 0.5, 0.2))
            for kind, name, values in (
                ("images", f"{number}.png", picture),
                ("masks", f"{number}_mask.png", 200 * disc),
            ):
                (folder / kind / split).mkdir(parents=True, exist_ok=True)
                Image.fromarray(values.astype(np.uint8)).save(folder / kind / split / name)


def logged(run: str | Path, measure: str) -> list[float]:
    """A measure's values in a run's table, in order."""
    with Path(run, "metrics.csv").open(newline="") as file:
        return [float(row[measure]) for row in csv.DictReader(file) if row.get(measure)]


def write_few(count: int) -> None:
    """Write `few/`, the streets with no more than the first training scenes, into the working folder.

    Each scene has another number of pixels that are not counted.
    """
    for number, path in enumerate(sorted(Path("scenes/leftImg8bit/train").rglob("*.png"))[:count]):
        truth = str(path).replace("leftImg8bit/train", "gtFine/train").replace("_leftImg8bit.png", "_gtFine_{}.png")
        for name in (str(path), truth.format("labelIds"), truth.format("instanceIds")):
            target = Path("few", *Path(name).parts[1:])
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, target)
        labels = np.array(Image.open(target.with_name(Path(truth.format("labelIds")).name)))
        labels[:, : 5 * number**2] = 0  # unlabeled; no two halves of the set have the same amount of it
        Image.fromarray(labels).save(target.with_name(Path(truth.format("labelIds")).name))
    for kind in ("leftImg8bit", "gtFine"):
        Path("few", kind, "val").symlink_to(Path("scenes", kind, "val").resolve())


def rows_of(folder: str | Path, label_ids: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The masks below a folder as rows of the class list with these label ids, by path; 255 elsewhere."""
    rows = np.full(256, 255, dtype=np.uint8)
    rows[list(label_ids)] = np.arange(len(label_ids))
    return {str(path): rows[np.array(Image.open(path))] for path in sorted(Path(folder).rglob("*_labelIds.png"))}


def class_ious(predicted: list[np.ndarray], true: list[np.ndarray], count: int) -> np.ndarray:
    """(K,) IoU of each class over all images, NaN where it is nowhere; pixel by pixel, for comparison."""
    found, wanted = (np.concatenate([rows.ravel() for rows in side]) for side in (predicted, true))
    found, wanted = found[wanted != 255], wanted[wanted != 255]
    both = np.array([((found == row) & (wanted == row)).sum() for row in range(count)])
    either = np.array([((found == row) | (wanted == row)).sum() for row in range(count)])
    return np.where(either > 0, both / np.maximum(either, 1), np.nan)


def read_json(path: str | Path) -> dict[str, Any]:
    """A JSON object."""
    content: dict[str, Any] = json.loads(Path(path).read_text())
    return content


class Still(StillNorms):
    """Keeps every dropout, as every batch norm, in eval mode, so that only images and weights decide a step."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        for module in pl_module.modules():
            if isinstance(module, nn.Dropout):
                module.eval()


class StepLosses(Callback):
    """Writes each process's loss of every step to `PLACE/loss-RANK-STEP.pt`."""

    def __init__(self, place: str) -> None:
        self.place = Path(place)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        valid = int((batch.class_ids != 255).sum())
        torch.save(
            (outputs["loss"].detach(), valid), self.place / f"loss-{trainer.global_rank}-{trainer.global_step}.pt"
        )
