"""ImageNet as it lies on disk: folders of synsets, and the validation images as the Kaggle archive has them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from timm.data import ImageNetInfo

from classification.data.classes import LabelClasses
from classification.data.sets.folders import labelled, read_folders
from classification.data.sources import LabelledFiles
from engine.data.contracts import SplitName
from engine.errors import InputError
from engine.reading.images import IMAGE_SUFFIXES
from engine.reading.listing import walk

_KAGGLE = "ILSVRC/Data/CLS-LOC"
_SOLUTION = "LOC_val_solution.csv"


def imagenet_names() -> tuple[str, ...]:
    """The 1000 classes in the order of published weights, which is that of their synsets, as `n01440764 tench`."""
    info = ImageNetInfo()
    synsets = [str(info.index_to_label_name(row)) for row in range(info.num_classes())]
    return tuple(f"{synset} {str(info.label_name_to_description(synset)).partition(',')[0]}" for synset in synsets)


def read_imagenet(root: Path) -> Mapping[SplitName, LabelledFiles]:
    """Training and validation images.

    Args:
        root: holds `train/n01440764/…` and `val/n01440764/…`; or `ILSVRC/Data/CLS-LOC` with `train/n01440764/…` and
            `val/…`, whose labels stand in `LOC_val_solution.csv`, as in the archive of Kaggle.

    Raises:
        InputError: the folder holds none of these, or a class that ImageNet does not have.
    """
    images = root / _KAGGLE if (root / _KAGGLE).is_dir() else root
    solution = root / _SOLUTION
    if not solution.is_file():
        return {split: with_imagenet_names(files) for split, files in read_folders(images, None, None).items()}
    found = {"train": with_imagenet_names(_folder(images / "train")), "val": _solved(images / "val", solution)}
    return {split: found[split] for split in ("train", "val")}


def _folder(root: Path) -> LabelledFiles:
    names = [path for path in walk(root) if path.suffix.lower() in IMAGE_SUFFIXES] if root.is_dir() else []
    if not names:
        msg = f"'{root}' holds no image. Give the folder that holds train/n01440764/… as --data.root."
        raise InputError(msg)
    inner = [path.relative_to(root) for path in names]
    return labelled(root, inner, LabelClasses(tuple(sorted({name.parts[0] for name in inner})), several=True), 0)


def with_imagenet_names(files: LabelledFiles) -> LabelledFiles:
    """A set whose classes are synsets, with the rows and names of ImageNet's 1000 classes.

    Raises:
        InputError: one of its classes is none of them.
    """
    names = imagenet_names()
    by_synset = {name.partition(" ")[0]: row for row, name in enumerate(names)}
    unknown = [name for name in files.classes.names if name not in by_synset]
    if unknown:
        msg = (
            f"'{files.source}' has the folder '{unknown[0]}', which is no class of ImageNet such as n01440764. Give "
            "--data.format folder for other sets."
        )
        raise InputError(msg)
    rows = np.array([by_synset[name] for name in files.classes.names])
    return LabelledFiles(files.source, LabelClasses(names), files.paths, rows[files.targets.astype(np.int64)])


def _solved(folder: Path, solution: Path) -> LabelledFiles:
    """The validation images by the table of their labels: `ILSVRC2012_val_00048981,n03995372 85 1 499 272`."""
    names = imagenet_names()
    by_synset = {name.partition(" ")[0]: row for row, name in enumerate(names)}
    with solution.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))[1:]
    try:
        targets = [by_synset[line[1].split()[0]] for line in lines]
        paths = [folder / f"{line[0]}.JPEG" for line in lines]
    except (IndexError, KeyError) as error:
        msg = f"'{solution}' is not ImageNet's table of validation labels: {error}. Take it from the same archive."
        raise InputError(msg) from error
    return LabelledFiles(str(folder), LabelClasses(names), paths, np.array(targets, np.int64))
