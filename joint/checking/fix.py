"""A cleaned copy of boxes and masks; the sets themselves are not touched."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import yaml

from detection.checking.boxes import frames_hw
from detection.checking.fix import cleaned_table, common_classes, write_boxes
from detection.data.boxes import BoxTable
from detection.formats.writers import coco
from detection.formats.writers.parts import SetToWrite
from engine.checking.clean import NOTHING, Names, new_folder, surplus_copies, told
from engine.errors import OutputError
from engine.outputs import write_text
from engine.reading.reader import PixelReader
from joint.checking.given import ReadJoint, plain
from segmentation.checking.fix import (
    CONFIG,
    bring_pair,
    count_unmatched,
    described,
    folders_of,
    kept_pair,
    write_masks,
)

BOXES, MASKS = "boxes", "masks"  # folders of the copy of two sets


class _Written(NamedTuple):
    kept: dict[str, tuple[int, int]]
    data: dict[str, object]


def fix_joint(read: ReadJoint, folder: str | Path, layout: str, reader: PixelReader = PixelReader()) -> list[str]:
    """Write a copy of a set, or of two, without what is broken.

    What is left out and mended is that of `detection.checking.fix.fix_boxes` and `segmentation.checking.fix.fix_masks`.
    Where images are to have boxes and masks, those stay that have both of one frame.

    Args:
        read: the sets with their facts.
        folder: the copy; `data.yaml` in it is a config for `fit`. One set has its boxes in `annotations`; of two, that
            with boxes lies in `boxes`, as COCO, and that with masks in `masks`.
        layout: the format of the masks, as in `fix_masks`.
        reader: reads the images.

    Returns:
        What was done, a line each.

    Raises:
        OutputError: the folder cannot be written, or nothing is left to write.
    """
    done: Counter[str] = Counter()
    originals = dict.fromkeys([*(path.parent for path in read.boxes.all_paths), *folders_of(read.masks)])
    with new_folder(folder, list(originals)) as part:
        write = _both if read.given.both else _two
        written = write(read, part, Path(folder), layout, reader, done)
        write_text(part / CONFIG, yaml.safe_dump({"data": written.data}, sort_keys=False))
    return told(folder, written.kept, done)


def _two(read: ReadJoint, part: Path, folder: Path, layout: str, reader: PixelReader, done: Counter[str]) -> _Written:
    """The set with boxes and the set with masks, each in a folder of its own."""
    count = len(read.boxes.all_paths)
    kinds = [BOXES] * count + [MASKS] * len(read.masks.paths)
    surplus = surplus_copies([*read.boxes.owners, *read.masks.owners], [*read.boxes.facts, *read.masks.facts], kinds)
    kept: dict[str, tuple[int, int]] = {}
    data: dict[str, object] = {"format": "two"}
    if read.given.boxes:
        (part / BOXES).mkdir()
        of_boxes = write_boxes(read.boxes, part / BOXES, "coco", reader, surplus, done)
        kept |= {f"boxes of {split}": counts for split, counts in of_boxes.items()}
        data[BOXES] = {"root": str(folder / BOXES)}
    if read.given.masks:
        (part / MASKS).mkdir()
        own = {place - count for place in surplus if place >= count}
        of_masks = write_masks(read.masks, part / MASKS, layout, reader, own, done)
        kept |= {f"masks of {split}": counts for split, counts in of_masks.items()}
        data[MASKS] = {"root": str(folder / MASKS), **described(part / MASKS, of_masks, read.masks, layout)}
    return _Written(kept, data)


def _both(read: ReadJoint, part: Path, folder: Path, layout: str, reader: PixelReader, done: Counter[str]) -> _Written:
    """Images that have both, with their boxes in `annotations`."""
    images = read.given.images()
    copies = surplus_copies(list(images.values()), [read.facts[path] for path in images])
    surplus = {path for place, path in enumerate(images) if place in copies}
    classes = common_classes(read.given.boxes) if read.given.boxes else None
    kept: dict[str, tuple[int, int]] = {}
    tables: dict[str, BoxTable] = {}
    names: dict[str, list[str]] = {}
    for split, files in read.given.masks.items():
        source = read.given.boxes.get(split)
        if source is None or classes is None:
            continue
        count_unmatched(files, done)
        frames = frames_hw(source, read.boxes.images[split])
        place_of = {plain(path): place for place, path in enumerate(read.boxes.paths[split])}
        taken, places, targets = Names(), [], []
        for pair, fact, mask in zip(files.pairs, read.masks.images[split], read.masks.masks[split], strict=True):
            place = place_of.get(plain(pair.image))
            why = None
            if place is None:
                why = "images without an entry in the annotations were left out"
            elif plain(pair.image) in surplus:
                why = "copies of other images were left out"
            one = None if why else kept_pair(files, pair, fact, mask, done)
            if one is None or place is None:
                done[why or "pairs that cannot be used were left out"] += 1
                continue
            if tuple(frames[place].tolist()) != one.size_hw:
                done["images whose boxes and masks are of two frames were left out"] += 1
                continue
            places.append(place)
            targets.append(bring_pair(one, files, part, split, taken, done, reader, layout))
        kept[split] = (len(places), len(images_of(images, split)))
        if places:
            tables[split] = cleaned_table(source, places, targets, frames, classes, done)
            names[split] = [_from_images(target, part, layout) for target in targets]
    if not tables or classes is None:
        raise OutputError(NOTHING)
    used = [(name, number) for name, number in zip(classes.names, classes.category_ids, strict=True) if name]
    listed = tuple(name for name, _ in used)
    coco.write(SetToWrite(tables, names, listed, tuple(number for _, number in used), sized=True), part)
    annotations = {f"{split}_annotations": f"annotations/instances_{split}.json" for split in tables}
    data = {"format": "both", "root": str(folder), "masks": described(part, kept, read.masks, layout)}
    return _Written(kept, {**data, "boxes": annotations})


def images_of(images: dict[Path, str], split: str) -> list[Path]:
    """The images of a split."""
    return [path for path, own in images.items() if own == split]


def _from_images(target: Path, part: Path, layout: str) -> str:
    """The name of an image from the folder of its split: `leftImg8bit/SPLIT` of Cityscapes, or `images/SPLIT`."""
    return Path(*target.relative_to(part).parts[2:]).as_posix()
