"""Label Studio: one JSON with all tasks, in its full form or as JSON-MIN; numbers are percent of the image's sides."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import parse_qs, urlsplit

import msgspec
import numpy as np

from engine.annotations.bits import brush_alpha
from engine.annotations.files import SetFiles, folder_of, rounded, suffix_of
from engine.annotations.json_kinds import json_files
from engine.annotations.shapes import Shape, ShapeImage, ShapeSet, ellipse, mask_part, ring_of, turned_box
from engine.annotations.splits import ALL, folder_split, split_of
from engine.annotations.tools.words import FLAT, FLAT_NOTE, SMALL_NOTE, UNLABELLED_NOTE
from engine.errors import InputError
from engine.names import shown_names
from engine.reading.images import IMAGE_SUFFIXES

NAME = "Label Studio"
_KINDS = ("Label Studio", "Label Studio (JSON-MIN)")
_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of an uploaded file
_OWN = frozenset(("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement"))


class _Value(msgspec.Struct):
    x: float | None = None
    y: float | None = None
    width: float | None = None
    height: float | None = None
    rotation: float | None = 0.0
    points: list[list[float]] = []
    radius_x: float | None = msgspec.field(name="radiusX", default=None)
    radius_y: float | None = msgspec.field(name="radiusY", default=None)
    format: str | None = None
    rle: list[int] = []
    sequence: list[msgspec.Raw] = []
    original_width: int | None = None
    original_height: int | None = None
    labels: list[str] | None = None
    rectanglelabels: list[str] | None = None
    polygonlabels: list[str] | None = None
    ellipselabels: list[str] | None = None
    brushlabels: list[str] | None = None
    keypointlabels: list[str] | None = None

    @property
    def names(self) -> list[str]:
        kinds = (self.rectanglelabels, self.polygonlabels, self.ellipselabels, self.brushlabels, self.labels)
        return next((names for names in kinds if names), [])


class _Result(msgspec.Struct):
    value: _Value
    id: str | None = None
    type: str | None = None
    original_width: int | None = None
    original_height: int | None = None
    image_rotation: float | None = None


class _Annotation(msgspec.Struct):
    result: list[msgspec.Raw] = []
    was_cancelled: bool | None = False
    updated_at: str | None = None
    created_at: str | None = None


class _Task(msgspec.Struct):
    data: dict[str, object]
    annotations: list[_Annotation] | None = None
    completions: list[_Annotation] | None = None  # their name in old versions


def claims(files: SetFiles) -> list[str]:
    """The JSON files with tasks, in either form."""
    found = json_files(files)
    return [name for kind in _KINDS for name in found.get(kind, [])]


def read(files: SetFiles, labels: Sequence[str]) -> ShapeSet:
    """The labelled images; of several annotations of an image the latest counts.

    Raises:
        InputError: a file cannot be used, a task names no image, or an image was turned while it was labelled.
    """
    return ShapeSet((), _images(files, labels))


def _images(files: SetFiles, labels: Sequence[str]) -> Iterator[ShapeImage]:
    short = set(json_files(files).get("Label Studio (JSON-MIN)", []))
    for name in labels:
        try:
            tasks = list(_short_tasks(files, name) if name in short else _tasks(files, name))
        except InputError as error:
            files.refuse(name, error)
            continue
        for place, (data, results) in enumerate(tasks):
            where = f"'{files.path(name)}', entry {place}"
            try:
                image = _image(files, name, where, data)
                size_hw, shapes = _shapes(files, name, where, image, results)
            except InputError as error:
                files.refuse(name, error)
                continue
            split = folder_split(name)
            split = (split_of(name) or folder_split(image)) if split == ALL else split
            yield ShapeImage(name, image, split, size_hw, tuple(shapes))


def _tasks(files: SetFiles, name: str) -> Iterator[tuple[Mapping[str, object], list[_Result]]]:
    for task in files.json(name, list[_Task]):
        given = [one for one in task.annotations or task.completions or [] if not one.was_cancelled]
        if not given:
            files.note(UNLABELLED_NOTE)
            continue
        if len(given) > 1:
            files.note("images have several annotations, of which the latest was taken")
        latest = max(given, key=lambda one: one.updated_at or one.created_at or "")
        yield task.data, _results(files, name, latest.result)


def _results(files: SetFiles, name: str, given: Sequence[msgspec.Raw]) -> list[_Result]:
    """The regions of an annotation; choices and texts, which say something of the whole image, are none."""
    found = []
    for raw in given:
        try:
            kind = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
            if b"choices" in bytes(kind.get("type", b"")) or "value" not in kind:
                continue
            found.append(msgspec.json.decode(raw, type=_Result, strict=False))
        except msgspec.DecodeError as error:
            msg = f"'{files.path(name)}' has a region that cannot be read: {error}. Export it again."
            files.refuse(name, InputError(msg))
    return found


def _short_tasks(files: SetFiles, name: str) -> Iterator[tuple[Mapping[str, object], list[_Result]]]:
    """The entries of JSON-MIN, whose regions lie in lists that are named as the labelling interface names them."""
    for entry in files.json(name, list[dict[str, object]]):
        regions = [
            region
            for value in entry.values()
            if isinstance(value, list)
            for region in value
            if isinstance(region, dict) and region.keys() & {"x", "points", "rle"}
        ]
        values = []
        for region in regions:
            try:
                values.append(msgspec.convert(region, _Value, strict=False))
            except msgspec.ValidationError as error:
                msg = f"'{files.path(name)}' has a region that cannot be read: {error}. Export it again."
                files.refuse(name, InputError(msg))
        data = {key: value for key, value in entry.items() if key not in _OWN}
        yield data, [_Result(value, None, None, value.original_width, value.original_height) for value in values]


def _image(files: SetFiles, name: str, where: str, data: Mapping[str, object]) -> str:
    """The image of a task, whose address Label Studio has changed: by a prefix of the name, or a query for the path."""
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    given = {key: value for key, value in texts.items() if suffix_of(_path_of(value)) in IMAGE_SUFFIXES}
    chosen = texts.get("image") or (next(iter(given.values())) if len(given) == 1 else None)
    if chosen is None:
        msg = f"{where} has the data {shown_names(list(data))}, and no image named 'image'. Export it again with one."
        raise InputError(msg)
    path = _path_of(chosen)
    folder, _, last = path.rpartition("/")
    plain = _UPLOADED.sub("", last)
    found = files.image(path, folder_of(name)) or files.image(f"{folder}/{plain}".lstrip("/"), folder_of(name))
    return found or files.image_or_missing(plain)


def _path_of(address: str) -> str:
    local = parse_qs(urlsplit(address).query).get("d")  # /data/local-files/?d=folder/name.jpg
    return local[0] if local else address.partition("?")[0]


def _shapes(
    files: SetFiles, name: str, where: str, image: str, results: Sequence[_Result]
) -> tuple[tuple[int, int] | None, list[Shape]]:
    named = {result.id: result.value.names for result in results if result.id and result.value.names}
    size_hw: tuple[int, int] | None = None
    shapes = []
    for result in results:
        if (result.image_rotation or 0) % 360:
            msg = (
                f"{where}: '{image}' was turned by {result.image_rotation:g} degrees while it was labelled, which is "
                "not read. Change the file itself, and label it so."
            )
            raise InputError(msg)
        if result.original_width and result.original_height:
            size_hw = result.original_height, result.original_width
        elif size_hw is None:
            size_hw = files.size_hw(image)
        try:
            shape = _shape(files, where, result, named.get(result.id or "", []), size_hw)
        except InputError as error:
            files.refuse(name, error)
            continue
        if shape is not None:
            shapes.append(shape)
    return size_hw, shapes


def _shape(
    files: SetFiles, where: str, result: _Result, named: Sequence[str], size_hw: tuple[int, int]
) -> Shape | None:
    """One shape; None where it has no area."""
    value, (height, width) = result.value, size_hw
    if value.sequence:
        files.note("regions of videos were left out")
        return None
    if value.keypointlabels or (result.type or "") in FLAT:
        files.note(FLAT_NOTE)
        return None
    if value.x is None and not value.points and not value.rle:
        return None  # the label of a region, which stands beside its shape
    names = value.names or named
    if not names:
        files.note("regions have no label and were left out")
        return None
    if len(names) > 1:
        files.note("regions have several labels, of which the first was taken")
    if value.rle:
        alpha = brush_alpha(value.rle, height * width, where)
        part = mask_part(alpha.reshape(height, width) > 0, 0, 0)
        return None if part is None else Shape(names[0], "mask", masks=(part,))
    if value.points:
        if len(value.points) < 3:
            files.note(SMALL_NOTE)
            return None
        ring = np.array(ring_of(value.points, where)).reshape(-1, 2) * (width / 100, height / 100)
        return Shape(names[0], "polygon", (tuple(map(rounded, ring.ravel().tolist())),))
    x, y = _pixels(where, value.x, width), _pixels(where, value.y, height)
    turn = value.rotation or 0.0
    if value.radius_x is not None or value.radius_y is not None:
        radii = _pixels(where, value.radius_x, width), _pixels(where, value.radius_y, height)
        return ellipse(names[0], (x, y), radii, turn)
    x1, y1 = x + _pixels(where, value.width, width), y + _pixels(where, value.height, height)
    corners = rounded(x), rounded(y), rounded(x1), rounded(y1)
    return turned_box(names[0], corners, turn, (x, y))  # about its own first corner


def _pixels(where: str, percent: float | None, side: int) -> float:
    if percent is None or not abs(percent) < 1e6:
        msg = f"{where}: a region has {percent} where percent of the image belong. Correct or remove it."
        raise InputError(msg)
    return percent * side / 100
