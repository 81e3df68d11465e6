"""`python -m joint boxes`: Cityscapes' instance ids as boxes of COCO, so that one folder trains both heads."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.cli.commands import parse_function, program, run_command
from engine.errors import InputError, check_choice
from engine.outputs import write_json
from engine.threads import free_cores
from segmentation.data.cityscapes.files import CityscapesFiles, read_instance_ids
from segmentation.data.cityscapes.labels import LABELS

_PER_LABEL = 1000  # `_instanceIds.png`: label id * 1000 + k for the k-th thing, the label id alone for a group
# The classes of the benchmark; caravans and trailers have instances, but no score counts them.
CLASSES = tuple(label.name for label in LABELS if label.has_instances and not label.ignored)
_LABEL_IDS = {label.name: label.label_id for label in LABELS if label.has_instances}


class InstanceBoxes(NamedTuple):
    """The N things and groups of one image: first the things by their id, then the groups by label and place.

    Attributes:
        boxes_xywh: (N, 4) int64 left, top, width and height of the visible pixels, from edge to edge: a thing of one
            pixel in the corner has [0, 0, 1, 1].
        label_ids: (N,) int64 label ids of Cityscapes.
        areas: (N,) int64 numbers of visible pixels.
        iscrowd: (N,) bool, whether it is a group whose things are not told apart.
    """

    boxes_xywh: npt.NDArray[np.int64]
    label_ids: npt.NDArray[np.int64]
    areas: npt.NDArray[np.int64]
    iscrowd: npt.NDArray[np.bool_]


def boxes_of(instance_ids: npt.NDArray[np.integer], classes: Sequence[str] = CLASSES) -> InstanceBoxes:
    """The tight boxes of an instance map.

    Every connected part of a group gets a box of its own: with one box around two groups at the ends of a street, all
    false detections between them would be ignored. A thing that another thing in front divides in two stays one.

    Args:
        instance_ids: (H, W) as in `_instanceIds.png`.
        classes: Cityscapes names of the wanted classes.

    Raises:
        InputError: a class is unknown or has no instances.
    """
    wanted = _label_ids(classes)
    is_group = np.isin(instance_ids, wanted)
    is_thing = np.isin(instance_ids // _PER_LABEL, wanted)
    things = _extents(np.where(is_thing, instance_ids, 0))
    groups = _extents(_parts(instance_ids, is_group, wanted))
    # `_parts` numbers its parts like things: label id * its own factor + k.
    label_ids = np.concatenate([things.ids // _PER_LABEL, groups.ids // _PER_PARTS])
    return InstanceBoxes(
        boxes_xywh=np.concatenate([things.boxes_xywh, groups.boxes_xywh]),
        label_ids=label_ids,
        areas=np.concatenate([things.areas, groups.areas]),
        iscrowd=np.arange(len(label_ids)) >= len(things.ids),
    )


class _Extents(NamedTuple):
    ids: npt.NDArray[np.int64]
    boxes_xywh: npt.NDArray[np.int64]
    areas: npt.NDArray[np.int64]


_PER_PARTS = 1 << 24  # more than an image has parts


def _extents(ids: npt.NDArray[np.integer]) -> _Extents:
    """Box and area of every id but 0 in an (H, W) map, in ascending order of id, computed from runs along the rows."""
    width = ids.shape[1]
    flat = ids.ravel().astype(np.int64)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.union1d(changes, np.arange(0, flat.size, width))
    ends = np.append(starts[1:], flat.size)
    shown = flat[starts] != 0
    starts, ends = starts[shown], ends[shown]
    found, of = np.unique(flat[starts], return_inverse=True)
    rows, lefts = starts // width, starts % width
    rights = lefts + ends - starts
    first = np.full((len(found), 2), flat.size, dtype=np.int64)
    last = np.zeros((len(found), 2), dtype=np.int64)
    for side, (low, high) in enumerate(((lefts, rights), (rows, rows + 1))):
        np.minimum.at(first[:, side], of, low)
        np.maximum.at(last[:, side], of, high)
    areas = np.bincount(of, weights=ends - starts, minlength=len(found)).astype(np.int64)
    return _Extents(found, np.concatenate([first, last - first], axis=1), areas)


def _parts(
    instance_ids: npt.NDArray[np.integer], is_group: npt.NDArray[np.bool_], wanted: Sequence[int]
) -> npt.NDArray[np.int64]:
    """The connected parts of groups, numbered from label id * `_PER_PARTS`; 0 elsewhere."""
    parts = np.zeros(instance_ids.shape, dtype=np.int64)
    if not is_group.any():
        return parts
    import cv2

    for label_id in wanted:
        pixels = instance_ids == label_id
        if pixels.any():
            _, numbers = cv2.connectedComponents(pixels.astype(np.uint8), connectivity=8)
            parts[pixels] = label_id * _PER_PARTS + numbers[pixels]
    return parts


def _label_ids(classes: Sequence[str]) -> list[int]:
    for name in classes:
        check_choice("class", name, _LABEL_IDS)
    if not classes:
        msg = "no class is asked for. Name at least one, such as car."
        raise InputError(msg)
    return sorted({_LABEL_IDS[name] for name in classes})


def write_boxes(
    root: str, split: str, output: str | None = None, classes: list[str] | None = None, workers: int | None = None
) -> str:
    """Write the boxes of a split of Cityscapes as a COCO annotation file; category ids are Cityscapes' label ids.

    Args:
        root: folder with leftImg8bit and gtFine.
        split: the split, such as train or val.
        output: the JSON file to write; by default ROOT/annotations/instances_SPLIT.json.
        classes: names of the wanted classes; by default the eight of the instance benchmark.
        workers: images read at a time; by default one for each free core.

    Returns:
        A sentence on what was written.

    Raises:
        InputError: files are missing or cannot be read, a class is unknown, or the output cannot be written.
    """
    names = CLASSES if classes is None else tuple(classes)
    label_ids = _label_ids(names)
    files = CityscapesFiles(root, [split])
    without = [pair for pair in files.pairs if pair.instances is None]
    if without:
        msg = f"'{without[0].mask}' has no '_instanceIds.png' beside it. Give the gtFine folder as Cityscapes ships it."
        raise InputError(msg)
    folder = Path(root, "leftImg8bit", split)
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    paths = [pair.instances for pair in files.pairs if pair.instances is not None]
    for pair, (size_hw, found) in zip(files.pairs, _read_all(paths, names, workers), strict=True):
        image_id = len(images) + 1
        name = pair.image.relative_to(folder).as_posix()
        images.append({"id": image_id, "file_name": name, "height": size_hw[0], "width": size_hw[1]})
        for box, label_id, area, crowd in zip(*(column.tolist() for column in found), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": label_id,
                    "bbox": box,
                    "area": area,
                    "iscrowd": int(crowd),
                }
            )
    categories = [{"id": label.label_id, "name": label.name} for label in LABELS if label.label_id in label_ids]
    target = output or str(Path(root, "annotations", f"instances_{split}.json"))
    description = f"boxes of Cityscapes' instance ids, {split}"
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_json(target, {"info": {"description": description}, "licenses": [], **content})
    crowds = sum(annotation["iscrowd"] == 1 for annotation in annotations)
    return f"{len(images)} images, {len(annotations) - crowds} things, {crowds} groups: {target}"


def _read_all(
    paths: Sequence[Path], classes: Sequence[str], workers: int | None
) -> Iterator[tuple[tuple[int, int], InstanceBoxes]]:
    from tqdm import tqdm

    def read(path: Path) -> tuple[tuple[int, int], InstanceBoxes]:
        instance_ids = read_instance_ids(path)
        return (instance_ids.shape[0], instance_ids.shape[1]), boxes_of(instance_ids, classes)

    # Threads are enough: decoding releases Python's lock.
    with ThreadPoolExecutor(workers or free_cores()) as pool:
        yield from tqdm(pool.map(read, paths), "boxes", len(paths), unit="image", leave=False, disable=None)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and write; returns 2 after one short line of error, else 0."""

    def act() -> None:
        given = parse_function(write_boxes, f"{program('joint')} boxes", argv, __doc__)
        sys.stdout.write(write_boxes(**given) + "\n")

    return run_command(act)
