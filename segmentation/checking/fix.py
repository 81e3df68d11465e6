"""A cleaned copy of images and masks; the set itself is not touched."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Container, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from PIL import Image

from engine.checking.clean import NOTHING, Names, bring_image, clean_name, new_folder, surplus_copies, told
from engine.checking.image_files import ImageFacts
from engine.errors import InputError, OutputError
from engine.outputs import write_text
from engine.reading.images import UInt8Array
from engine.reading.reader import PixelReader
from segmentation.checking.mask_files import MaskFacts
from segmentation.checking.read_set import ReadMasks
from segmentation.checking.splits import PairedSource
from segmentation.data.classes import IGNORED, MaskClasses, Rgb
from segmentation.data.masks import MaskError, MaskReader, read_values
from segmentation.data.pairs import Pair
from segmentation.inference.pictures import index_image

MOST_STRANGE = 0.1  # share of a mask's pixels of no class, up to which they are only not counted
_UNLABELED = 0  # Cityscapes' id of pixels that are not evaluated
CLASSES, CONFIG = "classes.yaml", "data.yaml"


class KeptPair(NamedTuple):
    """A pair that stays.

    Attributes:
        pair: its files.
        fact: the facts of its image.
        rows: of a mask that is mended; None of one that is in order.
        size_hw: height and width of the mask.
    """

    pair: Pair
    fact: ImageFacts
    rows: UInt8Array | None
    size_hw: tuple[int, int]


def fix_masks(read: ReadMasks, folder: str | Path, layout: str, reader: PixelReader = PixelReader()) -> list[str]:
    """Write a copy of a set without what is broken.

    Left out are images and masks that cannot be read, that do not fit each other or have no other half, masks without
    a counted pixel, and images that are there already. Pixels of no class are not counted, where they are few; colours
    of classes and grey saved as RGB become values. Images that EXIF data turn are written as the predictor reads them.

    Args:
        read: the set with its facts.
        folder: the copy; `classes.yaml` in it has the classes, and `data.yaml` is a config for `fit`.
        layout: "cityscapes" keeps its names and folders; any other becomes `images/SPLIT` and `masks/SPLIT`, whose
            masks have one channel of 8 bits.
        reader: reads the images.

    Returns:
        What was done, a line each.

    Raises:
        OutputError: the folder cannot be written, or nothing is left to write.
    """
    done: Counter[str] = Counter()
    with new_folder(folder, folders_of(read)) as part:
        kept = write_masks(read, part, layout, reader, surplus_copies(read.owners, read.facts), done)
        data = {**described(part, kept, read, layout), "root": str(folder)}
        write_text(part / CONFIG, yaml.safe_dump({"data": data}, sort_keys=False))
    return told(folder, kept, done)


def folders_of(read: ReadMasks) -> list[Path]:
    """The folders that are read."""
    pairs = [pair for files in read.sources.values() for pair in files.pairs]
    return list(dict.fromkeys(path.parent for pair in pairs for path in (pair.image, pair.mask)))


def write_masks(
    read: ReadMasks, part: Path, layout: str, reader: PixelReader, surplus: Container[int], done: Counter[str]
) -> dict[str, tuple[int, int]]:
    """Write the images and masks that stay into a folder.

    Args:
        read: the set with its facts.
        part: the folder.
        layout: as in `fix_masks`.
        reader: reads the images.
        surplus: the places of images that are there already.
        done: counts what was done.

    Returns:
        For each split how many images stayed, and of how many.

    Raises:
        OutputError: nothing is left to write.
    """
    kept: dict[str, tuple[int, int]] = {}
    place = 0
    for split, files in read.sources.items():
        written, names = 0, Names()
        count_unmatched(files, done)
        for pair, fact, mask in zip(files.pairs, read.images[split], read.masks[split], strict=True):
            why = "copies of other images were left out" if place in surplus else None
            place += 1
            one = None if why else kept_pair(files, pair, fact, mask, done)
            if one is None:
                done[why or "pairs that cannot be used were left out"] += 1
                continue
            bring_pair(one, files, part, split, names, done, reader, layout)
            written += 1
        kept[split] = (written, len(files.pairs) + len(files.unpaired))
    if not any(written for written, _ in kept.values()):
        raise OutputError(NOTHING)
    return kept


def count_unmatched(files: PairedSource, done: Counter[str]) -> None:
    """Count images without a mask, and masks without an image."""
    done.update({"images without a mask were left out": len(files.unpaired)} if files.unpaired else {})
    done.update({"masks without an image were left out": len(files.unused)} if files.unused else {})


def kept_pair(
    files: PairedSource, pair: Pair, fact: ImageFacts, mask: MaskFacts, done: Counter[str]
) -> KeptPair | None:
    """A pair that stays, its mask mended if need be; None for one that is of no use."""
    if fact.size_hw is None:
        return None
    rows = None
    size_hw, counts = mask.size_hw, mask.counts
    if counts is None:
        rows = _mended(files, pair.mask)
        if rows is None:
            return None
        size_hw, counts = (rows.shape[0], rows.shape[1]), np.bincount(rows.ravel(), minlength=256)
    if size_hw is None or size_hw not in (fact.size_hw, fact.stored_hw) or counts[IGNORED] == counts.sum():
        return None
    if rows is not None:
        done["masks were mended: colours became values, values of no class are not counted"] += 1
    return KeptPair(pair, fact, rows, size_hw)


def _mended(files: PairedSource, path: Path) -> UInt8Array | None:
    """Rows of a mask that the reader refuses; None if it cannot be told what it means."""
    try:
        rows = files.read_leniently(path)
    except MaskError as error:
        return _from_colors(files.classes, path) if error.fault == "mode" else None
    except InputError:
        return None
    return rows if (rows == IGNORED).mean() <= MOST_STRANGE else None


def _from_colors(classes: MaskClasses, path: Path) -> UInt8Array | None:
    """Rows of a mask whose values were saved as the classes' colours, or as grey with three channels."""
    try:
        return MaskReader(classes, "color", ignore_colors=_unused_colors(classes))(path)
    except InputError:
        pass
    try:
        image = PixelReader()(path)
    except InputError:
        return None
    values = image[..., 0]
    known = np.isin(values, [*classes.label_ids, IGNORED])
    if (image != image[..., :1]).any() or not known.all():
        return None
    return classes.class_by_label[values]


