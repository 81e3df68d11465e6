"""Supervisely: `meta.json`, and one JSON for each image in `ann/`, named as the image with `.json` behind."""

from __future__ import annotations

import base64
import binascii
import io
import zlib
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from engine.annotations.files import SetFiles, folder_of, joined
from engine.annotations.json_kinds import json_files
from engine.annotations.shapes import Shape, ShapeImage, ShapeSet, box, mask_part, ring_of
from engine.annotations.splits import folder_split
from engine.annotations.tools.words import FLAT, FLAT_NOTE, SMALL_NOTE
from engine.errors import InputError
from engine.reading.images import opened

NAME = "Supervisely"
_MOST_BYTES = 1 << 28  # of an unpacked mask: a PNG of more is none


class _Points(msgspec.Struct):
    exterior: list[list[float]] = []
    interior: list[list[list[float]]] = []


class _Bitmap(msgspec.Struct):
    origin: list[float]
    data: str


class _Geometry(msgspec.Struct):
    points: _Points | None = None
    bitmap: _Bitmap | None = None


class _Object(_Geometry):
    class_title: str = msgspec.field(name="classTitle", default="")
    geometry_type: str | None = msgspec.field(name="geometryType", default=None)
    geometry: _Geometry | None = None  # in which some exporters put what belongs beside it


class _Size(msgspec.Struct, frozen=True):
    height: int = 0
    width: int = 0


class _File(msgspec.Struct):
    objects: list[_Object]
    size: _Size = _Size()


class _Class(msgspec.Struct):
    title: str


class _Meta(msgspec.Struct):
    classes: list[_Class] = []


def claims(files: SetFiles) -> list[str]:
    """The JSON files with a size and objects."""
    return json_files(files).get("Supervisely", [])


def read(files: SetFiles, labels: Sequence[str]) -> ShapeSet:
    """The images and their objects; the last row and column of a rectangle belong to it.

    Raises:
        InputError: a file cannot be used, or has an object of a type that is not known.
    """
    metas = [name for name in files.names if name.rpartition("/")[2] == "meta.json"]
    classes = files.json(min(metas, key=lambda name: name.count("/")), _Meta).classes if metas else []
    return ShapeSet(tuple(dict.fromkeys(one.title for one in classes)), _images(files, labels))


def _images(files: SetFiles, labels: Sequence[str]) -> Iterator[ShapeImage]:
    for name in labels:
        try:
            content = files.json(name, _File)
        except InputError as error:
            files.refuse(name, error)
            continue
        given = name.rpartition("/")[2].removesuffix(".json")
        folder = joined(folder_of(name), "../img") or ""
        image = files.image(given, folder) or files.image_or_missing(given)
        shapes = []
        for place, entry in enumerate(content.objects):
            try:
                shape = _shape(files, f"'{files.path(name)}': objects[{place}]", entry)
            except InputError as error:
                files.refuse(name, error)
                continue
            if shape is not None:
                shapes.append(shape)
        height, width = content.size.height, content.size.width
        size_hw = (height, width) if height > 0 and width > 0 else None
        yield ShapeImage(name, image, folder_split(name), size_hw, tuple(shapes))


def _shape(files: SetFiles, where: str, entry: _Object) -> Shape | None:
    """One shape; None where it has no area."""
    geometry = entry.geometry or entry
    kind = entry.geometry_type or ("bitmap" if geometry.bitmap else "polygon")
    if kind in FLAT:
        files.note(FLAT_NOTE)
        return None
    if kind == "bitmap" and geometry.bitmap is not None:
        return _bitmap(where, entry.class_title, geometry.bitmap)
    ring = ring_of(geometry.points.exterior, where) if geometry.points is not None else ()
    if kind == "rectangle" and len(ring) == 4:
        x0, x1, y0, y1 = *sorted(ring[0::2]), *sorted(ring[1::2])
        return box(entry.class_title, (x0, y0, x1 + 1, y1 + 1))
    if kind == "polygon" and geometry.points is not None:
        if len(ring) < 6:
            files.note(SMALL_NOTE)
            return None
        holes = tuple(ring_of(hole, where) for hole in geometry.points.interior if len(hole) > 2)
        return Shape(entry.class_title, "polygon", (ring,), holes)
    msg = (
        f"{where} has the type '{kind}'; allowed are rectangle, polygon and bitmap, and points and lines. Correct or "
        "remove it."
    )
    raise InputError(msg)


def _bitmap(where: str, label: str, bitmap: _Bitmap) -> Shape | None:
    """A mask: a PNG that is packed once more, at the place of its first pixel."""
    try:
        packed = base64.b64decode(bitmap.data, validate=True)
        content = zlib.decompressobj().decompress(packed, _MOST_BYTES)
    except (binascii.Error, zlib.error) as error:
        msg = f"{where} has a mask that cannot be unpacked: {error}. Export it again."
        raise InputError(msg) from error
    left, top = ring_of([bitmap.origin], where)
    with opened(where.replace("'", ""), "mask", io.BytesIO(content)) as image:
        pixels = np.array(image.getchannel("A") if image.mode == "RGBA" else image.convert("L")) > 0
    part = mask_part(pixels, round(left), round(top))
    return None if part is None else Shape(label, "mask", masks=(part,))
