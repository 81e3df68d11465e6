"""Images with their true and found boxes, and how many mistakes each has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from detection.analysis.matching import Matching
from detection.analysis.mistakes import MISSED, MISTAKES, Mistakes
from detection.analysis.overlaps import Comparison
from detection.data.batch import DetectionBatch
from detection.data.boxes import BoxSource, Flags, Floats, Ints
from detection.data.classes import BoxClasses
from engine.errors import InputError
from engine.reading.images import UInt8Array
from engine.reports.batches import MOST
from engine.reports.choosing import distinct_names
from engine.reports.contents import Box, ImageCard
from engine.reports.encoding import encode_image

_BATCH_SIDE = 512  # pixels of the longer side of a training image's picture
_MOST_BOXES = 100  # of an image


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
        image_ids: the images that were scored.
        read: reads them as the network sees them.
    """

    source: BoxSource
    image_ids: Ints
    read: Callable[[Path], UInt8Array]

    def name(self, image_id: int) -> str:
        """The name of a file, without the folders that all have in common."""
        return self._names[image_id]

    def pixels(self, image_id: int) -> UInt8Array | None:
        """(h, w, 3) RGB of the original size; None for a file that cannot be read."""
        try:
            return self.read(self._paths[image_id])
        except InputError:
            return None

    @cached_property
    def _paths(self) -> dict[int, Path]:
        places = {image_id: place for place, image_id in enumerate(self.source.image_ids.tolist())}
        return {image_id: self.source.image_path(places[image_id]) for image_id in self.image_ids.tolist()}

    @cached_property
    def _names(self) -> dict[int, str]:
        return dict(zip(self._paths, distinct_names([str(path) for path in self._paths.values()]), strict=True))


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
    kinds[:, MISSED] = per_image(compared.true_images[mistakes.missed])
    total = objects + found + wrong
    f1 = np.divide(2 * found, total, out=np.ones(images), where=total > 0)
    return ImageCounts(objects, found, kinds, f1)


def image_card(
    drawn: Comparison, kinds: Mistakes, missed: Flags, counts: ImageCounts, row: int, name: str, image: UInt8Array
) -> ImageCard:
    """A card of one image.

    Args:
        drawn: the detections that the card holds, and the annotations.
        kinds: the mistakes of these detections.
        missed: (G,) annotations that are shown as missed.
        counts: those of the images, which stand on the card.
        row: the image's row.
        name: its name.
        image: (h, w, 3) RGB of the original size.
    """
    own, true = np.flatnonzero(drawn.images == row), np.flatnonzero(drawn.true_images == row)
    own = own[np.argsort(-drawn.scores[own], kind="stable")][:_MOST_BOXES]
    boxes = [
        Box(
            _corners(drawn.true_boxes_xywh[place]),
            drawn.class_names[drawn.true_class_ids[place]],
            "truth",
            mistake=MISTAKES[MISSED] if missed[place] else None,
        )
        for place in true.tolist()
    ]
    boxes += [
        Box(
            _corners(drawn.boxes_xywh[place]),
            drawn.class_names[drawn.class_ids[place]],
            "prediction",
            round(float(drawn.scores[place]), 4),
            None if kinds.kinds[place] < 0 else MISTAKES[kinds.kinds[place]],
        )
        for place in own.tolist()
    ]
    height, width = image.shape[:2]
    note = ", ".join(f"{number} {kind}" for kind, number in zip(MISTAKES, counts.mistakes[row], strict=True) if number)
    score = float(counts.f1[row])
    return ImageCard(name, width, height, encode_image(image), tuple(boxes), score=score, score_name="F1", note=note)


def batch_cards(batch: DetectionBatch, classes: BoxClasses, most: int = MOST) -> list[ImageCard]:
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
        cards.append(ImageCard(name, image.shape[1], image.shape[0], encode_image(image, _BATCH_SIDE), shown))
    return cards


def _corners(box_xywh: Floats) -> tuple[float, float, float, float]:
    left, top, width, height = box_xywh.tolist()
    return round(left, 2), round(top, 2), round(left + width, 2), round(top + height, 2)
