"""What a set of boxes shows of itself, for a recipe."""

from __future__ import annotations

import numpy as np

from detection.checking.given import BoxData
from detection.data.boxes import BoxSource
from engine.errors import InputError
from engine.recipes.facts import SetFacts, median_size


def set_facts(data: object) -> SetFacts:
    """The facts of a data module's training set.

    Raises:
        InputError: it has none, or none of its images can be read.
    """
    if not isinstance(data, BoxData):
        msg = "these data have no boxes that a recipe could look at. Leave --recipe out."
        raise InputError(msg)
    return facts_of(data.box_source("train"))


def facts_of(source: BoxSource) -> SetFacts:
    """The facts of images with boxes; crowds and boxes without area are left out."""
    sizes = source.sizes_hw
    stated = sizes[(sizes > 0).all(axis=1)]
    if len(stated):
        height, width = np.median(stated, axis=0)
        size_hw = round(float(height)), round(float(width))
    else:
        size_hw = median_size(len(source.image_ids), source.image_path)
    rows = np.repeat(np.arange(len(source.image_ids)), np.diff(source.box_ends))
    own = np.where((sizes[rows] > 0).all(axis=1), sizes[rows].max(axis=1, initial=1), max(size_hw))
    areas = source.boxes_xywh[:, 2] * source.boxes_xywh[:, 3]
    usable = (areas > 0) & ~source.crowd
    counts = np.bincount(source.class_ids[usable], minlength=len(source.classes))
    return SetFacts(
        images=len(source.image_ids),
        size_hw=size_hw,
        class_names=tuple(name for name in source.classes.names if name),
        box_sides=np.sqrt(areas[usable]) / own[usable],
        fewest=int(counts.min()),
    )
