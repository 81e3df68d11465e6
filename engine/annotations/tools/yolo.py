"""YOLO: one text for each image, in fractions of it, with `data.yaml` for names and splits; or without one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import yaml

from engine.annotations.files import SetFiles, class_list, folder_of, joined, lines_of, rounded, stem_of, suffix_of
from engine.annotations.shapes import Shape, ShapeImage, ShapeSet, box
from engine.annotations.splits import folder_split
from engine.errors import InputError
from engine.names import shown_names

NAME = "YOLO"
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "minival": "val", "test": "test"}
_NO_LABELS = ("classes.txt", "obj.names", "labels.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "notes.txt")
_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_NUMBERED = "class_"  # with the number behind it, the name of a class without one
_SLACK = 0.01  # of the image's side, by which exporters round a box over its edge

Texts = dict[str, object]


class _Row(NamedTuple):
    """A class by its number, and the corners of a box or the points of a polygon."""

    number: int
    pixels: tuple[float, ...]


def claims(files: SetFiles) -> list[str]:
    """The YAML with the names, if there is one; else texts of numbers beside images."""
    found = [name for name in files.ending(".yaml", ".yml") if _is_data_yaml(files, name)]
    if len(found) > 1:
        shallow = min(name.count("/") for name in found)
        found = [name for name in found if name.count("/") == shallow]
    if len(found) > 1:
        named = [name for name in found if stem_of(name) in ("data", "dataset")]
        found = named if len(named) == 1 else found
    if len(found) > 1:
        msg = f"'{files.root}' has {len(found)} data.yaml: {shown_names(found)}. Give one of these as --data.root."
        raise InputError(msg)
    if found or files.only:
        return found
    labels = [label for image in files.images[:200] if (label := _label_of(files, image)) is not None]
    return labels if any(_is_label(files, label) for label in labels[:20]) else []


def read(files: SetFiles, labels: Sequence[str], classes: Sequence[str] = ()) -> ShapeSet:
    """The images of each split with their boxes and polygons; key points are left out.

    Args:
        files: the set.
        labels: what `claims` has found.
        classes: names of the numbers, in place of those of the set.

    Raises:
        InputError: the YAML names no classes or no images, or a row is not of this format.
    """
    yaml_name = labels[0] if suffix_of(labels[0]) in (".yaml", ".yml") else None
    content = {} if yaml_name is None else _content(files, yaml_name)
    named = _names_alone(files) if yaml_name is None else _names(files, yaml_name, content)
    names = list(classes) or named
    if yaml_name is None:
        chosen: dict[str, list[str]] = {}
        for image in files.images:
            chosen.setdefault(folder_split(image), []).append(image)
    else:
        chosen = _chosen(files, yaml_name, content)
    images = _images(files, chosen, names, _key_points(content))
    if names:
        return ShapeSet(tuple(names), images)
    every = list(images)
    numbers = [int(shape.label.removeprefix(_NUMBERED)) for image in every for shape in image.shapes]
    return ShapeSet(tuple(f"{_NUMBERED}{number}" for number in range(max(numbers, default=-1) + 1)), every)


def _images(
    files: SetFiles, chosen: Mapping[str, Sequence[str]], names: Sequence[str], points: int
) -> Iterator[ShapeImage]:
    for split, images in chosen.items():
        for image in images:
            try:
                size_hw = files.size_hw(image)
            except InputError:
                if files.broken is None:
                    raise
                yield ShapeImage(image, image, split, None, ())  # what reads the images says what is wrong with it
                continue
            label = _label_of(files, image)
            if label is None:
                files.note("images have no label file and are taken as images without objects")
                yield ShapeImage(image, image, split, size_hw, ())
                continue
            rows: dict[_Row, None] = {}
            for line, text in lines_of(files.text(label)):
                where = f"'{files.path(label)}', line {line}"
                try:
                    row = _row(where, text, size_hw, points, len(names))
                except InputError as error:
                    files.refuse(label, error)
                    continue
                if row in rows:
                    files.note("rows of labels stand twice in their file and were taken once")
                    continue
                rows[row] = None
            yield ShapeImage(label, image, split, size_hw, tuple(_shape(row, names) for row in rows))


def _shape(row: _Row, names: Sequence[str]) -> Shape:
    name = names[row.number] if names else f"{_NUMBERED}{row.number}"
    if len(row.pixels) == 4:
        x0, y0, x1, y1 = row.pixels
        return box(name, (x0, y0, x1, y1))
    return Shape(name, "polygon", (row.pixels,))


def _row(where: str, text: str, size_hw: tuple[int, int], points: int, classes: int) -> _Row:
    """The class and the corners in pixels of one row; of 0 classes any number is one."""
    words = text.split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if not values or not all(abs(value) < 1e6 for value in values) or values[0] != int(values[0]) or values[0] < 0:
        msg = f"{where}: '{text[:40]}' is no row of YOLO. Allowed is: class centre_x centre_y width height."
        raise InputError(msg)
    count = len(values) - 1
    if count == 4 or (points and count == 4 + points):
        values = values[:5]  # without key points, whose visibility is no fraction
        x, y, width, height = values[1:]
        edges = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    elif count >= 6 and count % 2 == 0:
        edges = values[1:]
    elif count == 5:
        msg = f"{where}: 6 numbers, as predictions with a score have. Give labels, which have 5, or remove the last."
        raise InputError(msg)
    else:
        msg = f"{where}: {count + 1} numbers; a box has 5 and a polygon an odd number from 7. Correct the row."
        raise InputError(msg)
    if min(values[1:]) < -_SLACK or max(values[1:]) > 1 + _SLACK:
        worst = max(values[1:], key=abs)
        msg = f"{where}: {worst:g} is no fraction of a side; allowed is 0 to 1. Divide pixels by it."
        raise InputError(msg)
    height, width = size_hw
    if classes and values[0] >= classes:
        msg = f"{where}: class {values[0]:g}, but there are {classes}, from 0. Correct 'names' or the row."
        raise InputError(msg)
    pixels = (rounded(edge * side) for edge, side in zip(edges, itertools.cycle((width, height)), strict=False))
    return _Row(int(values[0]), tuple(pixels))


def _label_of(files: SetFiles, image: str) -> str | None:
    """The text of an image: under `labels` in place of the last `images` of its path, or beside it."""
    base = image[: len(image) - len(suffix_of(image))]
    parts = base.split("/")
    places = [place for place, part in enumerate(parts[:-1]) if part.lower() == "images"]
    wanted = []
    if places:
        wanted.append("/".join([*parts[: places[-1]], "labels", *parts[places[-1] + 1 :]]))
    wanted += [base, joined(folder_of(base), f"labels/{parts[-1]}") or base, f"labels/{parts[-1]}"]
    return next((f"{name}.txt" for name in wanted if files.has(f"{name}.txt")), None)


def _is_label(files: SetFiles, name: str) -> bool:
    if name.rpartition("/")[2].lower() in _NO_LABELS:
        return False
    first = next(lines_of(files.text(name, 4096)), (0, ""))[1].split()
    try:
        values = [float(word) for word in first]
    except ValueError:
        return False
    return len(values) >= 5 and values[0] == int(values[0])


def _names_alone(files: SetFiles) -> list[str]:
    """The names of a set without a YAML that names its images: of a list, or of a YAML that holds names alone."""
    found = class_list(files)
    if found:
        return found
    for name in files.names:
        if name.rpartition("/")[2] in _YAML:
            content = _content(files, name)
            if content.get("names"):
                return _names(files, name, content)
    return []


def _is_data_yaml(files: SetFiles, name: str) -> bool:
    try:
        content = _content(files, name)
    except InputError:
        return name.rpartition("/")[2] in _YAML
    return bool({"names", "nc"} & set(content)) and bool(set(_SPLITS) & set(content))


def _content(files: SetFiles, name: str) -> Texts:
    """The YAML with every value as the text that stands there: `no` is a class, not false."""
    try:
        content: object = yaml.BaseLoader(files.text(name, 1 << 20)).get_single_data()
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        msg = f"'{files.path(name)}' is not valid YAML: {reason}. Correct it."
        raise InputError(msg) from error
    return {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}


def _names(files: SetFiles, name: str, content: Texts) -> list[str]:
    given, count = content.get("names"), str(content.get("nc", "")).strip()
    if isinstance(given, str) and given.strip():
        given = [part.strip() for part in given.split(",")]
    where = f"'{files.path(name)}'"
    if isinstance(given, dict):
        if sorted(str(key) for key in given) != sorted(str(place) for place in range(len(given))):
            msg = (
                f"{where}: the keys of 'names' are {shown_names([*map(str, given)])}. Number them from 0 without gaps."
            )
            raise InputError(msg)
        given = [given[str(place)] for place in range(len(given))]
    if not given and count.isdigit():
        return [f"class_{place}" for place in range(int(count))] if int(count) < 100_000 else []
    if not isinstance(given, list) or not all(isinstance(one, str) and one.strip() for one in given):
        msg = f"{where} has no 'names' of classes. Give a list of them, such as names: [cat, dog]."
        raise InputError(msg)
    if count and count != str(len(given)):
        msg = f"{where}: nc is {count}, but there are {len(given)} names. Correct one of them."
        raise InputError(msg)
    if len(set(given)) < len(given):
        twice = next(one for one in given if given.count(one) > 1)
        msg = f"{where} has the class '{twice}' twice. Give each class a name of its own."
        raise InputError(msg)
    return given


def _key_points(content: Texts) -> int:
    """How many numbers of key points stand behind a box."""
    shape = content.get("kpt_shape")
    if not isinstance(shape, list) or len(shape) != 2 or not all(str(side).isdigit() for side in shape):
        return 0
    return int(str(shape[0])) * int(str(shape[1]))


def _chosen(files: SetFiles, name: str, content: Texts) -> dict[str, list[str]]:
    """The images of each split that the YAML names."""
    chosen: dict[str, list[str]] = {}
    for key, split in _SPLITS.items():
        given = content.get(key)
        entries = [str(one) for one in given if one] if isinstance(given, list) else [str(given)] if given else []
        found = [image for entry in entries for image in _images_at(files, name, str(content.get("path") or ""), entry)]
        if found:
            chosen[split] = list(dict.fromkeys(chosen.get(split, []) + found))
        elif entries and split == "train":
            msg = (
                f"'{files.path(name)}' names the training images '{entries[0]}', which '{files.root}' lacks. "
                "Correct it, or bring the folder."
            )
            raise InputError(msg)
        elif entries:
            files.note(f"YOLO: '{entries[0]}' of {split} is not there, so the set has no {split}", 0)
    if not chosen:
        msg = f"'{files.path(name)}' names no folder of images. Give 'train' and 'val'."
        raise InputError(msg)
    return chosen


def _images_at(files: SetFiles, name: str, path: str, entry: str) -> list[str]:
    """The images of a folder or list, as the YAML names it from its author's machine."""
    for place in _places(folder_of(name), path.replace("\\", "/"), entry.replace("\\", "/")):
        if place.endswith(".txt") and files.has(place):
            lines = [line for _, line in lines_of(files.text(place))]
            return [files.image_or_missing(line, folder_of(place)) for line in lines]
        below = f"{place}/" if place else ""
        found = [image for image in files.images if image.startswith(below)]
        if found:
            return found
    return []


def _places(base: str, path: str, entry: str) -> list[str]:
    """Where an entry may lie in the set, the likeliest first; nothing outside of it."""
    inner = entry.removeprefix("./")
    tried = [joined(joined(base, path), inner)] if not path.startswith("/") and not inner.startswith("/") else []
    tried.append(joined(base, inner))
    while inner.startswith("../"):
        inner = inner[3:]
        tried.append(joined(base, inner))
    parts = [part for part in inner.split("/") if part not in ("", ".", "..")]
    if inner.startswith("/"):
        tried = [joined(base, "/".join(parts[start:])) for start in range(len(parts))]
    return [place for place in dict.fromkeys(tried) if place is not None]
