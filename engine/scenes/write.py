"""One generated scene in the forms of Cityscapes (four files) and of COCO (annotations with exact masks)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.outputs import atomic_path, write_json
from engine.scenes.trace import LABEL_IDS, SceneObject


@dataclass(frozen=True)
class Scene:
    """A picture and its ground truth, all of height H and width W.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        label_ids: (H, W) uint8 Cityscapes ids.
        instance_ids: (H, W) uint16; id * 1000 + k for single objects of the eight instance classes, else the id.
        object_numbers: (H, W) uint8; 1 + the index in `objects` of the object that the pixel shows.
        objects: the polygons of everything in the picture, in painting order.
    """

    image: NDArray[np.uint8]
    label_ids: NDArray[np.uint8]
    instance_ids: NDArray[np.uint16]
    object_numbers: NDArray[np.uint8]
    objects: tuple[SceneObject, ...]


Record = dict[str, object]  # an entry of a JSON file


class ImageEntry(TypedDict):
    """What a COCO file holds for an image and its annotations, without ids."""

    file_name: str
    height: int
    width: int
    annotations: list[Record]


def write_cityscapes(scene: Scene, root: Path, split: str, city: str, name: str) -> None:
    """Write picture, label ids, instance ids and polygons into the folders of Cityscapes.

    Args:
        scene: what to write.
        root: folder that holds `leftImg8bit` and `gtFine`.
        split: `train`, `val` or `test`.
        city: name of the city's folder.
        name: `CITY_SEQUENCE_FRAME`, the common start of the file names.

    Raises:
        InputError: a file cannot be written.
    """
    truth = root / "gtFine" / split / city
    _write_png(scene.image, root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")
    _write_png(scene.label_ids, truth / f"{name}_gtFine_labelIds.png")
    _write_png(scene.instance_ids, truth / f"{name}_gtFine_instanceIds.png")
    height, width = scene.label_ids.shape
    objects = [{"label": thing.label, "polygon": thing.polygon} for thing in scene.objects]
    write_json(truth / f"{name}_gtFine_polygons.json", {"imgHeight": height, "imgWidth": width, "objects": objects})


def _write_png(pixels: NDArray[np.uint8] | NDArray[np.uint16], path: Path) -> None:
    # OpenCV's encoder takes half of Pillow's time; a search for repeats makes maps smaller, but not noise.
    if pixels.ndim == 3:
        options = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY]
        _, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    else:
        _, encoded = cv2.imencode(".png", pixels)
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def coco_annotations(scene: Scene, categories: Sequence[str]) -> list[Record]:
    """What a COCO file holds for a scene; the caller adds image and annotation ids.

    Boxes are [x, y, width, height] of the visible pixels with half-open edges, areas count those pixels, and the
    segmentation is their run-length code. Groups are crowds.

    Args:
        scene: the scene.
        categories: Cityscapes names of the classes to annotate; the category ids are Cityscapes'.
    """
    from pycocotools import mask as coco_mask

    height, width = scene.object_numbers.shape
    wanted = [number for number, thing in enumerate(scene.objects, 1) if _category(thing) in categories]
    runs = _runs(scene.object_numbers, len(scene.objects))
    annotations: list[Record] = []
    for number in wanted:
        thing, (starts, ends) = scene.objects[number - 1], runs[number]
        # COCO's code alternates between lengths of background and of object, column by column.
        counts = np.diff(np.stack([starts, ends], axis=1).ravel(), prepend=0, append=height * width)
        code = coco_mask.frPyObjects({"counts": counts.tolist(), "size": [height, width]}, height, width)
        annotations.append(
            {
                "category_id": thing.label_id,
                "bbox": [int(side) for side in coco_mask.toBbox(code)],
                "area": int(coco_mask.area(code)),
                "iscrowd": int(thing.group),
                "segmentation": {"size": [height, width], "counts": code["counts"].decode("ascii")},
            }
        )
    return annotations


def _category(thing: SceneObject) -> str:
    return thing.label.removesuffix("group") if thing.group else thing.label


def _runs(numbers: NDArray[np.uint8], count: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Starts and ends of the column-wise runs of every number from 0 to `count`."""
    flat = numbers.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    ends = np.append(starts[1:], flat.size)
    values = flat[starts]
    order = np.argsort(values, kind="stable")
    bounds = np.searchsorted(values[order], np.arange(count + 2))
    return [(starts[order[a:b]], ends[order[a:b]]) for a, b in pairwise(bounds.tolist())]


def coco_file(split: str, entries: Sequence[ImageEntry], categories: Sequence[str]) -> Record:
    """A whole COCO file from the entries of its images.

    Args:
        split: name of the part, for the description.
        entries: per image its `file_name`, `height`, `width` and `annotations`; ids are given in this order.
        categories: Cityscapes names of the annotated classes.
    """
    images: list[Record] = []
    annotations: list[Record] = []
    for image_id, entry in enumerate(entries, start=1):
        size = {"height": entry["height"], "width": entry["width"]}
        images.append({"id": image_id, "file_name": entry["file_name"], **size})
        for annotation in entry["annotations"]:
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **annotation})
    return {
        "info": {"description": f"generated street scenes, {split}"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": LABEL_IDS[name], "name": name} for name in sorted(categories, key=LABEL_IDS.__getitem__)],
    }
