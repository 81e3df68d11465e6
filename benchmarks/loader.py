"""Augmented training images a second: ours beside torchvision's CocoDetection with its v2 transforms, one thread each.

    python benchmarks/loader.py BCCD --annotations instances_train.json

DATA is a folder with images/ and an annotation file of COCO. Both sides decode an image, scale it by 0.6 to 1.6 of what
fits the canvas (`--scales`), crop or pad it to the canvas at random, mirror every second one, clip the boxes and drop
those without area, and stack eight into a batch of uint8. First it is checked that they do the same work: without scale
and mirroring both place all boxes alike, and with them the shares of the canvas that images and boxes cover agree. Each
round goes through the images once on either side, in turn; the last column has the decoded images in memory
(`data.cache_mib`), which torchvision does not offer.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
from torchvision.transforms import v2

from detection.data.augment import DetectionAugmentation
from detection.data.coco import CocoAnnotations
from detection.data.dataset import BoxImages, collate
from engine.data.supply.store import KeepingReader, PixelStore
from engine.hardware.machine import in_words, machine
from engine.hardware.memory import keep_freed_memory
from engine.reading.reader import PixelReader

FILL = (128, 128, 128)
TRAINING = PixelReader(training=True)  # as a data module reads its training images
BATCH = 8


def ours(folder: Path, file: str, side: int, scales: tuple[float, float], flip: float) -> BoxImages:
    source = CocoAnnotations.read(folder / file, folder / "images")
    augmentation = DetectionAugmentation(hflip=flip, scale_min=scales[0], scale_max=scales[1])
    return BoxImages(source, source.classes, (side, side), FILL, augmentation.build((side, side), FILL), TRAINING)


def theirs(
    folder: Path, file: str, side: int, scales: tuple[float, float], flip: float
) -> Sequence[tuple[Tensor, dict[str, Tensor]]]:
    steps = [
        v2.ToImage(),
        v2.ScaleJitter((side, side), scales),
        v2.RandomHorizontalFlip(flip),
        v2.RandomCrop((side, side), pad_if_needed=True, fill=FILL[0]),
        v2.ClampBoundingBoxes(),
        v2.SanitizeBoundingBoxes(min_size=1),
    ]
    plain = CocoDetection(str(folder / "images"), str(folder / file), transforms=v2.Compose(steps))
    wrapped: Sequence[tuple[Tensor, dict[str, Tensor]]] = wrap_dataset_for_transforms_v2(
        plain, target_keys=("boxes", "labels")
    )
    return wrapped


def check(folder: Path, file: str, side: int, scales: tuple[float, float], count: int) -> None:
    """Do nothing if both sides do the same work."""
    still = (folder, file, side, (1.0, 1.0), 0.0)
    for place in range(min(count, 5)):
        boxes, other = ours(*still)[place].boxes_xyxy, theirs(*still)[place][1]["boxes"].numpy()
        assert boxes.shape == other.shape, "not the same boxes"
        # Where the picture is laid on the canvas is drawn at random: shapes and distances must agree.
        apart = (boxes - boxes[:1]) - (other - other[:1])
        assert not len(boxes) or np.abs(apart).max() < 1.5, "boxes are not placed alike"
    moved = (folder, file, side, scales, 0.5)
    for name, share in (("images", _image_share), ("boxes", _box_share)):
        first, second = ours(*moved), theirs(*moved)
        own = statistics.mean(share(torch.from_numpy(s.image).permute(2, 0, 1), torch.from_numpy(s.boxes_xyxy))
                              for s in (first[n] for n in range(count)))  # fmt: skip
        other = statistics.mean(share(i, t["boxes"]) for i, t in (second[n] for n in range(count)))
        print(f"canvas covered by {name}: ours {own:.3f}, torchvision {other:.3f}")
        assert abs(own - other) < 0.15 * max(own, other), "not the same work"


def _image_share(image: Tensor, boxes: Tensor) -> float:
    return float((image != FILL[0]).any(0).float().mean())


def _box_share(image: Tensor, boxes: Tensor) -> float:
    sides = boxes[:, 2:] - boxes[:, :2]
    return float(sides.prod(1).sum()) / image[0].numel()


def our_pass(images: BoxImages, count: int) -> None:
    for start in range(0, count, BATCH):
        collate([images[place] for place in range(start, min(start + BATCH, count))])


def their_pass(images: Sequence[tuple[Tensor, dict[str, Tensor]]], count: int) -> None:
    for start in range(0, count, BATCH):
        items = [images[place] for place in range(start, min(start + BATCH, count))]
        torch.stack([image for image, _ in items])


def main() -> None:
    """Check, run the rounds and print images a second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="images/ and an annotation file")
    parser.add_argument("--annotations", default="instances_train.json")
    parser.add_argument("--side", type=int, default=512, help="of the canvas")
    parser.add_argument("--scales", type=float, nargs=2, default=(0.6, 1.6), help="multiples of what fits the canvas")
    parser.add_argument("--images", type=int, default=80)
    parser.add_argument("--cache-mib", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--keep-memory", action="store_true", help="both sides keep freed memory, as `fit` does on a processor"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.keep_memory:
        keep_freed_memory()
    torch.manual_seed(0)
    count = given.images
    scales = (given.scales[0], given.scales[1])
    check(given.folder, given.annotations, given.side, scales, count)
    moved = (given.folder, given.annotations, given.side, scales, 0.5)
    kept = ours(*moved)
    store = PixelStore(given.cache_mib, [kept.image_path(place) for place in range(count)])
    kept.read = KeepingReader(training=True, shelf=[store])
    own, other = ours(*moved), theirs(*moved)
    passes: dict[str, Callable[[], None]] = {
        "ours": lambda: our_pass(own, count),
        "torchvision": lambda: their_pass(other, count),
        "ours, decoded images kept": lambda: our_pass(kept, count),
    }
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for turn in range(given.rounds + 1):
        for name, call in passes.items():
            start = time.perf_counter()
            call()
            if turn:  # the first round is for warming up
                seconds[name].append(time.perf_counter() - start)
    print(in_words(machine()))
    print(f"{count} images on {given.side} x {given.side} pixels, one thread, {given.rounds} rounds; images a second")
    base = seconds["torchvision"]
    for name, times in seconds.items():
        ratios = min(base) / min(times), statistics.median(base) / statistics.median(times)
        print(
            f"{name:28}{count / min(times):8.0f} at best {count / statistics.median(times):8.0f} median;"
            f" {ratios[0]:5.2f} / {ratios[1]:.2f} times torchvision's"
        )
    print(f"{store.kept} decoded images were kept")
    store.close()


if __name__ == "__main__":
    main()
