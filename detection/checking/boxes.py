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
    names = [str(source.image_path(place)) for place in range(len(facts))]
    counts = np.diff(source.box_ends)
    sizes_hw = np.array(source.sizes_hw, np.int64).reshape(-1, 2)
    for place, fact in enumerate(facts):
        if not counts[place]:
            yield Finding("image.without_boxes", "note", names[place], "has no box")
        if fact.size_hw is not None:
            stated = int(sizes_hw[place, 0]), int(sizes_hw[place, 1])
            if all(stated) and stated != fact.size_hw:
                detail = f"is {fact.size_hw[1]} x {fact.size_hw[0]}, annotated as {stated[1]} x {stated[0]}"
                yield Finding("image.size", "error", names[place], detail)
            sizes_hw[place] = fact.size_hw
    owners = np.repeat(np.arange(len(facts)), counts)
    faults = _faults(source.boxes_xywh, sizes_hw[owners], canvas)
    for row in np.flatnonzero(faults >= 0).tolist():
        name, severity = _FAULTS[faults[row]]
        yield Finding(name, severity, names[owners[row]], _numbers(source, row))
    for row in _twice(source, owners).tolist():
        yield Finding("box.duplicate", "warning", names[owners[row]], f"twice: {_numbers(source, row)}")


# In the order in which they are looked for; a box has one of them at most.
_FAULTS: tuple[tuple[str, Severity], ...] = (
    ("box.nan", "error"),
    ("box.no_area", "error"),
    ("box.outside", "error"),
    ("box.over_edge", "warning"),
    ("box.tiny", "warning"),
    ("box.huge", "note"),
)


def _faults(boxes_xywh: np.ndarray, sizes_hw: np.ndarray, canvas: int) -> np.ndarray:
    """(N,) the fault of each box, a row of `_FAULTS`, or -1; an image of unknown size has zeros."""
    left, top, width, height = boxes_xywh.T
    high, wide = sizes_hw.T
    known = (sizes_hw > 0).all(1)
    right, bottom = left + width, top + height
    with np.errstate(invalid="ignore", divide="ignore"):
        conditions = (
            ~np.isfinite(boxes_xywh).all(1),
            (width <= 0) | (height <= 0),
            known & ((left >= wide) | (top >= high) | (right <= 0) | (bottom <= 0)),
            known & ((np.minimum(left, top) < -_SLACK) | (right > wide + _SLACK) | (bottom > high + _SLACK)),
            known & (np.minimum(width, height) * canvas / np.maximum(high, wide) < TINY),
            known & (width * height > HUGE * wide * high),
        )
    return np.select(conditions, np.arange(len(conditions)), -1)


def _twice(source: BoxSource, owners: np.ndarray) -> np.ndarray:
    """Rows of boxes that stand earlier in their image, with the same class; crowds may."""
    rows = np.flatnonzero(~source.crowd)
    keys = np.column_stack([owners[rows], source.class_ids[rows], source.boxes_xywh[rows]])
    firsts = np.unique(keys, axis=0, return_index=True)[1]
    return np.delete(rows, firsts)


def _numbers(source: BoxSource, row: int) -> str:
    return f"x, y, width, height {', '.join(f'{value:g}' for value in source.boxes_xywh[row])}"


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
