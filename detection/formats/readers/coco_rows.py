"""The sound entries of a COCO file of which others cannot be used, and what is wrong with these, each by itself."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import msgspec

from detection.data.boxes import BoxTable
from detection.data.coco import CocoAnnotations
from engine.annotations.files import BrokenRow
from engine.annotations.json_text import json_fault, utf8
from engine.errors import InputError

Kind = TypeVar("Kind", bound=msgspec.Struct)
_FARTHEST = 2**31  # no image has as many pixels on a side


class _Image(msgspec.Struct):
    id: int
    file_name: str
    height: float | None = None
    width: float | None = None


class _Category(msgspec.Struct):
    id: int
    name: str


class _Annotation(msgspec.Struct):
    image_id: int
    category_id: int
    bbox: list[float] | None = None
    area: float | None = None
    iscrowd: int | bool | None = 0


@dataclass
class Dataset:
    """A COCO object, as pycocotools has it.

    Attributes:
        dataset: the content of the file.
    """

    dataset: Mapping[str, object]


def read_sound(path: Path, image_folder: Path | None, broken: list[BrokenRow] | None) -> BoxTable:
    """Parse an annotation file, and note entries that cannot be used in place of ending at the first.

    Args:
        path: the JSON.
        image_folder: where its file names start from; None is the folder of the JSON.
        broken: where those entries are noted; None ends at the first.

    Raises:
        InputError: as `CocoAnnotations.read`, where that is no matter of single entries or `broken` is None.
    """
    try:
        return CocoAnnotations.read(path, image_folder)
    except InputError as error:
        if broken is None:
            raise
        return sound_entries(path, image_folder, error, broken)


def sound_entries(path: Path, image_folder: Path | None, fault: InputError, broken: list[BrokenRow]) -> BoxTable:
    """The table of a file without the entries that cannot be used, which are noted.

    Args:
        path: the JSON.
        image_folder: as in `read_sound`.
        fault: what reading the whole file says.
        broken: where the entries are noted.

    Raises:
        InputError: `fault`, where it is no matter of single entries, or what is left cannot be used.
    """
    try:
        content: object = json.loads(bytes(utf8(path.read_bytes())))
    except (OSError, ValueError, RecursionError):
        raise fault from None
    if not isinstance(content, dict):
        raise fault
    faults: list[str] = []
    sound = _sound(content, faults)
    if not faults:
        raise fault
    given = CocoAnnotations.to_score(Dataset(sound))
    broken += [BrokenRow(str(path), one) for one in faults]
    return replace(given, source=str(path), image_folder=path.parent if image_folder is None else image_folder)


def _sound(content: Mapping[str, object], faults: list[str]) -> dict[str, object]:
    images: dict[int, object] = {}
    for where, entry in _entries(content, "images"):
        image = _converted(where, entry, _Image, faults)
        if image is None:
            continue
        if image.id in images:
            faults.append(f"{where}: image id {image.id} occurs more than once. Give every image its own id.")
        elif not all(0 <= (side or 0) < _FARTHEST for side in (image.height, image.width)):
            faults.append(
                f"{where}: the size is {image.height} x {image.width} (height x width). Correct or remove it."
            )
        else:
            images[image.id] = entry
    categories: dict[int, object] = {}
    for where, entry in _entries(content, "categories"):
        category = _converted(where, entry, _Category, faults)
        if category is None:
            continue
        if category.id in categories or not category.name.strip():
            faults.append(f"{where}: the id {category.id} stands there already, or the name is empty. Correct it.")
        else:
            categories[category.id] = entry
    annotations = []
    for where, entry in _entries(content, "annotations"):
        row = _converted(where, entry, _Annotation, faults)
        if row is None or not isinstance(entry, dict):
            continue
        try:
            annotations.append({**entry, "bbox": _box(where, row, entry, images, categories)})
        except InputError as error:
            faults.append(str(error))
    return {"images": [*images.values()], "categories": [*categories.values()], "annotations": annotations}


def _entries(content: Mapping[str, object], part: str) -> Iterator[tuple[str, object]]:
    given = content.get(part)
    for number, entry in enumerate(given if isinstance(given, list) else []):
        yield f"{part}[{number}]", entry


def _converted(where: str, entry: object, kind: type[Kind], faults: list[str]) -> Kind | None:
    """An entry in its type; None for one that is not of it, which is noted."""
    try:
        return msgspec.convert(entry, kind, strict=False)
    except msgspec.ValidationError as error:
        faults.append(f"{where}: {json_fault(str(error))}. Correct or remove it.")
        return None


def _box(
    where: str,
    row: _Annotation,
    entry: Mapping[str, object],
    images: Mapping[int, object],
    categories: Mapping[int, object],
) -> list[float]:
    """The box of an annotation, which may be that around its mask; none is [].

    Raises:
        InputError: it cannot be used.
    """
    for kind, number, known in (("image", row.image_id, images), ("category", row.category_id, categories)):
        if number not in known:
            msg = f"{where}: {kind}_id {number} is none that the file lists, or one of an entry of no use. Remove it."
            raise InputError(msg)
    box = around(where, entry.get("segmentation")) if row.bbox is None else row.bbox
    finite = len(box) in (0, 4) and all(abs(side) < _FARTHEST for side in box)
    if not finite or (box and min(box[2:]) < 0):
        msg = (
            f"{where} has the box {box}; allowed is [x, y, width, height] in pixels with width and height of at least "
            "0. Correct or remove it."
        )
        raise InputError(msg)
    if row.area is not None and not math.isfinite(row.area):
        msg = f"{where} has the area {row.area}. Give a finite number, or leave it out."
        raise InputError(msg)
    return box


def around(where: str, segmentation: object) -> list[float]:
    """The box x, y, width, height around polygons or a mask.

    Raises:
        InputError: there is neither.
    """
    if isinstance(segmentation, dict):
        from pycocotools import mask

        try:
            size, counts = segmentation["size"], segmentation["counts"]
            runs = mask.frPyObjects(segmentation, *size) if isinstance(counts, list) else segmentation
            return [float(side) for side in mask.toBbox(runs)]
        except (KeyError, TypeError, ValueError) as error:
            msg = f"{where} has a mask whose runs cannot be read: {error}. Correct or remove it."
            raise InputError(msg) from error
    if isinstance(segmentation, list) and segmentation:
        polygons: Sequence[object] = segmentation if isinstance(segmentation[0], list) else [segmentation]
        flat = [side for polygon in polygons if isinstance(polygon, list) for side in polygon]
        if len(flat) >= 4 and len(flat) % 2 == 0 and all(isinstance(side, int | float) for side in flat):
            left, top = min(flat[0::2]), min(flat[1::2])
            return [left, top, max(flat[0::2]) - left, max(flat[1::2]) - top]
    msg = f"{where} has neither a 'bbox' nor a mask. Give one of them, or remove it."
    raise InputError(msg)
