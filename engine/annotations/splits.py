"""The splits of a set: by the names of files and folders, or by a hash that stays when files are added."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from engine.data.contracts import SPLITS, SplitName
from engine.errors import InputError
from engine.names import pairing_name

ALL = "all"  # the one part of a set that has no splits
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


def parts_by_name(
    paths: Sequence[Path], root: Path, shares: Sequence[float], group: str | None, source: str
) -> Mapping[SplitName, np.ndarray]:
    """The places of a set's images by split; where an image goes depends on its name alone, whatever others come.

    Args:
        paths: the images.
        root: the folder that their names start from.
        shares: of train, val and test.
        group: a regular expression; images whose names match it alike, in its first bracket or as a whole, stay
            together, such as the frames of a video.
        source: what messages call the set.

    Raises:
        InputError: `group` is no regular expression or matches no name, or train or val would have no image.
    """
    names = [_from(path, root) for path in paths]
    keys = names if group is None else _groups(names, group)
    edges = np.cumsum(shares)
    parts = np.searchsorted(edges[:2], [_fraction(key) for key in keys], side="right")
    found: dict[SplitName, np.ndarray] = {}
    for number, split in enumerate(SPLITS):
        chosen = np.flatnonzero(parts == number)
        if len(chosen):
            found[split] = chosen
        elif shares[number] > 0 and split != "test":
            what = "groups" if group else "images"
            msg = (
                f"the {len(set(keys))} {what} of '{source}' leave none for {split} at {shares[number]:g}. "
                f"Give it a larger share, or more {what}."
            )
            raise InputError(msg)
    return found


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
