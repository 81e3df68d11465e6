"""Parts of a table of boxes: by the names of the images, or by places."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from detection.data.boxes import BoxTable, ends_of
from engine.annotations.splits import parts_by_name
from engine.data.contracts import SplitName


def with_splits(
    table: BoxTable, root: Path, shares: Sequence[float], group: str | None = None
) -> Mapping[SplitName, BoxTable]:
    """Parts of a table; where an image goes depends on its name alone, so that it stays there when others come.

    Args:
        table: the images.
        root: the folder that their names start from.
        shares: of train, val and test.
        group: as in `parts_by_name`.

    Raises:
        InputError: as `parts_by_name`.
    """
    paths = [table.image_path(place) for place in range(len(table))]
    parts = parts_by_name(paths, root, shares, group, table.source)
    return {split: part_of(table, places, f"{table.source} ({split})") for split, places in parts.items()}


def part_of(table: BoxTable, places: np.ndarray, source: str) -> BoxTable:
    """Some images of a table, with their boxes, in the order of `places`; ids of images stay."""
    names = [str(table.image_path(int(place))).encode() for place in places]
    starts, counts = table.box_ends[places], np.diff(table.box_ends)[places]
    boxes = np.concatenate([np.arange(s, s + c) for s, c in zip(starts, counts, strict=True)] or [np.zeros(0)])
    boxes = boxes.astype(np.int64)
    return dataclasses.replace(
        BoxTable(**{field.name: getattr(table, field.name) for field in dataclasses.fields(BoxTable)}),
        source=source,
        image_folder=Path(),
        image_ids=table.image_ids[places],
        sizes_hw=table.sizes_hw[places],
        name_bytes=np.frombuffer(bytearray().join(names), np.uint8),
        name_ends=ends_of(np.array([len(name) for name in names], np.int64)),
        box_ends=ends_of(counts),
        boxes_xywh=table.boxes_xywh[boxes],
        class_ids=table.class_ids[boxes],
        areas=table.areas[boxes],
        crowd=table.crowd[boxes],
    )
