"""Cityscapes as it lies on disk: the pairs of a split, and label ids that become rows as they are read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from engine.errors import InputError, did_you_mean
from engine.reading.images import UInt8Array
from engine.reading.listing import walk
from segmentation.data.cityscapes.labels import CITYSCAPES, LABELS
from segmentation.data.classes import MaskClasses
from segmentation.data.masks import MaskError, MaskReader, read_values
from segmentation.data.pairs import Pair, check_paired

_log = logging.getLogger(__name__)

Annotations = Literal["fine", "coarse"]
_IMAGES = "leftImg8bit"
_FOLDERS = {"fine": "gtFine", "coarse": "gtCoarse"}
_HIGHEST_ID = max(label.label_id for label in LABELS)


@dataclass(frozen=True)
class CityscapesData:
    """Which parts of Cityscapes are used.

    Attributes:
        train_splits: the splits to train on; `train_extra`, if listed, has its coarse annotations.
        val_split: the split to validate on, with fine annotations; None does not validate.
        test_split: what `test` scores, with fine annotations; those of Cityscapes' own test set are not public.
        annotations: which annotations to train on.
    """

    train_splits: tuple[str, ...] = ("train",)
    val_split: str | None = "val"
    test_split: str | None = "val"
    annotations: Annotations = "fine"


class CityscapesFiles:
    """The pairs of one or several splits.

    Expected are `ROOT/leftImg8bit/SPLIT/CITY/*_leftImg8bit.png` and `ROOT/gtFine` or `gtCoarse` with the same
    folders and `*_labelIds.png`; `*_instanceIds.png` beside them, if there are any.

    Args:
        root: the folder with `leftImg8bit`.
        splits: such as `train`, `val`; `train_extra` has coarse annotations only, which are used for it.
        annotations: which of the two are used for the other splits.
        leave_out: whether images without a mask are left out (`unpaired` names them; `unused` names masks without an
            image, which are always left out).

    Raises:
        InputError: a folder is missing or empty, or an image has no mask, or only some have instances.
    """

    def __init__(
        self, root: str | Path, splits: Sequence[str], annotations: Annotations = "fine", *, leave_out: bool = False
    ) -> None:
        self.root = Path(root)
        self.source = f"{self.root / _IMAGES} ({', '.join(splits)})"
        found = [_pairs(self.root, split, _FOLDERS[annotations], leave_out) for split in splits]
        self.pairs: tuple[Pair, ...] = tuple(pair for pairs, *_ in found for pair in pairs)
        self.unpaired: tuple[str, ...] = tuple(picture for _, unpaired, _ in found for picture in unpaired)
        self.unused: tuple[Path, ...] = tuple(mask for *_, unused in found for mask in unused)
        without = [pair for pair in self.pairs if pair.instances is None]
        if 0 < len(without) < len(self.pairs):
            msg = (
                f"{len(without)} of {len(self.pairs)} masks have no instances beside them, the first is "
                f"'{without[0].mask}'. Give the '_instanceIds.png' of all or of none."
            )
            raise InputError(msg)

    @property
    def classes(self) -> MaskClasses:
        """The 19 classes, by training id."""
        return CITYSCAPES

    def read_mask(self, path: Path) -> UInt8Array:
        """(H, W) training ids of a `_labelIds.png`; `IGNORED` for labels that are not evaluated.

        Raises:
            InputError: the file cannot be read, or its values are not ids.
        """
        return CITYSCAPES.class_by_label[read_label_ids(path)]

    def read_leniently(self, path: Path) -> UInt8Array:
        """As `read_mask`, with pixels of no id as pixels that are not evaluated.

        Raises:
            InputError: the file cannot be read.
        """
        return MaskReader(CITYSCAPES, lenient=True)(path)


def read_label_ids(path: Path) -> UInt8Array:
    """(H, W) ids of a `_labelIds.png`.

    Raises:
        InputError: the file cannot be read, or its values are not ids.
    """
    values = read_values(path)
    highest = int(values.max())
    if highest > _HIGHEST_ID or values.min() < 0:
        strange = (values > _HIGHEST_ID) | (values < 0)
        msg = (
            f"mask '{path}' has the value {int(values[strange][0])} and others that are not Cityscapes ids in "
            f"{int(strange.sum())} pixels; ids are 0 to {_HIGHEST_ID}. Give '_labelIds.png', not training ids."
        )
        raise MaskError(msg, "values", len(np.unique(values[strange])))
    return values.astype(np.uint8, copy=False)


def read_instance_ids(path: Path) -> npt.NDArray[np.int32]:
    """(H, W) values of an `_instanceIds.png`: id * 1000 + k for single objects, else the id.

    Raises:
        InputError: the file cannot be read, or has 8 bits.
    """
    values = read_values(path)
    if values.dtype.itemsize == 1:
        msg = (
            f"instances '{path}' has 8 bits, but instance ids need one channel of 16. Give the '_instanceIds.png' as "
            "Cityscapes' tools write it."
        )
        raise InputError(msg)
    return values.astype(np.int32)


def _pairs(root: Path, split: str, truth_folder: str, leave_out: bool) -> tuple[list[Pair], list[str], list[Path]]:
    """The pairs of a split, its pictures without a mask, where they may be left out, and its masks without one."""
    if split == "train_extra":
        truth_folder = _FOLDERS["coarse"]
    images = _split_folder(root, _IMAGES, split)
    truth = _split_folder(root, truth_folder, split)
    pictures = [path for path in walk(images) if path.name.endswith(f"_{_IMAGES}.png") and path.parent.parent == images]
    if not pictures:
        msg = f"'{images}' holds no 'CITY/*_{_IMAGES}.png'. Give the folder that was unpacked from Cityscapes."
        raise InputError(msg)
    # One listing instead of two look-ups for each image, which are slow on network drives.
    found = {path.relative_to(truth).as_posix() for path in walk(truth) if path.suffix == ".png"}
    pairs: list[Pair] = []
    missing: list[tuple[Path, str]] = []
    for picture in pictures:
        city = picture.parent.name
        stem = f"{city}/{picture.name.removesuffix(f'_{_IMAGES}.png')}_{truth_folder}"
        if f"{stem}_labelIds.png" not in found:
            missing.append((picture, stem))
            continue
        instances = f"{stem}_instanceIds.png"
        pairs.append(Pair(picture, truth / f"{stem}_labelIds.png", truth / instances if instances in found else None))
    if missing and f"{missing[0][1]}_labelTrainIds.png" in found:
        msg = (
            f"'{truth}' has '{missing[0][1]}_labelTrainIds.png' but no '{missing[0][1]}_labelIds.png'. "
            "Give the label ids as Cityscapes ships them; they become training ids while they are read."
        )
        raise InputError(msg)
    wanted = f"{missing[0][1]}_labelIds.png" if missing else ""
    remedy = f"Add '{wanted}' to '{truth}', or take the image out."
    unpaired = [str(picture) for picture, _ in missing]
    check_paired(unpaired, len(pictures), remedy, leave_out=leave_out)
    used = {pair.mask for pair in pairs}
    unused = [truth / name for name in sorted(found) if name.endswith("_labelIds.png") and truth / name not in used]
    if unused:
        _log.info("%s: %d masks have no image and are left out", truth, len(unused))
    return pairs, unpaired, unused


def _split_folder(root: Path, kind: str, split: str) -> Path:
    folder = root / kind / split
    if folder.is_dir():
        return folder
    if not (root / kind).is_dir():
        msg = f"'{root}' has no folder '{kind}'. Give the folder that holds {_IMAGES} and {_FOLDERS['fine']}."
        raise InputError(msg)
    known = sorted(path.name for path in (root / kind).iterdir() if path.is_dir())
    hint = did_you_mean(split, known)
    msg = f"'{root / kind}' has no split '{split}'; it has {', '.join(known) or 'none'}.{hint} Give one of these."
    raise InputError(msg)
