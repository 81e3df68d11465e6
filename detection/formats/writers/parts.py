"""What a writer needs of a set: its splits, the names that its images get, and the classes in use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from detection.data.boxes import BoxTable
from engine.annotations.splits import ALL
from engine.reading.images import image_size


class Placed(NamedTuple):
    """An image of a split.

    Attributes:
        name: of its file, in lower case no other of the set has the same without its suffix.
        path: where it lies.
        size_hw: height and width of the upright image.
        corners_xyxy: (N, 4) edges in pixels of the original image, as annotated.
        rows: (N,) rows of the class list that is written.
        crowd: (N,) whether a box stands for any number of objects.
        areas: (N,) square pixels.
        image_id: its id in the set that was read.
    """

    name: str
    path: Path
    size_hw: tuple[int, int]
    corners_xyxy: np.ndarray
    rows: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    image_id: int


@dataclass(frozen=True, eq=False)
class SetToWrite:
    """A set with the names that its images get.

    Attributes:
        splits: the images of each split.
        names: for each split, the file name of each image.
        classes: the names of the classes, without unused rows.
        category_ids: their ids.
        sized: whether the tables state the sizes of the upright images, so that no image need be opened.
    """

    splits: Mapping[str, BoxTable]
    names: Mapping[str, Sequence[str]]
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    sized: bool = False

    @classmethod
    def of(cls, splits: Mapping[str, BoxTable], root: Path, *, sized: bool = False) -> SetToWrite:
        """Name the images of a set; all splits have the classes of the first."""
        classes = next(iter(splits.values())).classes
        used = [row for row, name in enumerate(classes.names) if name]
        return cls(
            splits,
            unique_names(
                {split: [table.image_path(i) for i in range(len(table))] for split, table in splits.items()}, root
            ),
            tuple(classes.names[row] for row in used),
            tuple(classes.category_ids[row] for row in used),
            sized,
        )

    def images(self, split: str) -> Iterator[Placed]:
        """The images of a split one by one, with their sizes, which are those of the files."""
        table = self.splits[split]
        new_rows = np.cumsum([bool(name) for name in table.classes.names]) - 1
        for index, name in enumerate(self.names[split]):
            part = slice(int(table.box_ends[index]), int(table.box_ends[index + 1]))
            boxes = table.boxes_xywh[part]
            path = table.image_path(index)
            stated = table.size_hw(index) if self.sized else None
            yield Placed(
                name, path, stated or image_size(path), np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1),
                new_rows[table.class_ids[part]], table.crowd[part], table.areas[part], int(table.image_ids[index]),
            )  # fmt: skip


def unique_names(paths: Mapping[str, Sequence[Path]], root: Path) -> dict[str, list[str]]:
    """File names that differ without their suffixes; where several are alike, folders go before the name.

    >>> unique_names({"all": [Path("set/a/1.jpg"), Path("set/b/1.jpg"), Path("set/2.jpg")]}, Path("set"))
    {'all': ['a_1.jpg', 'b_1.jpg', '2.jpg']}
    """
    alike = Counter(path.stem.casefold() for split in paths.values() for path in split)
    taken: set[str] = set()
    found: dict[str, list[str]] = {}
    for split, images in paths.items():
        found[split] = []
        for path in images:
            inner = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
            name = path.name if alike[path.stem.casefold()] == 1 else "_".join(inner.parts)
            stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
            count = 1
            while PurePosixPath(name).stem.casefold() in taken:
                count += 1
                name = f"{stem}_{count}{suffix}"
            taken.add(PurePosixPath(name).stem.casefold())
            found[split].append(name)
    return found


def folder_in(base: str, split: str) -> str:
    """The folder of a split's files below `base`, which has no folders in a set without splits."""
    return base if split == ALL else f"{base}/{split}"
