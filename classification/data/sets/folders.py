"""Sets with a folder for each class: in folders of splits, or in one tree that a hash of the names splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from classification.data.classes import LabelClasses
from classification.data.sources import LabelledFiles
from engine.annotations.splits import parts_by_name, shares_of, split_of
from engine.data.contracts import SplitName
from engine.errors import InputError
from engine.names import shown_names
from engine.reading.images import IMAGE_SUFFIXES
from engine.reading.listing import walk


def read_folders(root: Path, split: str | None, group: str | None) -> Mapping[SplitName, LabelledFiles]:
    """The splits of a set.

    Args:
        root: holds `train/CLASS/…`, `val/CLASS/…` and `test/CLASS/…` (or `valid` and the like), or `CLASS/…`.
        split: the shares of train, val and test, such as `0.8/0.1/0.1`, for a set without folders of splits.
        group: a regular expression; images whose names match it alike stay together.

    Raises:
        InputError: there is no such folder, it has no images in folders of classes, or its splits are not told.
    """
    if not root.is_dir():
        msg = f"the data's root '{root}' does not exist. Give the folder that holds train/CLASS/… or CLASS/…."
        raise InputError(msg)
    names = [path.relative_to(root) for path in walk(root) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not names:
        msg = f"'{root}' holds no image. Give the folder that holds train/CLASS/… or CLASS/…."
        raise InputError(msg)
    by_split: dict[SplitName, list[Path]] = {}
    firsts = {name.parts[0] for name in names}
    splits = {first: found for first in firsts if (found := _split_word(first)) is not None}
    if len(splits) == len(firsts):
        for name in names:
            by_split.setdefault(splits[name.parts[0]], []).append(name)
        if split is not None:
            msg = f"'{root}' has folders of its own for {', '.join(sorted(firsts))}. Leave --data.split out."
            raise InputError(msg)
        return _of_splits(root, by_split)
    if splits and split is None:
        other = min(firsts - splits.keys())
        msg = (
            f"'{root}' holds folders of splits such as '{min(splits)}' beside others such as '{other}'. Move the "
            "others elsewhere, or say that all are classes: --data.split 0.8/0.1/0.1."
        )
        raise InputError(msg)
    if split is None:
        msg = f"'{root}' has no folders of splits. Give shares of train, val and test: --data.split 0.8/0.1/0.1."
        raise InputError(msg)
    whole = labelled(root, names, _classes(root, names, 0), 0)
    parts = parts_by_name(whole.paths, root, shares_of(split), group, str(root))
    return {name: whole.part(places) for name, places in parts.items()}


def read_folder(root: Path) -> LabelledFiles:
    """The images of `root/CLASS/…`, all of them as one split.

    Raises:
        InputError: the folder has no images in folders of two classes or more.
    """
    names = [path.relative_to(root) for path in walk(root) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not names:
        msg = f"'{root}' holds no image. Give the folder that holds CLASS/…."
        raise InputError(msg)
    return labelled(root, names, _classes(root, names, 0), 0)


def _split_word(name: str) -> SplitName | None:
    """The split that a folder is named for, as a whole and not in passing: `test`, but no class `test tubes`."""
    found = split_of(name)
    return found if found is not None and name.lower().strip("_- ").isalpha() else None


def _of_splits(root: Path, by_split: Mapping[SplitName, Sequence[Path]]) -> Mapping[SplitName, LabelledFiles]:
    # A split may lack a class; the classes of the set are those of all splits together.
    classes = _classes(root, [name for names in by_split.values() for name in names], 1)
    return {split: labelled(root, names, classes, 1) for split, names in by_split.items()}


def _classes(root: Path, names: Sequence[Path], depth: int) -> LabelClasses:
    """The classes of files by the folders at a depth below the root."""
    loose = [name for name in names if len(name.parts) < depth + 2]
    if loose:
        msg = (
            f"{len(loose)} images lie in no folder of a class, such as '{root / loose[0]}'. Move each into the folder "
            "of its class."
        )
        raise InputError(msg)
    found = sorted({name.parts[depth] for name in names})
    if len(found) < 2:
        msg = f"'{root}' holds images of {shown_names(found)} alone. Give a folder with two classes or more."
        raise InputError(msg)
    return LabelClasses(tuple(found))


def labelled(root: Path, names: Sequence[Path], classes: LabelClasses, depth: int) -> LabelledFiles:
    """Files with the classes of the folders that they lie in.

    Args:
        root: where their names start.
        names: the files, in one folder where `depth` is 1.
        classes: the classes of the set.
        depth: how many folders stand before that of the class.
    """
    rows = {name: row for row, name in enumerate(classes.names)}
    targets = np.array([rows[name.parts[depth]] for name in names], np.int64)
    source = root.joinpath(*names[0].parts[:depth])
    return LabelledFiles(str(source), classes, [root / name for name in names], targets)