def _unused_colors(classes: MaskClasses) -> tuple[Rgb, ...]:
    """White is not counted in masks of colours, unless a class has it."""
    return () if (255, 255, 255) in classes.colors else ((255, 255, 255),)


def bring_pair(
    one: KeptPair,
    files: PairedSource,
    part: Path,
    split: str,
    names: Names,
    done: Counter[str],
    reader: PixelReader,
    layout: str,
) -> Path:
    """Write a pair, and return the file of its image; see `fix_masks` and `write_masks`."""
    if layout == "cityscapes":
        return _bring_as_it_is(one, files.classes, part, done, reader)
    return _bring(one, files, part, split, names, done, reader)


def _bring(
    one: KeptPair, files: PairedSource, part: Path, split: str, names: Names, done: Counter[str], reader: PixelReader
) -> Path:
    """Write a pair into `images/SPLIT` and `masks/SPLIT`."""
    classes = plain_classes(files.classes)
    rows = files.read_mask(one.pair.mask) if one.rows is None else one.rows
    name = names.free(clean_name(one.pair.image, one.fact), one.pair.image.parent.name)
    frame_hw = rows.shape[0], rows.shape[1]
    image = part / "images" / split / name
    did = bring_image(one.pair.image, one.fact, image, frame_hw, reader)
    done.update([did] if did else [])
    target = part / "masks" / split / f"{Path(name).stem}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    index_image(rows, classes).save(target)
    return image


def plain_classes(classes: MaskClasses) -> MaskClasses:
    """The classes with label ids that leave 255 to pixels that are not counted."""
    return MaskClasses(classes.names, (), classes.colors) if IGNORED in classes.label_ids else classes


def _bring_as_it_is(one: KeptPair, classes: MaskClasses, part: Path, done: Counter[str], reader: PixelReader) -> Path:
    """Write a pair of Cityscapes into the folders that it came from."""
    root = one.pair.image.parents[3]
    frame_hw = None
    if one.fact.turned:
        values = read_values(one.pair.mask)
        frame_hw = values.shape[0], values.shape[1]
    did = bring_image(one.pair.image, one.fact, part / one.pair.image.relative_to(root), frame_hw, reader)
    done.update([did] if did else [])
    for path in (one.pair.mask, one.pair.instances):
        if path is not None:
            (part / path.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, part / path.relative_to(root))
    if one.rows is not None:
        labels = np.where(one.rows == IGNORED, _UNLABELED, classes.label_by_class[one.rows]).astype(np.uint8)
        Image.fromarray(labels).save(part / one.pair.mask.relative_to(root))
    return part / one.pair.image.relative_to(root)


def described(part: Path, kept: Mapping[str, tuple[int, int]], read: ReadMasks, layout: str) -> dict[str, object]:
    """Write the class list, and return what a config for `fit` says of the data, without their root."""
    splits = [split for split, (written, _) in kept.items() if written]
    of_folders = layout != "cityscapes"
    data: dict[str, object] = {"format": "folder" if of_folders else layout}
    if of_folders:
        classes = plain_classes(next(iter(read.sources.values())).classes)
        write_text(part / CLASSES, yaml.safe_dump(dict(classes.to_dict()), sort_keys=False, default_flow_style=None))
        paths = {f"{split}_{kind}": f"{kind}/{split}" for split in splits for kind in ("images", "masks")}
        data["folder"] = {**paths, "classes": CLASSES}
    return data
