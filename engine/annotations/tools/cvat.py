"""CVAT: one XML for a whole task, with images (`<image>`) or with the tracks of a video (`<track>`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element

import numpy as np

from engine.annotations.files import SetFiles, folder_of, number
from engine.annotations.shapes import (
    Corners,
    Shape,
    ShapeImage,
    ShapeSet,
    box,
    ellipse,
    extent_xyxy,
    mask_part,
    ring_of,
    turned_box,
)
from engine.annotations.splits import ALL, folder_split, split_of
from engine.annotations.tools.words import FLAT, FLAT_NOTE, SMALL_NOTE
from engine.annotations.xml_text import parse_xml, text_of
from engine.errors import InputError
from engine.reading.images import check_pixels

NAME = "CVAT"
_HELD_NOTE = "frames between key frames have the polygon or mask of the key frame before"
_FRAME = re.compile(r"(?:frame[_-]?)?(\d+)$", re.IGNORECASE)


def claims(files: SetFiles) -> list[str]:
    """The XML files whose first tag is `annotations`."""
    return [
        name
        for name in files.ending(".xml")
        if re.search(r"<\s*annotations\s*>", head := files.text(name, 4096)) and re.search(r"<\s*(version|meta)", head)
    ]


def read(files: SetFiles, labels: Sequence[str]) -> ShapeSet:
    """The images of all tasks; a shape with a higher `z_order` lies above others.

    Raises:
        InputError: a file is not CVAT's, a shape is of an unknown type, or the frames of a video are not there.
    """
    roots = []
    for name in labels:
        try:
            roots.append((name, parse_xml(files.raw(name), str(files.path(name)))))
        except InputError as error:
            files.refuse(name, error)
    names = dict.fromkeys(
        text_of(label, "name")
        for _, root in roots
        for label in root.iterfind(".//labels/label")
        if label.find("parent") is None and text_of(label, "type") not in FLAT
    )
    return ShapeSet(tuple(name for name in names if name), _images(files, roots))


def _images(files: SetFiles, roots: Sequence[tuple[str, Element]]) -> Iterator[ShapeImage]:
    for name, root in roots:
        split = folder_split(name)
        split = (split_of(name) or ALL) if split == ALL else split
        for entry in root.iterfind("image"):
            try:
                found = _image(files, name, entry, split)
            except InputError as error:
                files.refuse(name, error)
                continue
            yield found
        if root.find("track") is not None:
            yield from _frames(files, name, root, split)


def _image(files: SetFiles, name: str, entry: Element, split: str) -> ShapeImage:
    given = entry.get("name", "")
    subset = split_of(entry.get("subset", "")) or split_of(given.rpartition("/")[0])
    own = subset or split
    image = files.image_or_missing(given, folder_of(name), lambda found: folder_split(found) == own)
    where = f"'{files.path(name)}', image '{given}'"
    height, width = (int(number(entry.get(side, "0"), f"{where}, {side}")) for side in ("height", "width"))
    shapes = []
    for child in entry:
        try:
            shape = _shape(files, f"{where}, <{child.tag}>", child, child.get("label", ""))
            if shape is not None:
                shapes.append((number(child.get("z_order", "0"), f"{where}, z_order"), shape))
        except InputError as error:
            files.refuse(name, error)
    return ShapeImage(
        name,
        image,
        own if own != ALL else folder_split(image),
        (height, width) if height > 0 and width > 0 else None,
        tuple(shape for _, shape in sorted(shapes, key=lambda pair: pair[0])),
    )


def _frames(files: SetFiles, name: str, root: Element, split: str) -> Iterator[ShapeImage]:
    """The frames of a video with what its tracks show in them; those without a track are images without objects."""
    try:
        images = _frame_images(files, name, root)
    except InputError as error:
        files.refuse(name, error)
        return
    numbers = np.array(sorted(images))
    found: dict[int, list[tuple[float, Shape]]] = {frame: [] for frame in images}
    for track in root.iterfind("track"):
        where = f"'{files.path(name)}', track {track.get('id', '')}"
        try:
            seen = list(_seen(files, where, track, numbers))
        except InputError as error:
            files.refuse(name, error)
            continue
        for frame, order, shape in seen:
            if frame in found:
                found[frame].append((order, shape))
            else:
                files.note("shapes of tracks lie in frames that are not there and were left out")
    for frame in numbers.tolist():
        shapes = tuple(shape for _, shape in sorted(found[frame], key=lambda pair: pair[0]))
        own = folder_split(images[frame]) if split == ALL else split
        yield ShapeImage(name, images[frame], own, None, shapes)


def _seen(files: SetFiles, where: str, track: Element, numbers: np.ndarray) -> Iterator[tuple[int, float, Shape]]:
    """The shapes of a track by frame, with those between two key frames; `outside` ends it until it is seen again."""
    keys = sorted(
        ((int(number(child.get("frame", ""), f"{where}, frame")), child) for child in track if child.get("frame")),
        key=lambda pair: pair[0],
    )
    label = track.get("label", "")
    known = [(frame, child, _shape(files, f"{where}, frame {frame}", child, label)) for frame, child in keys]
    for place, (frame, child, shape) in enumerate(known):
        if shape is None or child.get("outside", "0") in ("1", "True", "true"):
            continue
        order = number(child.get("z_order", "0"), f"{where}, z_order")
        yield frame, order, shape
        if place + 1 == len(known):
            continue
        following, _, other = known[place + 1]
        gap = numbers[(numbers > frame) & (numbers < following)].tolist()
        ended = known[place + 1][1].get("outside", "0") in ("1", "True", "true")
        for between in gap:
            share = 0.0 if ended else (between - frame) / (following - frame)
            yield between, order, _between(files, shape, other, share)


def _between(files: SetFiles, first: Shape, second: Shape | None, share: float) -> Shape:
    """A box on its straight way from one place to another."""
    if not share or second is None:
        return first
    if first.kind != "box" or second.kind != "box":
        files.note(_HELD_NOTE)
        return first
    pairs = zip(extent_xyxy(first), extent_xyxy(second), strict=True)
    left, top, right, bottom = (start + (end - start) * share for start, end in pairs)
    return box(first.label, (left, top, right, bottom))


def _frame_images(files: SetFiles, name: str, root: Element) -> Mapping[int, str]:
    """The image of each frame: by the number in its name, or by its place where all images are frames.

    Raises:
        InputError: the frames are not there as images.
    """
    below = f"{folder_of(name)}/" if folder_of(name) else ""
    images = [image for image in files.images if image.startswith(below)]
    numbered = {
        int(match[1]): image
        for image in images
        if (match := _FRAME.search(image.rpartition("/")[2].rpartition(".")[0])) is not None and len(match[1]) < 10
    }
    if images and len(numbered) == len(images):
        return numbered
    size = text_of(root, "meta/task/size") or text_of(root, "meta/job/size")
    if size.isdigit() and int(size) == len(images) > 0:
        return dict(enumerate(images))
    msg = (
        f"'{files.path(name)}' has the tracks of a video of {size or 'unknown'} frames, and beside it lie "
        f"{len(images)} images that are not numbered. Export it with its images, as 'frame_000000.png' and so on."
    )
    raise InputError(msg)


def _shape(files: SetFiles, where: str, entry: Element, label: str) -> Shape | None:
    """One shape; None where it has no area."""
    kind = entry.tag
    if kind in FLAT:
        files.note(FLAT_NOTE)
        return None
    if kind == "tag" or kind == "attribute":
        return None
    if kind == "box":
        corners = _numbers(entry, where, "xtl", "ytl", "xbr", "ybr")
        x0, y0, x1, y1 = corners
        return turned_box(label, (x0, y0, x1, y1), _turn(entry, where), ((x0 + x1) / 2, (y0 + y1) / 2))
    if kind == "ellipse":
        x, y, across, along = _numbers(entry, where, "cx", "cy", "rx", "ry")
        return ellipse(label, (x, y), (abs(across), abs(along)), _turn(entry, where))
    if kind == "polygon":
        points = [[number(value, where) for value in pair.split(",")] for pair in _pairs(entry)]
        if len(points) >= 3:
            return Shape(label, "polygon", (ring_of(points, where),))
        files.note(SMALL_NOTE)
        return None
    if kind == "cuboid":
        files.note("cuboids were taken as the boxes around their corners")
        corners_of = [value for key, value in entry.attrib.items() if re.fullmatch(r"[xy](tl|tr|bl|br)[12]", key)]
        given = [key for key in entry.attrib if re.fullmatch(r"[xy](tl|tr|bl|br)[12]", key)]
        xs = [number(value, where) for key, value in zip(given, corners_of, strict=True) if key[0] == "x"]
        ys = [number(value, where) for key, value in zip(given, corners_of, strict=True) if key[0] == "y"]
        if xs and ys:
            return box(label, (min(xs), min(ys), max(xs), max(ys)))
    if kind == "mask":
        return _mask(entry, where, label)
    msg = (
        f"{where}: a shape of this type is not known; allowed are box, polygon, mask, ellipse, cuboid, and points and "
        "lines. Remove it, or export the set as COCO."
    )
    raise InputError(msg)


def _mask(entry: Element, where: str, label: str) -> Shape | None:
    """Pixels of a rectangle, as run lengths row by row, the first of which is of pixels that are not the object's."""
    left, top, width, height = (int(value) for value in _numbers(entry, where, "left", "top", "width", "height"))
    runs = [word.strip() for word in entry.get("rle", "").split(",") if word.strip()]
    lengths = np.array([int(run) if run.isdigit() and len(run) < 10 else -1 for run in runs], np.int64)
    if not len(lengths) or lengths.min() < 0 or lengths.sum() != width * height:
        msg = f"{where} has run lengths that do not fill {width} x {height} pixels. Export the set again."
        raise InputError(msg)
    check_pixels(where.replace("'", ""), (height, width), "mask")
    pixels = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)
    part = mask_part(pixels, left, top)
    return None if part is None else Shape(label, "mask", masks=(part,))


def _pairs(entry: Element) -> list[str]:
    return [pair for pair in entry.get("points", "").split(";") if pair.strip()]


def _numbers(entry: Element, where: str, *keys: str) -> Corners:
    first, second, third, fourth = (number(entry.get(key, ""), f"{where}, {key}") for key in keys)
    return first, second, third, fourth


def _turn(entry: Element, where: str) -> float:
    return number(entry.get("rotation", "0"), f"{where}, rotation")
