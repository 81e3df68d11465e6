"""A cleaned copy of images and boxes; the set itself is not touched."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import numpy as np

from detection.checking.boxes import SOUND, box_faults, frames_hw, repeated_rows
from detection.checking.read_set import ReadBoxes
from detection.data.boxes import BoxSource, BoxTable, box_table
from detection.data.classes import BoxClasses
from detection.formats.writers.choice import WRITERS, Target
from detection.formats.writers.parts import SetToWrite
from engine.checking.clean import NOTHING, Names, bring_image, clean_name, new_folder, surplus_copies, told
from engine.checking.image_files import ImageFacts
from engine.errors import OutputError
from engine.reading.reader import PixelReader

_STAGED = "staged"  # where images wait for the names that the format gives them


def fix_boxes(given: ReadBoxes, folder: str | Path, to: Target, read: PixelReader = PixelReader()) -> list[str]:
    """Write a copy of a set without what is broken.

    Left out are images that cannot be read, that have another size than annotated or that are there already, and boxes
    that are not finite, without area, outside of their image or there twice; boxes are clipped to their image. Images
    that EXIF data turn are written as the predictor reads them. All splits get one class list.

    Args:
        given: the set with its facts.
        folder: the copy.
        to: its format.
        read: reads the images.

    Returns:
        What was done, a line each.

    Raises:
        OutputError: the folder cannot be written, or nothing is left to write.
    """
    done: Counter[str] = Counter()
    with new_folder(folder, list(dict.fromkeys(path.parent for path in given.all_paths))) as part:
        kept = write_boxes(given, part, to, read, surplus_copies(given.owners, given.facts), done)
    return told(folder, kept, done)


def write_boxes(
    given: ReadBoxes, part: Path, to: Target, read: PixelReader, surplus: Container[int], done: Counter[str]
) -> dict[str, tuple[int, int]]:
    """Write the images and boxes that stay into a folder.

    Args:
        given: the set with its facts.
        part: the folder.
        to: its format.
        read: reads the images.
        surplus: the places of images that are there already.
        done: counts what was done.

    Returns:
        For each split how many images stayed, and of how many.

    Raises:
        OutputError: nothing is left to write.
    """
    classes = common_classes(given.sources)
    kept: dict[str, tuple[int, int]] = {}
    tables: dict[str, BoxTable] = {}
    start, staged = 0, part / _STAGED
    for split, source in given.sources.items():
        count = len(source.image_ids)
        copies = {place for place in range(count) if start + place in surplus}
        start += count
        places = [place for place in range(count) if _stays(source, place, given.images[split], copies, done)]
        kept[split] = (len(places), count)
        if not places:
            continue
        names, files = Names(), []
        frames = frames_hw(source, given.images[split])
        for place in places:
            path, fact = given.paths[split][place], given.images[split][place]
            target = staged / split / names.free(clean_name(path, fact), path.parent.name)
            did = bring_image(path, fact, target, (int(frames[place, 0]), int(frames[place, 1])), read)
            done.update([did] if did else [])
            files.append(target)
        tables[split] = cleaned_table(source, places, files, frames, classes, done)
    if not tables:
        raise OutputError(NOTHING)
    to_write = SetToWrite.of(tables, staged)
    for split, images in WRITERS[to](to_write, part).items():
        (part / images).mkdir(parents=True, exist_ok=True)
        for place, name in enumerate(to_write.names[split]):
            os.replace(tables[split].image_path(place), part / images / name)
    shutil.rmtree(staged)
    return kept


def common_classes(sources: Mapping[str, BoxSource]) -> BoxClasses:
    """One class list for all splits: that of the first, and behind it the names that only others have."""
    first = next(iter(sources.values())).classes
    names = {name: number for name, number in zip(first.names, first.category_ids, strict=True) if name}
    for source in sources.values():
        for name in source.classes.names:
            if name and name not in names:
                names[name] = max(names.values(), default=0) + 1
    return BoxClasses.in_order(list(names.items()))


def _stays(
    source: BoxSource,
    place: int,
    facts: Sequence[ImageFacts],
    copies: set[int],
    done: Counter[str],
) -> bool:
    fact = facts[place]
    stated = int(source.sizes_hw[place, 0]), int(source.sizes_hw[place, 1])
    why = None
    if fact.size_hw is None:
        why = "images that cannot be read were left out"
    elif all(stated) and stated not in (fact.size_hw, fact.stored_hw):
        why = "images of another size than annotated were left out"
    elif place in copies:
        why = "copies of other images were left out"
    if why is not None:
        done[why] += 1
    return why is None


def cleaned_table(
    source: BoxSource,
    places: list[int],
    files: list[Path],
    frames: np.ndarray,
    classes: BoxClasses,
    done: Counter[str],
) -> BoxTable:
    """The boxes of the images that stay, without those of no use, clipped.

    Args:
        source: the images and boxes as they were.
        places: the images that stay.
        files: what each of these is now.
        frames: (I, 2) height and width of all images as they were annotated.
        classes: the class list of the copy, which has all names of the source.
        done: counts what was done.
    """
    owners = np.repeat(np.arange(len(source.image_ids)), np.diff(source.box_ends))
    new_places = np.full(len(source.image_ids), -1)
    new_places[places] = np.arange(len(places))
    faults = box_faults(source.boxes_xywh, frames[owners], (1, 1))
    broken = (faults >= 0) & (faults < SOUND)
    repeated = np.zeros(len(owners), np.bool_)
    repeated[repeated_rows(source)] = True
    of_kept = new_places[owners] >= 0
    rows = np.flatnonzero(of_kept & ~broken & ~repeated)
    limits = np.concatenate([frames[owners[rows]][:, ::-1]] * 2, axis=1)
    corners = source.boxes_xywh[rows].copy()
    corners[:, 2:] += corners[:, :2]
    clipped = np.clip(corners, 0, limits)
    before, after = np.prod(source.boxes_xywh[rows, 2:], axis=1), np.prod(clipped[:, 2:] - clipped[:, :2], axis=1)
    areas = source.areas[rows] * np.where(before > 0, after / before, 1)
    areas = np.where((areas <= 0) | (areas > 1.05 * after + 1), after, areas)
    counts = {
        "boxes of no use were left out": int((of_kept & broken).sum()),
        "boxes that stood twice were left out once": int((of_kept & repeated & ~broken).sum()),
        "boxes were clipped to their image": int((clipped != corners).any(axis=1).sum()),
    }
    done.update({what: count for what, count in counts.items() if count})
    by_row = np.array([classes.names.index(name) if name else 0 for name in source.classes.names], np.int64)
    clipped[:, 2:] -= clipped[:, :2]
    table = box_table(
        source.source,
        classes,
        files,
        clipped,
        new_places[owners[rows]],
        by_row[source.class_ids[rows]],
        sizes_hw=frames[places].astype(np.int32),
        areas=areas,
        crowd=source.crowd[rows],
    )
    return dataclasses.replace(table, image_ids=source.image_ids[places])
