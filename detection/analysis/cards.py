"""Images with their true and found boxes, and how many mistakes each has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from detection.analysis.matching import Matching
from detection.analysis.mistakes import MISTAKES, Mistakes
from detection.analysis.overlaps import Comparison
from detection.data.batch import DetectionBatch
from detection.data.boxes import BoxSource, Floats, Ints
from detection.data.classes import BoxClasses
from engine.errors import InputError
from engine.reading.images import UInt8Array
from engine.reports.contents import Box, ImageCard
from engine.reports.encoding import encode_image

_CARD_SIDE = 512  # pixels of the longer side of a card's picture


class Images(Protocol):
    """The images of an evaluation, by the ids of their annotations."""

    def name(self, image_id: int) -> str:
        """The name of a file."""
        ...

    def pixels(self, image_id: int) -> UInt8Array | None:
        """(h, w, 3) RGB of the original size; None for a file that cannot be read."""
        ...


@dataclass(frozen=True, eq=False)
class SourceImages:
    """The images of a `BoxSource`.

    Attributes:
        source: the annotations, which name the files.
        read: reads them as the network sees them.
    """

    source: BoxSource
    read: Callable[[Path], UInt8Array]

    def name(self, image_id: int) -> str:
        """The name of a file, without its folders."""
        return self._path(image_id).name

    def pixels(self, image_id: int) -> UInt8Array | None:
        """(h, w, 3) RGB of the original size; None for a file that cannot be read."""
        try:
            return self.read(self._path(image_id))
        except InputError:
            return None

    def _path(self, image_id: int) -> Path:
        return self.source.image_path(self._places[image_id])

    @cached_property
    def _places(self) -> dict[int, int]:
        return {image_id: place for place, image_id in enumerate(self.source.image_ids.tolist())}


@dataclass(frozen=True, eq=False)
class ImageCounts:
    """What was found in each of I images, with the detections of a `Comparison`.

    Attributes:
        objects: (I,) annotations that should be found.
        found: (I,) those that were.
        mistakes: (I, 6) how often each of `MISTAKES` occurs.
        f1: (I,) of the image alone; 1 for an image without objects and detections.
    """

    objects: Ints
    found: Ints
    mistakes: Ints
    f1: Floats

    def worst_first(self) -> Ints:
        """(I,) the images by rising F1, of equal ones those with the most mistakes first."""
        return np.lexsort((-self.mistakes.sum(axis=1), self.f1))


def count_images(compared: Comparison, matching: Matching, mistakes: Mistakes) -> ImageCounts:
    """Count objects, matches and mistakes in each image."""
    images = len(compared.image_ids)

    def per_image(rows: Ints) -> Ints:
        return np.bincount(rows, minlength=images)

    objects = per_image(compared.true_images[~compared.crowd])
    found = per_image(compared.images[matching.right])
    wrong = per_image(compared.images[matching.wrong])
    kinds = np.zeros((images, len(MISTAKES)), np.int64)
    sorted_out = mistakes.kinds >= 0
    np.add.at(kinds, (compared.images[sorted_out], mistakes.kinds[sorted_out]), 1)
    kinds[:, MISTAKES.index("missed")] = per_image(compared.true_images[mistakes.missed])
    total = objects + found + wrong
    f1 = np.divide(2 * found, total, out=np.ones(images), where=total > 0)
    return ImageCounts(objects, found, kinds, f1)


def image_card(
    compared: Comparison,
    matching: Matching,
    mistakes: Mistakes,
    counts: ImageCounts,
    row: int,
    name: str,
    image: UInt8Array,
) -> ImageCard:
    """A card of one image.

    Args:
        compared: the detections that are shown, and the annotations.
        matching: their matches.
        mistakes: their mistakes.
        counts: those of the images.
        row: the image's row.
        name: its name.
        image: (h, w, 3) RGB of the original size.
    """
    own, true = np.flatnonzero(compared.images == row), np.flatnonzero(compared.true_images == row)
    boxes = [
        Box(
            _corners(compared.true_boxes_xywh[place]),
            compared.class_names[compared.true_class_ids[place]],
            "truth",
            mistake="missed" if mistakes.missed[place] else None,
        )
        for place in true.tolist()
        if not compared.crowd[place]
    ]
    boxes += [
        Box(
            _corners(compared.boxes_xywh[place]),
            compared.class_names[compared.class_ids[place]],
            "prediction",
            float(compared.scores[place]),
            None if mistakes.kinds[place] < 0 else MISTAKES[mistakes.kinds[place]],
        )
        for place in own.tolist()
    ]
    height, width = image.shape[:2]
    note = ", ".join(f"{number} {kind}" for kind, number in zip(MISTAKES, counts.mistakes[row], strict=True) if number)
    return ImageCard(
        name, width, height, encode_image(image, _CARD_SIDE), tuple(boxes), score=float(counts.f1[row]),
        score_name="F1", note=note,
    )  # fmt: skip


def batch_cards(batch: DetectionBatch, classes: BoxClasses, most: int = 16) -> list[ImageCard]:
    """The first images of a training batch with their boxes, as the network sees them.

    Args:
        batch: augmented images, in pixels of their canvas.
        classes: names of the class ids.
        most: images at most.
    """
    images = batch.images[:most].permute(0, 2, 3, 1).cpu().numpy()
    boxes, class_ids = batch.boxes_xyxy[:most].float().cpu().numpy(), batch.class_ids[:most].cpu().numpy()
    cards = []
    for number, (image, corners, rows) in enumerate(zip(images, boxes, class_ids, strict=True)):
        shown = tuple(
            Box((left, top, right, bottom), classes.names[row] or f"class {row}", "truth")
            for (left, top, right, bottom), row in zip(corners[rows >= 0].tolist(), rows[rows >= 0], strict=True)
        )
        name = f"{number}: image {int(batch.image_ids[number])}"
        cards.append(ImageCard(name, image.shape[1], image.shape[0], encode_image(image, _CARD_SIDE), shown))
    return cards


def _corners(box_xywh: Floats) -> tuple[float, float, float, float]:
    left, top, width, height = box_xywh.tolist()
    return left, top, left + width, top + height
