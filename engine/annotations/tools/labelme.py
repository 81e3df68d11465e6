"""LabelMe: one JSON for each image, as LabelMe, AnyLabeling and X-AnyLabeling write it."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from engine.annotations.files import SetFiles, class_list, folder_of, stem_of
from engine.annotations.json_kinds import json_files
from engine.annotations.shapes import Shape, ShapeImage, ShapeSet, box, ellipse, joined_shapes, mask_part, ring_of
from engine.annotations.splits import ALL, folder_split
from engine.annotations.tools.words import FLAT, FLAT_NOTE, SMALL_NOTE
from engine.errors import InputError
from engine.reading.images import opened

NAME = "LabelMe"
_NO_CLASSES = ("__ignore__", "_background_")  # first lines of the labels.txt of LabelMe's own examples


class _Shape(msgspec.Struct):
    label: str
    points: list[list[float]] = []
    shape_type: str | None = None
    group_id: int | str | None = None
    mask: str | None = None
    difficult: bool | None = None


class _File(msgspec.Struct):
    shapes: list[_Shape]
    imagePath: str | None = None  # noqa: N815  the format's own names
    imageHeight: float | None = None  # noqa: N815
    imageWidth: float | None = None  # noqa: N815
    imageData: msgspec.Raw = msgspec.Raw(b"null")  # noqa: N815


def claims(files: SetFiles) -> list[str]:
    """The JSON files with shapes."""
    return json_files(files).get("LabelMe", [])


def read(files: SetFiles, labels: Sequence[str]) -> ShapeSet:
    """The images and their shapes; parts with one label and one group are one object, as LabelMe means it.

    Raises:
        InputError: a file cannot be used, or has a shape of a type that is not known.
    """
    names = tuple(name for name in class_list(files) if name not in _NO_CLASSES)
    return ShapeSet(names, _images(files, labels))


def _images(files: SetFiles, labels: Sequence[str]) -> Iterator[ShapeImage]:
    for name in labels:
        try:
            content = files.json(name, _File)
        except InputError as error:
            files.refuse(name, error)
            continue
        folder = folder_of(name)
        given = content.imagePath or f"{stem_of(name)}.jpg"
        image = files.image(given, folder) or files.image(stem_of(name), folder)
        if image is None:
            image = files.image_or_missing(given)
            if content.imageData != b"null":
                files.note("images lie only inside the JSON as 'imageData', and are missing: save them beside it")
        height, width = content.imageHeight or 0, content.imageWidth or 0
        split = folder_split(name)
        yield ShapeImage(
            name,
            image,
            folder_split(image) if split == ALL else split,
            (int(height), int(width)) if 0 < height < 2**31 and 0 < width < 2**31 else None,
            tuple(_shapes(files, name, content.shapes)),
        )


def _shapes(files: SetFiles, name: str, given: Sequence[_Shape]) -> Iterator[Shape]:
    groups: dict[object, list[Shape]] = {}
    for place, entry in enumerate(given):
        try:
            shape = _shape(files, f"'{files.path(name)}': shapes[{place}]", entry)
        except InputError as error:
            files.refuse(name, error)
            continue
        if shape is not None:
            key: object = place if entry.group_id is None else (entry.label, str(entry.group_id))
            groups.setdefault(key, []).append(shape)
    for parts in groups.values():
        yield joined_shapes(parts)


def _shape(files: SetFiles, where: str, entry: _Shape) -> Shape | None:
    """One shape; None where it has no area."""
    ring = ring_of(entry.points, where)
    count, crowd = len(ring) // 2, bool(entry.difficult)
    kind = entry.shape_type or ("rectangle" if count == 2 else "polygon")
    if kind in FLAT:
        files.note(FLAT_NOTE)
        return None
    if kind == "mask" and count >= 1:
        return _mask(where, entry, ring)
    if kind == "rectangle" and count == 2:
        return box(entry.label, (ring[0], ring[1], ring[2], ring[3]), crowd=crowd)
    if kind == "rectangle" and count == 4:
        xs, ys = ring[0::2], ring[1::2]
        if len(set(xs)) == len(set(ys)) == 2:
            return box(entry.label, (min(xs), min(ys), max(xs), max(ys)), crowd=crowd)
        return Shape(entry.label, "turned box", (ring,), crowd=crowd)
    if kind in ("rotation", "oriented_rectangle") and count == 4:
        return Shape(entry.label, "turned box", (ring,), crowd=crowd)
    if kind == "circle" and count == 2:
        radius = float(np.hypot(ring[2] - ring[0], ring[3] - ring[1]))
        return ellipse(entry.label, (ring[0], ring[1]), (radius, radius))
    if kind == "polygon":
        if count >= 3:
            return Shape(entry.label, "polygon", (ring,), crowd=crowd)
        files.note(SMALL_NOTE)
        return None
    msg = (
        f"{where} has {count} points and the type '{kind}'; allowed are polygon, rectangle, circle, mask, "
        "oriented_rectangle, and points and lines. Correct or remove it."
    )
    raise InputError(msg)


def _mask(where: str, entry: _Shape, ring: tuple[float, ...]) -> Shape | None:
    """A mask: the PNG of a rectangle, whose first point is that of its first pixel."""
    try:
        content = base64.b64decode(entry.mask or "", validate=True)
    except binascii.Error as error:
        msg = f"{where} has a mask that is no base64 text: {error}. Export it again."
        raise InputError(msg) from error
    with opened(where.replace("'", ""), "mask", io.BytesIO(content)) as image:
        pixels = np.array(image.convert("L")) > 0
    part = mask_part(pixels, round(ring[0]), round(ring[1]))
    return None if part is None else Shape(entry.label, "mask", masks=(part,), crowd=bool(entry.difficult))
