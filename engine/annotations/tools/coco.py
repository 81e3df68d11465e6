"""COCO: one JSON for each split, in any of the folders that exporters use; its polygons and run lengths as shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import msgspec
import numpy as np

from engine.annotations.files import SetFiles, folder_of, stem_of
from engine.annotations.json_kinds import json_files
from engine.annotations.shapes import Shape, ShapeImage, ShapeSet, box, mask_part, ring_of
from engine.annotations.splits import ALL, folder_split, split_of
from engine.errors import InputError
from engine.reading.images import check_pixels

NAME = "COCO"


class _Image(msgspec.Struct):
    id: int
    file_name: str
    height: int = 0
    width: int = 0


class _Category(msgspec.Struct):
    id: int
    name: str
    supercategory: str | None = None


class _Runs(msgspec.Struct):
    size: tuple[int, int]
    counts: str | list[int]


class _Annotation(msgspec.Struct, gc=False):
    image_id: int
    category_id: int
    segmentation: _Runs | list[float | list[float]] | None = None
    bbox: list[float] | None = None
    iscrowd: int | bool | None = 0


class _File(msgspec.Struct):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation]


def claims(files: SetFiles) -> list[str]:
    """The JSON files with images, annotations and categories."""
    return json_files(files).get("COCO", [])


def by_split(files: SetFiles, labels: Sequence[str]) -> dict[str, str]:
    """The file of each split; `instances_*.json` goes before others of its split.

    Raises:
        InputError: two files are of the same split.
    """
    chosen: dict[str, list[str]] = {}
    for name in labels:
        chosen.setdefault(split_of(name) or ALL, []).append(name)
    if len(chosen) > 1 and ALL in chosen:  # beside train.json and val.json stands often one of both
        files.note(f"COCO: {len(chosen[ALL])} files without a split in their names were left out", 0)
        del chosen[ALL]
    found = {}
    for split, names in chosen.items():
        instances = [name for name in names if stem_of(name).startswith("instances")]
        rest = instances if len(instances) == 1 else names
        if len(rest) > 1:
            where = f"'{rest[0]}' and '{rest[1]}'"
            msg = f"'{files.root}' has several COCO files for the split '{split}': {where}. Give one as --data.root."
            raise InputError(msg)
        found[split] = rest[0]
    return {split: found[split] for split in ("train", "val", "test", ALL) if split in found}


def read(files: SetFiles, labels: Sequence[str]) -> ShapeSet:
    """The images with their polygons and masks; of an annotation without one its box.

    Raises:
        InputError: a file cannot be used, or an annotation has another shape.
    """
    contents = {split: (name, files.json(name, _File)) for split, name in by_split(files, labels).items()}
    names = dict.fromkeys(
        category.name
        for _, content in contents.values()
        for category in sorted(content.categories, key=lambda category: category.id)
        if not _is_root(category, content)
    )
    return ShapeSet(tuple(names), _images(files, contents))


def _is_root(category: _Category, content: _File) -> bool:
    """Whether it is the class 0 that Roboflow puts before the others, which no annotation has."""
    return (
        category.id == 0
        and any(other.supercategory == category.name for other in content.categories if other.id)
        and not any(annotation.category_id == 0 for annotation in content.annotations)
    )


def _images(files: SetFiles, contents: Mapping[str, tuple[str, _File]]) -> Iterator[ShapeImage]:
    for split, (name, content) in contents.items():
        path = f"'{files.path(name)}'"
        names = {category.id: category.name for category in content.categories}
        of_image: dict[int, list[tuple[int, _Annotation]]] = {image.id: [] for image in content.images}
        for place, annotation in enumerate(content.annotations):
            if annotation.image_id not in of_image or annotation.category_id not in names:
                msg = f"{path}: annotations[{place}] is of an image or a category that the file does not list. Add it."
                files.refuse(name, InputError(msg))
                continue
            of_image[annotation.image_id].append((place, annotation))
        for image in content.images:
            found = files.image_or_missing(image.file_name, folder_of(name), partial(_is_of, split))
            shapes = []
            for place, annotation in of_image.pop(image.id, []):
                try:
                    shapes.append(_shape(f"{path}: annotations[{place}]", annotation, names[annotation.category_id]))
                except InputError as error:
                    files.refuse(name, error)
            yield ShapeImage(
                name,
                found,
                split if split != ALL else folder_split(found),
                (image.height, image.width) if image.height > 0 and image.width > 0 else None,
                tuple(shape for shape in shapes if shape is not None),
            )


def _is_of(split: str, image: str) -> bool:
    return folder_split(image) == split


def _shape(where: str, annotation: _Annotation, label: str) -> Shape | None:
    """The shape of an annotation; None where it has none at all."""
    given, crowd = annotation.segmentation, bool(annotation.iscrowd)
    if isinstance(given, _Runs):
        return _runs(where, given, label, crowd)
    flat = [value for value in given or [] if not isinstance(value, list)]
    polygons = [value for value in given or [] if isinstance(value, list)]
    if flat:  # some write one polygon without the list around it
        polygons = [flat]
    rings = tuple(
        ring_of([ring[start : start + 2] for start in range(0, len(ring), 2)], where)
        for ring in polygons
        if len(ring) >= 6
    )
    if rings:
        return Shape(label, "polygon", rings, crowd=crowd)
    if annotation.bbox and len(annotation.bbox) == 4:
        x, y, width, height = ring_of([annotation.bbox[:2], annotation.bbox[2:]], where)
        return box(label, (x, y, x + width, y + height), crowd=crowd)
    return None


def _runs(where: str, runs: _Runs, label: str, crowd: bool) -> Shape | None:
    """The pixels of run lengths, column by column, the first of which is of pixels that are not the object's."""
    height, width = runs.size
    lengths = np.array(_lengths(runs.counts) if isinstance(runs.counts, str) else runs.counts, np.float64)
    if min(height, width) < 1 or not len(lengths) or lengths.min() < 0 or lengths.sum() != height * width:
        msg = f"{where} has a mask whose runs do not fill its {height} x {width} pixels. Correct or remove it."
        raise InputError(msg)
    check_pixels(where.replace("'", ""), (height, width), "mask")
    pixels = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths.astype(np.int64)).reshape(width, height).T
    part = mask_part(pixels, 0, 0)
    return None if part is None else Shape(label, "mask", masks=(part,), crowd=crowd)


def _lengths(counts: str) -> list[int]:
    """The run lengths of a compressed text.

    A character has five bits, the lowest first, and one that says whether more follow; from the fourth run on the run
    two before is to be added. Source: `rleFrString` of COCO's maskApi.c.
    """
    found: list[int] = []
    value, shift = 0, 0
    for character in counts:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32 and shift < 60:
            continue
        if bits & 16:
            value -= 1 << shift
        found.append(value + (found[-2] if len(found) > 2 else 0))
        value, shift = 0, 0
    return found
