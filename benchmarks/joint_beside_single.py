"""Train the joint network and each task alone on the same images for the same number of steps, and compare the scores.

    make demo-joint                                                    (makes the street scenes)
    python benchmarks/joint_beside_single.py streets demo-data --seeds 0 1 2
    python benchmarks/joint_beside_single.py nuclei NUCLEI

Every run is a `fit` of the command line, with the joint recipe of `configs/joint/`: the same pretrained backbone,
canvas, augmentation, steps, batch, optimiser, schedule and averaging; the only exception is the segmenter alone on
the streets, which has half the learning rate in its backbone, near that of its own demo. Scores are those of the
averaged weights after the last step, on the whole validation set. Runs that are finished in the output folder are not
trained again.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
TASKS = ("joint", "detection", "segmentation")
# For each task alone: the settings in which its own demo differs from the joint one.
STREETS = {
    "joint": [],
    "detection": [
        "--model.frozen_stages=1",
        "--model.architecture.image_size=[256,512]",
        "--model.optimizer.lr=2.5e-3",
        "--model.schedule.name=poly",
        "--trainer.max_epochs=3",
        "--trainer.check_val_every_n_epoch=3",
        "--ema.decay=0.99",
    ],
    "segmentation": [
        "--data.crop_size=[256,512]",
        "--data.augmentation.max_class_ratio=1",
        "--model.optimizer.backbone_lr=0.5",
        "--model.inference={scales: [1.0], flip: false}",
    ],
}
_NUCLEI_BOXES = [
    "--data.boxes.train_images=images",
    "--data.boxes.val_images=images",
    "--data.boxes.test_images=images",
]
# One task alone runs the joint command without the other labels, as `python -m segmentation` has no canvas.
NUCLEI = {
    "joint": [],
    "detection": ["--data.format=two", "--data.ratio=[1,0]", *_NUCLEI_BOXES],
    "segmentation": ["--data.format=two", "--data.ratio=[0,1]", *_NUCLEI_BOXES],
}
SCORES = {"val_ap": "AP", "val_ap50": "AP50", "val_miou": "mean IoU"}
OF_TASK = {"joint": set(SCORES), "detection": {"val_ap", "val_ap50"}, "segmentation": {"val_miou"}}


def command(images: str, task: str, seed: int, root: Path, more: list[str]) -> list[str]:
    """The command that trains one run."""
    if images == "streets":
        config, package, settings = HERE / f"configs/{task}/demo.yaml", task, STREETS[task]
    else:
        config, package, settings = HERE / "configs/joint/nuclei.yaml", "joint", NUCLEI[task]
    fixed = [
        f"--config={config}",
        f"--data.root={root}",
        f"--seed_everything={seed}",
        f"--run.name={images}-{seed}-{task}",
    ]
    return [sys.executable, "-m", package, "fit", *fixed, *settings, *more, "--trainer.enable_progress_bar=false"]


def scores(run: Path, task: str) -> dict[str, float]:
    """The task's scores at the end of a run; empty if it is not finished."""
    if not (run / "metrics.csv").is_file():
        return {}
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if any(row.get(name) for name in OF_TASK[task])]
    return {name: float(rows[-1][name]) for name in SCORES if name in OF_TASK[task]} if rows else {}


def main() -> None:
    """Train what is missing, and print each seed's scores and differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", choices=("streets", "nuclei"))
    parser.add_argument("root", type=Path, help="folder of the images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output", type=Path, default=Path("joint-beside-single"), help="folder for the runs")
    parser.add_argument("--jobs", type=int, default=1, help="number of trainings at a time; they share the cores")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--more", nargs="*", default=[], help="settings for every run, such as trainer.max_epochs=5")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    threads = max(1, (os.cpu_count() or 1) // given.jobs)
    # Trainings that run at the same time must not spin while they wait: else each takes many times as long.
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(HERE)}
    root, more = given.root.resolve(), [f"--{setting}" for setting in given.more]

    def folder(seed: int, task: str) -> Path:
        package = task if given.images == "streets" else "joint"
        return given.output / "runs" / package / f"{given.images}-{seed}-{task}"

    def train(seed: int, task: str) -> None:
        if scores(folder(seed, task), task):
            return
        line = command(given.images, task, seed, root, more)
        with (given.output / f"{given.images}-{seed}-{task}.log").open("w") as log:
            done = subprocess.run(line, cwd=given.output, env=environment, stdout=log, stderr=log, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(line)} failed; see {log.name}")

    with ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(lambda run: train(*run), [(seed, task) for seed in given.seeds for task in given.tasks]))
    found = {(seed, task): scores(folder(seed, task), task) for seed in given.seeds for task in TASKS}
    report(found, given.seeds)


def report(found: dict[tuple[int, str], dict[str, float]], seeds: list[int]) -> None:
    """A line for each seed and score, and for each score the means."""
    print(f"{'':10}{'seed':>6}{'joint':>9}{'alone':>9}{'difference':>12}")
    for name, said in SCORES.items():
        pairs = []
        for seed in seeds:
            alone = next((found[seed, task][name] for task in TASKS[1:] if name in found[seed, task]), None)
            joint = found[seed, "joint"].get(name)
            if alone is None or joint is None:
                continue
            pairs.append((joint, alone))
            print(f"{said:10}{seed:6}{joint:9.4f}{alone:9.4f}{joint - alone:+12.4f}")
        if len(pairs) > 1:
            joint, alone = (statistics.mean(values) for values in zip(*pairs, strict=True))
            print(f"{said:10}{'mean':>6}{joint:9.4f}{alone:9.4f}{joint - alone:+12.4f}")


if __name__ == "__main__":
    main()
