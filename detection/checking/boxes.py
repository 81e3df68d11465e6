"""What is wrong with the boxes of a split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from detection.data.boxes import BoxSource
from engine.checking.findings import Finding, Severity
from engine.checking.image_files import ImageFacts

TINY = 4.0  # canvas pixels; a smaller side is below half a cell of the finest level
HUGE = 0.95  # share of the image
RARE = 100.0  # the most frequent class has so many times the objects of a rare one
_SLACK = 1.0  # pixels over the edge that rounding explains


def box_findings(source: BoxSource, facts: Sequence[ImageFacts], canvas: int) -> Iterator[Finding]:
    """The faults of boxes, and images without boxes or of another size than annotated.

    Args:
        source: the split.
        facts: facts of its images, in their order.
        canvas: longer side of an image in training, in pixels.
    """
    for place, fact in enumerate(facts):
        start, end = source.box_ends[place], source.box_ends[place + 1]
        name = str(source.image_path(place))
        if start == end:
            yield Finding("image.without_boxes", "note", name, "has no box")
        stated = int(source.sizes_hw[place][0]), int(source.sizes_hw[place][1])
        if fact.size_hw and all(stated) and stated != fact.size_hw:
            detail = f"is {fact.size_hw[1]} x {fact.size_hw[0]}, annotated as {stated[1]} x {stated[0]}"
            yield Finding("image.size", "error", name, detail)
        size_hw = fact.size_hw or (stated if all(stated) else None)
        seen: set[tuple[float, ...]] = set()
        for row in range(start, end):
            box = tuple(float(value) for value in source.boxes_xywh[row])
            key = (*box, float(source.class_ids[row]))
            fault = _fault(box, size_hw, canvas)
            if fault:
                yield Finding(fault[0], fault[1], name, f"x, y, width, height {', '.join(f'{v:g}' for v in box)}")
            if key in seen and not source.crowd[row]:
                yield Finding("box.duplicate", "warning", name, f"twice: {', '.join(f'{v:g}' for v in box)}")
            seen.add(key)


def _fault(box: tuple[float, ...], size_hw: tuple[int, int] | None, canvas: int) -> tuple[str, Severity] | None:
    left, top, width, height = box
    if not np.isfinite(box).all():
        return "box.nan", "error"
    if width <= 0 or height <= 0:
        return "box.no_area", "error"
    if size_hw is None:
        return None
    high, wide = size_hw
    if left >= wide or top >= high or left + width <= 0 or top + height <= 0:
        return "box.outside", "error"
    if min(left, top) < -_SLACK or left + width > wide + _SLACK or top + height > high + _SLACK:
        return "box.over_edge", "warning"
    if min(width, height) * canvas / max(size_hw) < TINY:
        return "box.tiny", "warning"
    if width * height > HUGE * wide * high:
        return "box.huge", "note"
    return None


def class_findings(splits: Mapping[str, BoxSource]) -> Iterator[Finding]:
    """Classes that differ between splits, that have no object, or that are rare."""
    first = next(iter(splits))
    names, category_ids = splits[first].classes.names, splits[first].classes.category_ids
    for split, source in splits.items():
        if (source.classes.names, source.classes.category_ids) != (names, category_ids):
            yield Finding("class.differs", "error", split, f"its class list is not that of {first}")
        counts = np.bincount(source.class_ids[~source.crowd], minlength=len(source.classes.names))
        for name, count in zip(source.classes.names, counts, strict=True):
            if count == 0:
                yield Finding("class.unused", "warning", split, f"'{name}' has no object")
            elif counts.max() >= RARE * count:
                yield Finding("class.rare", "warning", split, f"'{name}' has {count:,} objects of {counts.sum():,}")
