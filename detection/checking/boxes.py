"""What is wrong with the boxes of a split; by its annotations alone, or with what its images tell."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from detection.data.boxes import BoxSource, Floats, Ints
from engine.checking.findings import Finding, Severity
from engine.checking.image_files import ImageFacts

TINY = 4.0  # canvas pixels; a smaller side is below half a cell of the finest level
HUGE = 0.95  # share of the image
SLIM = 50.0  # the longer side is so many times the shorter
CROWDED = 100  # objects of an image that COCO's scores count at most
REPEATED = 5  # images with the very same boxes
BACKGROUND = 0.5  # share of images without a box
_SLACK = 1.0  # pixels over the edge that rounding explains
_SAME_BOX, _OTHER_CLASS = 0.95, 0.9  # IoU of two boxes of one object, with one class and with two
_MOST_PAIRED = 300  # boxes of an image whose pairs are compared
_LARGER = 1.05  # a mask's area is within its box, but for rounding
_PATTERN = 0.9  # share of a split's boxes that shows how its numbers are meant


def box_findings(
    split: str, source: BoxSource, names: Sequence[str], sizes_hw: NDArray[np.integer], canvas_hw: tuple[int, int]
) -> Iterator[Finding]:
    """The faults of boxes.

    Args:
        split: the split's name.
        source: its images and boxes.
        names: files of its images.
        sizes_hw: (I, 2) height and width of the images; 0 where not known.
        canvas_hw: height and width of the canvas in training, in pixels.
    """
    counts = np.diff(source.box_ends)
    owners = np.repeat(np.arange(len(names)), counts)
    for place in np.flatnonzero(counts == 0).tolist():
        yield Finding("image.without_boxes", "note", names[place], "has no box")
    for place in np.flatnonzero(counts > CROWDED).tolist():
        detail = f"has {counts[place]:,} boxes; COCO's scores count {CROWDED} detections of an image"
        yield Finding("image.crowded", "note", names[place], detail)
    if len(names) and (counts == 0).mean() > BACKGROUND:
        detail = f"{(counts == 0).sum():,} of its {len(names):,} images have no box"
        yield Finding("split.background", "warning", split, detail)
    pattern = _pattern(split, source.boxes_xywh, sizes_hw[owners])
    if pattern is not None:
        yield pattern  # all else would be said of numbers that mean something else
        return
    faults = box_faults(source.boxes_xywh, sizes_hw[owners], canvas_hw)
    for row in np.flatnonzero(faults >= 0).tolist():
        name, severity = FAULTS[faults[row]]
        yield _of_box(name, severity, source, row, names[owners[row]])
    twice = repeated_rows(source)
    for row in twice.tolist():
        yield _of_box("box.duplicate", "warning", source, row, names[owners[row]], "twice: ")
    sound = (faults < 0) | (faults >= SOUND)
    sound[twice] = False
    yield from _pairs(source, names, owners, sound & ~source.crowd)
    yield from _areas(source, names, owners, sound)
    yield from _repeated(source, names)


# In the order in which they are looked for; a box has one of them at most. The first three are of no use.
FAULTS: tuple[tuple[str, Severity], ...] = (
    ("box.nan", "error"),
    ("box.no_area", "error"),
    ("box.outside", "error"),
    ("box.over_edge", "warning"),
    ("box.slim", "warning"),
    ("box.tiny", "warning"),
    ("box.huge", "note"),
)
SOUND = 3  # the first fault of a box that still is one


def box_faults(boxes_xywh: Floats, sizes_hw: NDArray[np.integer], canvas_hw: tuple[int, int]) -> Ints:
    """(N,) the fault of each box, a row of `FAULTS`, or -1; an image of unknown size has zeros."""
    left, top, width, height = boxes_xywh.T
    high, wide = sizes_hw.T
    known = (sizes_hw > 0).all(1)
    right, bottom = left + width, top + height
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        scales = np.minimum(canvas_hw[0] / high, canvas_hw[1] / wide)
        shorter, longer = np.minimum(width, height), np.maximum(width, height)
        conditions = (
            ~np.isfinite(boxes_xywh).all(1),
            (width <= 0) | (height <= 0),
            known & ((left >= wide) | (top >= high) | (right <= 0) | (bottom <= 0)),
            known & ((np.minimum(left, top) < -_SLACK) | (right > wide + _SLACK) | (bottom > high + _SLACK)),
            longer > SLIM * shorter,
            known & (shorter * scales < TINY),
            known & (width * height > HUGE * wide * high),
        )
    return np.select(conditions, np.arange(len(conditions)), -1)


def _pattern(split: str, boxes_xywh: Floats, sizes_hw: NDArray[np.integer]) -> Finding | None:
    """A finding if the numbers of a split are fractions, or corners in place of sizes."""
    sound = np.isfinite(boxes_xywh).all(1) & (sizes_hw > 0).all(1) & (boxes_xywh[:, 2:] > 0).all(1)
    boxes, sizes = boxes_xywh[sound], sizes_hw[sound]
    if not len(boxes):
        return None
    if (boxes.max(1) <= 1).mean() > _PATTERN:
        return Finding("boxes.fractions", "error", split, "its boxes are fractions of the images, and not pixels")
    x, y, width, height = boxes.T
    over = (x + width > sizes[:, 1] + _SLACK) | (y + height > sizes[:, 0] + _SLACK)
    within = (width <= sizes[:, 1] + _SLACK) & (height <= sizes[:, 0] + _SLACK)
    growing = (width > x) & (height > y) & within
    if (over & growing).mean() > 1 - _PATTERN and growing.mean() > _PATTERN and (over & growing).sum() > over.sum() / 2:
        return Finding("boxes.corners", "error", split, "its boxes are left, top, right, bottom in place of widths")
    return None


def repeated_rows(source: BoxSource) -> Ints:
    """Rows of boxes that stand earlier in their image, with the same class; crowds may."""
    rows = np.flatnonzero(~source.crowd)
    owners = np.repeat(np.arange(len(source.image_ids)), np.diff(source.box_ends))
    keys = [*source.boxes_xywh[rows].T, source.class_ids[rows], owners[rows]]
    order = np.lexsort(keys)  # stable, so that of equal boxes the first stays first
    same = np.ones(max(0, len(rows) - 1), np.bool_)
    for key in keys:
        same &= key[order][1:] == key[order][:-1]
    return np.sort(rows[order[1:][same]])


def _pairs(source: BoxSource, names: Sequence[str], owners: Ints, usable: NDArray[np.bool_]) -> Iterator[Finding]:
    """Two boxes on one object: nearly the same with one class, or the same with two classes."""
    counts = np.diff(source.box_ends)
    left, top, width, height = source.boxes_xywh.T
    rows = np.flatnonzero(usable & (counts[owners] <= _MOST_PAIRED))
    told: set[int] = set()
    for distance in range(1, int(counts.clip(max=_MOST_PAIRED).max(initial=0))):
        rows = rows[rows + distance < len(owners)]
        rows = rows[owners[rows] == owners[rows + distance]]
        if not len(rows):
            return
        others = rows + distance
        wide = np.minimum(left[rows] + width[rows], left[others] + width[others]) - np.maximum(left[rows], left[others])
        high = np.minimum(top[rows] + height[rows], top[others] + height[others]) - np.maximum(top[rows], top[others])
        shared = np.maximum(wide, 0) * np.maximum(high, 0)
        iou = shared / (width[rows] * height[rows] + width[others] * height[others] - shared)
        same = source.class_ids[rows] == source.class_ids[others]
        for pick in np.flatnonzero(usable[others] & (iou > np.where(same, _SAME_BOX, _OTHER_CLASS))).tolist():
            row, other = int(others[pick]), int(rows[pick])
            if row in told:
                continue
            told.add(row)
            kinds = source.classes.names
            name, detail = "box.near_duplicate", "nearly twice: "
            if not same[pick]:
                both = f"'{kinds[source.class_ids[other]]}' and '{kinds[source.class_ids[row]]}'"
                name, detail = "box.two_classes", f"is {both}: "
            yield _of_box(name, "warning", source, row, names[owners[row]], detail)


def _areas(source: BoxSource, names: Sequence[str], owners: Ints, usable: NDArray[np.bool_]) -> Iterator[Finding]:
    """Boxes whose annotated area, which makes them small, medium or large, cannot be that of what they hold."""
    of_boxes = source.boxes_xywh[:, 2] * source.boxes_xywh[:, 3]
    wrong = usable & ((source.areas > _LARGER * of_boxes + 1) | (source.areas <= 0))
    for row in np.flatnonzero(wrong).tolist():
        detail = f"has the area {source.areas[row]:g}: "
        yield _of_box("box.area", "warning", source, row, names[owners[row]], detail)


def _repeated(source: BoxSource, names: Sequence[str]) -> Iterator[Finding]:
    """Images that have the very boxes of several others, as where one label file was copied."""
    alike: dict[bytes, list[int]] = defaultdict(list)
    ends = source.box_ends.tolist()
    for place, (start, end) in enumerate(pairwise(ends)):
        if end > start:
            boxes, class_ids = source.boxes_xywh[start:end], source.class_ids[start:end]
            alike[hashlib.blake2b(boxes.tobytes() + class_ids.tobytes(), digest_size=16).digest()].append(place)
    for places in alike.values():
        if len(places) >= REPEATED:
            for place in places[1:]:
                detail = f"has the very boxes of {len(places) - 1:,} other images"
                yield Finding("label.repeated", "warning", names[place], detail, twin=names[places[0]])


def _of_box(name: str, severity: Severity, source: BoxSource, row: int, file: str, before: str = "") -> Finding:
    left, top, width, height = source.boxes_xywh[row].tolist()
    numbers = ", ".join(f"{value:g}" for value in (left, top, width, height))
    detail = f"{before}x, y, width, height {numbers}"
    return Finding(name, severity, file, detail, (left, top, left + width, top + height))


def frames_hw(source: BoxSource, facts: Sequence[ImageFacts]) -> NDArray[np.int64]:
    """(I, 2) height and width of the frame that the boxes of each image are read in; 0 where it is not known.

    Boxes that were drawn on the stored pixels of a picture that EXIF data turn are read there.
    """
    sizes_hw = np.array(source.sizes_hw, np.int64).reshape(-1, 2)
    for place, fact in enumerate(facts):
        if fact.size_hw is not None and tuple(sizes_hw[place].tolist()) != fact.stored_hw:
            sizes_hw[place] = fact.size_hw
    return sizes_hw


def size_findings(source: BoxSource, names: Sequence[str], facts: Sequence[ImageFacts]) -> Iterator[Finding]:
    """Images of another size than annotated, upright or stored."""
    for place, fact in enumerate(facts):
        stated = int(source.sizes_hw[place, 0]), int(source.sizes_hw[place, 1])
        if fact.size_hw is not None and all(stated) and stated not in (fact.size_hw, fact.stored_hw):
            detail = f"is {fact.size_hw[1]} x {fact.size_hw[0]}, annotated as {stated[1]} x {stated[0]}"
            yield Finding("image.size", "error", names[place], detail)


def conflicts(
    sources: Sequence[tuple[BoxSource, int]], names: Sequence[str], pairs: Sequence[tuple[int, int]]
) -> Iterator[Finding]:
    """Copies of one picture that have other boxes.

    Args:
        sources: the source of each image, and its place there.
        names: the file of each image.
        pairs: two images of the same bytes.
    """
    for place, other in pairs:
        if _content(*sources[place]) != _content(*sources[other]):
            detail = f"has other boxes than its copy {names[other]}"
            yield Finding("label.conflict", "warning", names[place], detail, twin=names[other])


def _content(source: BoxSource, place: int) -> list[tuple[str, tuple[float, ...]]]:
    start, end = source.box_ends[place : place + 2].tolist()
    kinds = [source.classes.names[row] for row in source.class_ids[start:end].tolist()]
    return sorted(zip(kinds, map(tuple, source.boxes_xywh[start:end].tolist()), strict=True))
