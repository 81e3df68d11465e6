"""VIA, the VGG Image Annotator: its annotations and projects of versions 1 to 3 as JSON, and its CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from engine.annotations.files import SetFiles, folder_of
from engine.annotations.json_kinds import json_files
from engine.annotations.shapes import Shape, ShapeImage, ShapeSet, box, ellipse, ring_of
from engine.annotations.splits import ALL, folder_split, split_of
from engine.annotations.tools.words import FLAT, FLAT_NOTE, SMALL_NOTE
from engine.errors import InputError
from engine.names import shown_names

NAME = "VIA"
_CALLED = ("label", "class", "name", "type", "category", "object", "class_name", "label_name")
_HEADER = {"file_attributes", "region_shape_attributes", "region_attributes"}
# Numbers of shapes in version 3: `_VIA_RSHAPE` of its CodeDoc.md.
_SHAPES_3 = {1: "point", 2: "rect", 3: "circle", 4: "ellipse", 5: "line", 6: "polyline", 7: "polygon"}
_EXTREME = 8  # four points that touch the sides of a box


class _Region(NamedTuple):
    shape: Mapping[str, object]
    attributes: Mapping[str, object]


class _Picture(NamedTuple):
    name: str
    regions: list[_Region]


def claims(files: SetFiles) -> list[str]:
    """The JSON files and tables of any version."""
    tables = [
        name
        for name in files.ending(".csv")
        if set(next(csv.reader([files.text(name, 4096).partition("\n")[0]]), [])) >= _HEADER
    ]
    return [*json_files(files).get("VIA", []), *tables]


def read(files: SetFiles, labels: Sequence[str]) -> ShapeSet:
    """The images and their regions; their attribute `label`, `class`, `name` or `type`, or the only one, is the class.

    Raises:
        InputError: a file cannot be used, or it is not clear which attribute is the class.
    """
    return ShapeSet((), _images(files, labels))


def _images(files: SetFiles, labels: Sequence[str]) -> Iterator[ShapeImage]:
    for name in labels:
        try:
            pictures = list(_pictures(files, name))
            key = _class_key(f"'{files.path(name)}'", [region for picture in pictures for region in picture.regions])
        except InputError as error:
            files.refuse(name, error)
            continue
        for picture in pictures:
            image = files.image_or_missing(picture.name, folder_of(name))
            where = f"'{files.path(name)}', image '{picture.name}'"
            shapes = tuple(_shapes(files, name, where, picture.regions, key))
            split = folder_split(name)
            split = (split_of(name) or folder_split(image)) if split == ALL else split
            yield ShapeImage(name, image, split, None, shapes)


def _shapes(files: SetFiles, name: str, where: str, regions: Sequence[_Region], key: str | None) -> Iterator[Shape]:
    for region in regions:
        try:
            shape = _shape(files, where, region, key)
        except InputError as error:
            files.refuse(name, error)
            continue
        if shape is not None:
            yield shape


def _pictures(files: SetFiles, name: str) -> Iterator[_Picture]:
    if name.lower().endswith(".csv"):
        yield from _table(files, name)
        return
    content = files.json(name, dict[str, object])
    if {"metadata", "view", "file"} <= content.keys():
        yield from _version_3(files, name, content)
        return
    inner = content.get("_via_img_metadata", content)
    for entry in _map(inner).values():
        picture = _map(entry)
        regions = picture.get("regions") or []
        found = [_map(region) for region in (regions if isinstance(regions, list) else _map(regions).values())]
        yield _Picture(
            str(picture.get("filename", "")),
            [_Region(_map(region.get("shape_attributes")), _map(region.get("region_attributes"))) for region in found],
        )


def _table(files: SetFiles, name: str) -> Iterator[_Picture]:
    """The rows of a CSV; an image without regions has one with `region_count` 0."""
    pictures: dict[str, list[_Region]] = {}
    reader = csv.DictReader(io.StringIO(files.text(name), newline=""))
    try:
        for row in reader:
            plain = {str(key).lstrip("#"): value for key, value in row.items()}
            regions = pictures.setdefault(plain.get("filename") or "", [])
            try:
                shape = _cell(files, name, reader.line_num, plain.get("region_shape_attributes"))
                if shape:
                    regions.append(_Region(shape, _cell(files, name, reader.line_num, plain.get("region_attributes"))))
            except InputError as error:
                files.refuse(name, error)
    except csv.Error as error:
        msg = f"'{files.path(name)}', line {reader.line_num}: {error}. Correct it, or export it again."
        raise InputError(msg) from error
    for image, regions in pictures.items():
        yield _Picture(image, regions)


def _cell(files: SetFiles, name: str, line: int, text: str | None) -> Mapping[str, object]:
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, object])
    except (msgspec.DecodeError, RecursionError) as error:
        msg = f"'{files.path(name)}', line {line}: a cell is not valid JSON: {error}. Export it again."
        raise InputError(msg) from error


def _version_3(files: SetFiles, name: str, content: Mapping[str, object]) -> Iterator[_Picture]:
    """Regions stand apart from their files in version 3, joined by views, and attributes by their numbers."""
    attributes = {key: _map(value) for key, value in _map(content.get("attribute")).items()}
    regions: dict[str, list[_Region]] = {}
    for entry in map(_map, _map(content["metadata"]).values()):
        numbers = entry.get("xy")
        if not isinstance(numbers, list) or not numbers:
            continue  # a stretch of time, or what is said of the whole file
        if entry.get("z"):
            files.note("VIA: regions in the frames of videos were left out")
            continue
        said = {}
        for key, value in _map(entry.get("av")).items():
            options = _map(attributes.get(key, {}).get("options"))
            said[str(attributes.get(key, {}).get("aname", key))] = options.get(str(value), value)
        regions.setdefault(str(entry.get("vid")), []).append(_Region(_named(numbers), said))
    shown = _map(content["file"])
    for view, about in _map(content["view"]).items():
        ids = _map(about).get("fid_list")
        file = _map(shown.get(str(ids[0]))) if isinstance(ids, list) and len(ids) == 1 else {}
        given = str(file.get("fname") or file.get("src") or "")
        if file.get("type", 2) != 2 or not given:
            files.note("VIA: views of videos, sounds or several images were left out")
            continue
        yield _Picture(given, regions.get(view, []))


def _named(numbers: Sequence[object]) -> Mapping[str, object]:
    """A shape of version 3, its kind first, with the names of version 2."""
    kind, values = numbers[0], list(numbers[1:])
    if kind == _EXTREME:
        return {"name": "extreme", "all_points_x": values[0::2], "all_points_y": values[1::2]}
    name = _SHAPES_3.get(kind, f"{kind}") if isinstance(kind, int) else f"{kind}"
    if name == "polygon":
        return {"name": name, "all_points_x": values[0::2], "all_points_y": values[1::2]}
    keys = {"rect": ("x", "y", "width", "height"), "circle": ("cx", "cy", "r"), "ellipse": ("cx", "cy", "rx", "ry")}
    return {"name": name, **dict(zip(keys.get(name, ()), values, strict=False))}


def _class_key(where: str, regions: Sequence[_Region]) -> str | None:
    """The attribute that holds the class; None where no region has any.

    Raises:
        InputError: there are several, none of which is called as classes are.
    """
    keys = list(dict.fromkeys(key for region in regions for key in region.attributes))
    plain = {key.strip().lower().replace(" ", "_"): key for key in keys}
    called = next((plain[name] for name in _CALLED if name in plain), None)
    if called is not None or len(keys) < 2:
        return called or next(iter(keys), None)
    msg = (
        f"{where}: regions have the attributes {shown_names(keys)}, and none is called 'label' or 'class'. "
        "Rename the one that is the class."
    )
    raise InputError(msg)


def _class_of(where: str, region: _Region, key: str | None) -> str:
    if key is None:
        return "object"
    value = region.attributes.get(key, "")
    if isinstance(value, dict):  # a box to tick has each option with true or false
        ticked = [str(option) for option, on in value.items() if on]
        if len(ticked) > 1:
            msg = f"{where}: a region has {len(ticked)} classes: {shown_names(ticked)}. Leave one of them."
            raise InputError(msg)
        return next(iter(ticked), "")
    return str(value)


def _shape(files: SetFiles, where: str, region: _Region, key: str | None) -> Shape | None:
    """One shape; None where it has no area."""
    kind = str(region.shape.get("name", ""))
    if kind in FLAT:
        files.note(FLAT_NOTE)
        return None
    label = _class_of(where, region, key)
    if not label.strip():
        msg = f"{where}: a region has no class ('{key}' is empty). Give it one, or remove it."
        raise InputError(msg)
    if kind == "rect":
        x, y, width, height = (_number(region, side, where) for side in ("x", "y", "width", "height"))
        return box(label, (x, y, x + width, y + height))
    if kind == "circle":
        radius = abs(_number(region, "r", where))
        return ellipse(label, (_number(region, "cx", where), _number(region, "cy", where)), (radius, radius))
    if kind == "ellipse":
        centre = _number(region, "cx", where), _number(region, "cy", where)
        radii = abs(_number(region, "rx", where)), abs(_number(region, "ry", where))
        radians = _number(region, "theta", where) if "theta" in region.shape else 0.0
        return ellipse(label, centre, radii, math.degrees(radians))
    if kind in ("polygon", "extreme"):
        xs, ys = region.shape.get("all_points_x"), region.shape.get("all_points_y")
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
            msg = f"{where}: a polygon has not as many x as y. Correct or remove it."
            raise InputError(msg)
        ring = ring_of([[_real(x, where), _real(y, where)] for x, y in zip(xs, ys, strict=True)], where)
        if len(xs) < 3:
            files.note(SMALL_NOTE)
            return None
        if kind == "extreme":
            return box(label, (min(ring[0::2]), min(ring[1::2]), max(ring[0::2]), max(ring[1::2])))
        return Shape(label, "polygon", (ring,))
    msg = (
        f"{where}: a region has the shape '{kind}'; allowed are rect, polygon, circle and ellipse, and points and "
        "lines. Correct or remove it."
    )
    raise InputError(msg)


def _number(region: _Region, key: str, where: str) -> float:
    return _real(region.shape.get(key), where)


def _real(value: object, where: str) -> float:
    if isinstance(value, int | float) and abs(value) < 2**31:
        return float(value)
    msg = f"{where}: a region has {value!r} where a number belongs. Correct or remove it."
    raise InputError(msg)


def _map(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
