"""The memory that annotations take: a file of the size of COCO train2017, read by EffDense and by pycocotools.

    python benchmarks/annotation_memory.py

Expected on Linux (needs psutil, 6 GB of memory and 0.5 GB of disk; about three minutes): EffDense under 300 MB at
its peak in the main process and under 30 MB in each worker, forked or spawned; pycocotools gigabytes in both.
Main process: growth of resident memory, afterwards and at the peak. Worker: memory of its own (unique set size)
after one pass over all images, less that of a worker that holds no annotations.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

IMAGES, BOXES, CATEGORIES = 118_287, 860_001, 80  # COCO train2017
RUNS = (("effdense", "fork"), ("effdense", "spawn"), ("pycocotools", "fork"))
MEGABYTE = 1e6


def write_file(path: Path, images: int, boxes: int) -> None:
    """Seeded annotations with polygons as long as COCO's: 0.45 GB for 860 k boxes."""
    rng = np.random.default_rng(0)
    polygons = [
        json.dumps([rng.uniform(0, 640, 2 * max(4, int(points))).round(2).tolist()])
        for points in rng.gamma(1.5, 13.0, 2000)
    ]
    with path.open("w") as file:
        file.write('{"info": {"year": 2017}, "licenses": [], "images": [')
        for i in range(images):
            name = f"{i * 4 + 9:012d}.jpg"
            url = f"http://images.example.org/train2017/{name}"
            entry = {"license": 3, "file_name": name, "coco_url": url, "height": 480, "width": 640}
            entry |= {"date_captured": "2013-11-14 17:02:52", "flickr_url": url, "id": i * 4 + 9}
            file.write((", " if i else "") + json.dumps(entry))
        file.write('], "annotations": [')
        of_images, of_categories = rng.integers(0, images, boxes), rng.integers(0, CATEGORIES, boxes)
        sides = rng.uniform(1, 300, (boxes, 4)).round(2)
        for i in range(boxes):
            file.write(
                f'{", " if i else ""}{{"segmentation": {polygons[i % 2000]}, "area": {sides[i, 0] * sides[i, 1]:.4f}, '
                f'"iscrowd": {int(i % 90 == 0)}, "image_id": {of_images[i] * 4 + 9}, "bbox": {sides[i].tolist()}, '
                f'"category_id": {of_categories[i] + 1}, "id": {900_000_000 + i}}}'
            )
        categories = [{"supercategory": "thing", "id": i + 1, "name": f"class {i}"} for i in range(CATEGORIES)]
        file.write(f'], "categories": {json.dumps(categories)}}}')


class Touch(Dataset[Any]):
    """Reads the annotations of each image as a loader does and answers with the worker's own memory."""

    def __init__(self, annotations: Any, touch: Callable[[Any, int], Any], images: int) -> None:
        self.annotations, self.touch, self.images = annotations, touch, images

    def __len__(self) -> int:
        return -(-self.images // 1000)

    def __getitem__(self, block: int) -> tuple[int, int]:
        for i in range(block * 1000, min(self.images, (block + 1) * 1000)):
            self.touch(self.annotations, i)
        process = psutil.Process()
        return process.pid, process.memory_full_info().uss


def touch_effdense(annotations: Any, index: int) -> Any:
    """File name, size and boxes of one image."""
    return annotations.file_name(index), annotations.size_hw(index), annotations.boxes_of(index).boxes_xyxy.sum()


def touch_pycocotools(coco: Any, index: int) -> Any:
    """File name, size and boxes of one image, read as torchvision's `CocoDetection` does."""
    image_id = coco.dataset["images"][index]["id"]
    image = coco.loadImgs(image_id)[0]
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=image_id))
    return image["file_name"], image["height"], [(entry["bbox"], entry["category_id"]) for entry in annotations]


def touch_nothing(_: Any, index: int) -> int:
    """The reference: a worker without annotations."""
    return index


def worker_memory(dataset: Touch, start_method: str) -> float:
    """Mean over two workers of their own memory at the end of one pass, bytes."""
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context=start_method)
    last = dict(iter(loader))  # a worker answers often; its last answer is kept
    return float(np.mean(list(last.values())))


def measure(tool: str, start_method: str, path: Path) -> dict[str, Any]:
    """Measure one tool in this process: growth of the main process and of a worker in megabytes."""
    if tool == "effdense":
        from detection.data.coco import CocoAnnotations

        read, touch = CocoAnnotations.read, touch_effdense
    else:
        from pycocotools.coco import COCO

        read, touch = COCO, touch_pycocotools  # type: ignore[assignment]
    process = psutil.Process()
    torch.zeros(1)
    gc.collect()
    before = process.memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    start = time.perf_counter()
    annotations = read(str(path))
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    gc.collect()
    after = process.memory_info().rss
    images = len(annotations) if tool == "effdense" else len(annotations.imgs)  # type: ignore[attr-defined]
    alone = worker_memory(Touch(None, touch_nothing, images), start_method)
    own = worker_memory(Touch(annotations, touch, images), start_method)
    growth = {"after": after - before, "peak": peak - before, "worker": own - alone}
    return {"seconds": seconds} | {name: value / MEGABYTE for name, value in growth.items()}


def main() -> None:
    """Write the file, measure each tool in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--boxes", type=int, default=BOXES)
    parser.add_argument("--measure", nargs=3, metavar=("TOOL", "START", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        tool, start_method, file = args.measure
        print(json.dumps(measure(tool, start_method, Path(file))))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "instances.json")
        write_file(path, args.images, args.boxes)
        print(f"{args.images} images, {args.boxes} boxes, {path.stat().st_size / MEGABYTE:.0f} MB of JSON")
        print("tool         workers  read s   main MB   peak MB   worker MB")
        for tool, start_method in RUNS:
            command = [sys.executable, __file__, "--measure", tool, start_method, str(path)]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            row = json.loads(answer.splitlines()[-1])
            print(
                f"{tool:12} {start_method:7} {row['seconds']:7.1f} {row['after']:9.0f} {row['peak']:9.0f} "
                f"{row['worker']:11.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
