"""The splits of a set: by the names of files and folders, or by a hash that stays when files are added."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from detection.data.boxes import BoxTable, ends_of
from detection.formats.collected import ALL
from engine.data.contracts import SPLITS, SplitName
from engine.errors import InputError
from engine.names import pairing_name

_WORDS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "minival": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_WORD = re.compile(rf"(?:^|[^a-z])({'|'.join(sorted(_WORDS, key=len, reverse=True))})(?=$|[^a-z])")


def split_of(name: str) -> SplitName | None:
    """The split that a name of a file speaks of, in its last part or else in a folder.

    >>> split_of("annotations/instances_val2017.json"), split_of("valid/_annotations.csv"), split_of("trainers/a.xml")
    ('val', 'val', None)
    """
    for part in reversed(name.lower().split("/")):
        if (found := _WORD.search(part)) is not None:
            return _WORDS[found[1]]
    return None


def folder_split(name: str) -> str:
    """The split that the folders of a name speak of, or that of sets without splits."""
    folder = name.rpartition("/")[0]
    return split_of(folder) or ALL if folder else ALL


def shares_of(text: str) -> tuple[float, float, float]:
    """The shares of train, val and test, from a text such as `0.8/0.1/0.1`.

    Raises:
        InputError: it is another text, or they do not make 1.
    """
    parts = [part.strip() for part in text.split("/")]
    try:
        shares = [float(part) for part in parts]
    except ValueError:
        shares = []
    if len(shares) == 2:
        shares.append(0.0)
    if len(shares) != 3 or min(shares) < 0 or not abs(sum(shares) - 1) < 1e-6 or shares[0] == 0:
        msg = f"split is '{text}'; allowed are the shares of train, val and test, which make 1, such as 0.8/0.1/0.1."
        raise InputError(msg)
    return shares[0], shares[1], shares[2]


def with_splits(
    table: BoxTable, root: Path, shares: Sequence[float], group: str | None = None
) -> Mapping[SplitName, BoxTable]:
    """Parts of a table; where an image goes depends on its name alone, so that it stays there when others come.

    Args:
        table: the images.
        root: the folder that their names start from.
        shares: of train, val and test.
        group: a regular expression; images whose names match it alike, in its first bracket or as a whole, stay
            together, such as the frames of a video.

    Raises:
        InputError: `group` is no regular expression or matches no name, or train or val would have no image.
    """
    names = [_from(table.image_path(place), root) for place in range(len(table))]
    keys = names if group is None else _groups(names, group)
    edges = np.cumsum(shares)
    parts = np.searchsorted(edges[:2], [_fraction(key) for key in keys], side="right")
    found: dict[SplitName, BoxTable] = {}
    for number, split in enumerate(SPLITS):
        chosen = np.flatnonzero(parts == number)
        if len(chosen):
            found[split] = part_of(table, chosen, f"{table.source} ({split})")
        elif shares[number] > 0 and split != "test":
            what = "groups" if group else "images"
            msg = (
                f"the {len(set(keys))} {what} of '{table.source}' leave none for {split} at {shares[number]:g}. "
                f"Give it a larger share, or more {what}."
            )
            raise InputError(msg)
    return found


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


def _from(path: Path, root: Path) -> str:
    name = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    return pairing_name(name.as_posix())


def _groups(names: Sequence[str], pattern: str) -> list[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        msg = f"group is '{pattern}', which is no regular expression: {error}. Give one such as '(.*)_frame'."
        raise InputError(msg) from error
    matches = [expression.search(name) for name in names]
    if not any(matches):
        msg = f"group '{pattern}' matches none of {len(names)} images, such as '{names[0]}'. Give one that does."
        raise InputError(msg)
    return [
        name if match is None else next((part for part in match.groups() if part is not None), match[0])
        for name, match in zip(names, matches, strict=True)
    ]


def _fraction(key: str) -> float:
    """A number from 0 to 1 that depends on a text alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48
