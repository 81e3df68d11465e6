"""Found objects as a document in COCO's format."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import msgspec

from detection.data.classes import BoxClasses
from detection.prediction.found import Found
from detection.prediction.keys import Keys
from engine.outputs import atomic_path
from engine.prediction.journal import shown_path

JSON_NAME = "detections.json"
Item = dict[str, object]


class BoxEntry(msgspec.Struct, frozen=True):
    """What a journal records about an image in which objects were looked for.

    Attributes:
        source: absolute path of the image.
        size_hw: its height and width in pixels.
        boxes_xyxy: left, top, right, bottom of its objects in its own pixels.
        scores: one for each object.
        category_ids: one for each object.
    """

    source: str
    size_hw: tuple[int, int]
    boxes_xyxy: list[tuple[float, float, float, float]]
    scores: list[float]
    category_ids: list[int]


def box_values(found: Found) -> dict[str, object]:
    """What a journal records about an image's objects: the fields of `BoxEntry` except the source."""
    return {
        "size_hw": list(found.size_hw),
        "boxes_xyxy": found.boxes_xyxy.tolist(),
        "scores": found.scores.tolist(),
        "category_ids": found.category_ids.tolist(),
    }


def write_detections(
    path: Path, entries: Callable[[], Iterator[BoxEntry]], classes: BoxClasses, keys: Keys | None = None
) -> None:
    """Write the objects of all finished images in COCO's format, with one image in memory at a time.

    Args:
        path: of the JSON file.
        entries: gives the images' entries, from the first one at every call.
        classes: the detector's class list.
        keys: an annotation file's ids, which images and categories then have.

    Raises:
        InputError: the file cannot be written.
    """
    keyed: Callable[[], Iterator[tuple[int, str, BoxEntry]]] = partial(_keyed, entries, keys)
    images = (_image(number, entry, name) for number, name, entry in keyed())
    categories = None if keys is None else keys.category_ids
    found = _annotations(((number, entry) for number, _, entry in keyed()), categories)
    lists: dict[str, Iterable[Item]] = {"images": images, "annotations": found}
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"categories": ' + json.dumps(_categories(classes if keys is None else keys.classes)))
        for part, items in lists.items():
            file.write(f', "{part}": [')
            separator = ""
            for item in items:
                file.write(separator + json.dumps(item, allow_nan=False))
                separator = ",\n"
            file.write("]")
        file.write("}")


def _keyed(entries: Callable[[], Iterator[BoxEntry]], keys: Keys | None) -> Iterator[tuple[int, str, BoxEntry]]:
    """Id and name of each image; an image of an earlier call that the annotations do not list is left out."""
    for number, entry in enumerate(entries()):
        if keys is None:
            yield number, shown_path(entry.source), entry
        elif entry.source in keys.images:
            yield *keys.images[entry.source], entry


def _image(image_id: int, entry: BoxEntry, name: str) -> Item:
    height, width = entry.size_hw
    return {"id": image_id, "file_name": name, "width": width, "height": height}


def _annotations(entries: Iterable[tuple[int, BoxEntry]], listed: Mapping[int, int] | None = None) -> Iterator[Item]:
    number = 0
    for image_id, entry in entries:
        for (left, top, right, bottom), score, category_id in zip(
            entry.boxes_xyxy, entry.scores, entry.category_ids, strict=True
        ):
            if listed is not None and category_id not in listed:
                continue
            number += 1
            width, height = right - left, bottom - top
            yield {
                "id": number,
                "image_id": image_id,
                "category_id": category_id if listed is None else listed[category_id],
                "bbox": [left, top, width, height],
                "area": width * height,
                "iscrowd": 0,
                "score": score,
            }


def _categories(classes: BoxClasses) -> list[Item]:
    named = zip(classes.category_ids, classes.names, strict=True)
    return [{"id": category_id, "name": name} for category_id, name in named if name]
