"""Small sets in each format, written by hand, all with the same images and boxes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

NAMES = ("wheel", "bolt", "nut")
SIZES = {"a1.png": (96, 128), "a2.png": (64, 80), "b1.png": (100, 60), "b2.png": (64, 64)}  # height, width


class Box(NamedTuple):
    image: str
    name: str
    corners: tuple[float, float, float, float]


# Whole pixels, because VOC's own files hold no others.
BOXES = (
    Box("a1.png", "nut", (10, 20, 50, 70)),
    Box("a1.png", "wheel", (0, 0, 128, 96)),
    Box("a2.png", "bolt", (5, 6, 25, 46)),
    Box("b1.png", "wheel", (30, 1, 60, 99)),
    Box("b1.png", "bolt", (2, 50, 30, 99)),
)  # b2.png has no object
SPLITS = {"train": ("a1.png", "a2.png"), "val": ("b1.png", "b2.png")}


def write_images(folder: Path, names: tuple[str, ...] = tuple(SIZES)) -> None:
    """Noise images of the sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        rng = np.random.default_rng(sum(map(ord, name)))
        Image.fromarray(rng.integers(0, 256, (*SIZES[name], 3), dtype=np.uint8)).save(folder / name)


def boxes_of(names: tuple[str, ...]) -> list[Box]:
    """The boxes of some images."""
    return [box for box in BOXES if box.image in names]


def coco(names: tuple[str, ...]) -> dict[str, list[dict[str, object]]]:
    """A COCO file of some images."""
    return {
        "images": [
            {"id": place, "file_name": name, "height": SIZES[name][0], "width": SIZES[name][1]}
            for place, name in enumerate(names, start=1)
        ],
        "annotations": [
            {
                "id": count,
                "image_id": names.index(box.image) + 1,
                "category_id": NAMES.index(box.name) + 1,
                "bbox": [
                    box.corners[0],
                    box.corners[1],
                    box.corners[2] - box.corners[0],
                    box.corners[3] - box.corners[1],
                ],
                "area": (box.corners[2] - box.corners[0]) * (box.corners[3] - box.corners[1]),
                "iscrowd": 0,
            }
            for count, box in enumerate(boxes_of(names), start=1)
        ],
        "categories": [{"id": place, "name": name} for place, name in enumerate(NAMES, start=1)],
    }


def write_coco(root: Path) -> Path:
    """`images/` and `annotations/instances_SPLIT.json`."""
    write_images(root / "images")
    (root / "annotations").mkdir()
    for split, names in SPLITS.items():
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(coco(names)))
    return root


def voc_xml(name: str, first: int = 1, database: str = "The VOC2007 Database") -> str:
    """The XML of an image, in VOC's own convention or from `first`."""
    objects = "".join(
        f"<object><name>{box.name}</name><bndbox><xmax>{box.corners[2]:g}</xmax><xmin>{box.corners[0] + first:g}</xmin>"
        f"<ymin>{box.corners[1] + first:g}</ymin><ymax>{box.corners[3]:g}</ymax></bndbox></object>"
        for box in boxes_of((name,))
    )
    height, width = SIZES[name]
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    source = f"<source><database>{database}</database></source>"
    return f"<annotation><filename>{name}</filename>{source}{size}{objects}</annotation>"


def write_voc(root: Path) -> Path:
    """`JPEGImages/`, `Annotations/` and `ImageSets/Main/`, with the class list in `classes.txt`."""
    write_images(root / "JPEGImages")
    (root / "Annotations").mkdir()
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(NAMES))
    for split, names in SPLITS.items():
        (root / f"ImageSets/Main/{split}.txt").write_text("".join(f"{name[:-4]}\n" for name in names))
        for name in names:
            (root / "Annotations" / f"{name[:-4]}.xml").write_text(voc_xml(name))
    return root


def yolo_rows(name: str) -> str:
    """The rows of an image; the second of two is a polygon, of the same four corners."""
    height, width = SIZES[name]
    rows = []
    for count, box in enumerate(boxes_of((name,))):
        x0, y0, x1, y1 = box.corners
        numbers = [(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height]
        if count == 1:
            numbers = [
                x0 / width,
                y0 / height,
                x1 / width,
                y0 / height,
                x1 / width,
                y1 / height,
                x0 / width,
                y1 / height,
            ]
        rows.append(" ".join([str(NAMES.index(box.name)), *map(repr, map(float, numbers))]))
    return "\n".join(rows)


def write_yolo(root: Path) -> Path:
    """`data.yaml`, `SPLIT/images` and `SPLIT/labels`, as Roboflow exports it."""
    for split, names in SPLITS.items():
        write_images(root / split / "images", names)
        (root / split / "labels").mkdir()
        for name in names:
            (root / split / "labels" / f"{name[:-4]}.txt").write_text(yolo_rows(name))
    (root / "data.yaml").write_text(
        f"train: ../train/images\nval: ../val/images\ntest: ../test/images\nnc: 3\nnames: {list(NAMES)}\n"
    )
    return root


def write_csv(root: Path) -> Path:
    """`images/` and a table in the form of TensorFlow's tutorials, with the class order in `classes.csv`."""
    write_images(root / "images")
    with (root / "boxes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax", "split"])
        for split, names in SPLITS.items():
            for name in names:
                height, width = SIZES[name]
                found = boxes_of((name,))
                writer.writerows([[name, width, height, box.name, *box.corners, split] for box in found])
                if not found:
                    writer.writerow([name, width, height, "", "", "", "", "", split])
    (root / "classes.csv").write_text("".join(f"{name},{place}\n" for place, name in enumerate(NAMES)))
    return root


WRITERS = {"coco": write_coco, "voc": write_voc, "yolo": write_yolo, "csv": write_csv}
