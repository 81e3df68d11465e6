"""Every detection beside every annotation of its image, as flat arrays, and how far they overlap."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from detection.data.boxes import Flags, Floats, Ints
from detection.scores.records import DetectionTable
from detection.scores.truth import GroundTruth

BACKGROUND_IOU = 0.1  # below it a detection touches nothing (TIDE's t_b)
MOST_PER_CLASS = 100  # detections of an image and class that are scored, the last of pycocotools' `maxDets`
_CHUNK = 4_000_000  # pairs whose overlaps are computed at once: some hundred megabytes


class Pairs(NamedTuple):
    """Detections and annotations of one image that overlap by at least `BACKGROUND_IOU`, by detection.

    Attributes:
        detections: (P,) rows of the detections.
        truths: (P,) rows of the annotations.
        ious: (P,) intersection over union, or over the detection's area where the annotation is a crowd.
    """

    detections: Ints
    truths: Ints
    ious: Floats


@dataclass(frozen=True, eq=False)
class Comparison:
    """D detections beside G annotations, in I images and K classes.

    Detections are ordered by image, class and falling score; equal scores keep the order of their table, as in
    pycocotools, and of an image and class the best 100, or as many as are asked for, are taken. Annotations keep their
    order within an image.

    Attributes:
        class_names: the K names by ascending category id.
        image_ids: (I,) ascending.
        boxes_xywh: (D, 4) pixels of the original image.
        scores: (D,).
        images: (D,) rows of `image_ids`.
        class_ids: (D,) rows of `class_names`.
        true_boxes_xywh: (G, 4) pixels of the original image.
        true_images: (G,) rows of `image_ids`.
        true_class_ids: (G,) rows of `class_names`.
        crowd: (G,) regions in which any number of detections is neither right nor wrong.
        pairs: which of them overlap.
    """

    class_names: tuple[str, ...]
    image_ids: Ints
    boxes_xywh: Floats
    scores: Floats
    images: Ints
    class_ids: Ints
    true_boxes_xywh: Floats
    true_images: Ints
    true_class_ids: Ints
    crowd: Flags
    pairs: Pairs

    @classmethod
    def of(
        cls,
        truth: GroundTruth,
        table: DetectionTable,
        image_ids: Iterable[int] | None = None,
        most: int = MOST_PER_CLASS,
    ) -> Comparison:
        """Compare detections with annotations.

        Args:
            truth: the annotations.
            table: the detections, in the ids of the annotations; categories that these do not list are left out.
            image_ids: the images that count; by default all of the annotations.
            most: detections of an image and class that count; large pictures have more than COCO's.
        """
        images = np.unique(np.array(truth.image_ids if image_ids is None else list(image_ids), np.int64))
        categories = np.array(sorted(truth.category_names), np.int64)
        images_of, classes_of = _rows(table.image_ids, images), _rows(table.category_ids, categories)
        kept = np.flatnonzero((images_of >= 0) & (classes_of >= 0))
        kept = kept[np.lexsort((-table.scores[kept], classes_of[kept], images_of[kept]))]  # lexsort is stable
        kept = kept[places(images_of[kept] * len(categories) + classes_of[kept]) < most]
        true_images = _rows(truth.annotation_image_ids, images)
        counted = np.flatnonzero(true_images >= 0)
        counted = counted[np.argsort(true_images[counted], kind="stable")]
        found = cls(
            class_names=tuple(truth.category_names[category] for category in categories.tolist()),
            image_ids=images,
            boxes_xywh=table.boxes_xywh[kept],
            scores=table.scores[kept],
            images=images_of[kept],
            class_ids=classes_of[kept],
            true_boxes_xywh=truth.boxes_xywh[counted],
            true_images=true_images[counted],
            true_class_ids=_rows(truth.annotation_category_ids, categories)[counted],
            crowd=truth.crowd[counted],
            pairs=Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)),
        )
        return replace(found, pairs=_overlaps(found))

    @property
    def objects(self) -> Ints:
        """(K,) annotations of each class that a detector should find: those that are no crowd."""
        return np.bincount(self.true_class_ids[~self.crowd], minlength=len(self.class_names))

    def above(self, score: float) -> Comparison:
        """The same without the detections below a score."""
        kept = self.scores >= score
        numbers = np.cumsum(kept) - 1
        pairs = kept[self.pairs.detections]
        mine = Pairs(numbers[self.pairs.detections[pairs]], self.pairs.truths[pairs], self.pairs.ious[pairs])
        return replace(
            self,
            boxes_xywh=self.boxes_xywh[kept],
            scores=self.scores[kept],
            images=self.images[kept],
            class_ids=self.class_ids[kept],
            pairs=mine,
        )


def places(groups: Ints) -> Ints:
    """(N,) the place of each element within its run of equal groups, from 0; equal groups must be neighbours."""
    if not len(groups):
        return np.empty(0, np.int64)
    begins = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]]))
    return np.arange(len(groups)) - np.repeat(begins, np.diff(np.append(begins, len(groups))))


def _rows(given: Ints, known: Ints) -> Ints:
    """(N,) the place of each id in an ascending list; -1 where it is not listed."""
    if not len(known):
        return np.full(len(given), -1, np.int64)
    found = np.minimum(np.searchsorted(known, given), len(known) - 1)
    return np.where(known[found] == given, found, -1)


def _overlaps(found: Comparison) -> Pairs:
    """All pairs of one image, chunk by chunk, and of them those that overlap enough."""
    per_image = np.bincount(found.true_images, minlength=len(found.image_ids))
    first = np.concatenate([[0], np.cumsum(per_image)])[:-1]
    per_detection = per_image[found.images]
    ends = np.cumsum(per_detection)
    parts: list[Pairs] = []
    begin = 0
    while begin < len(ends):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + _CHUNK, side="right")))
        counts = per_detection[begin:end]
        detections = np.repeat(np.arange(begin, end), counts)
        truths = np.arange(len(detections)) - np.repeat(np.cumsum(counts) - counts, counts)
        truths += first[found.images[detections]]
        ious = _ious(found, detections, truths)
        kept = ious >= BACKGROUND_IOU
        parts.append(Pairs(detections[kept], truths[kept], ious[kept]))
        begin = end
    if not parts:
        return found.pairs
    return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _ious(found: Comparison, detections: Ints, truths: Ints) -> Floats:
    """The operations of pycocotools' `bbIou` (common/maskApi.c) in their order, so that the last bit agrees."""
    boxes, true = found.boxes_xywh[detections], found.true_boxes_xywh[truths]
    starts = np.maximum(boxes[:, :2], true[:, :2])
    sides = np.minimum(boxes[:, 2:] + boxes[:, :2], true[:, 2:] + true[:, :2]) - starts
    meet = (sides > 0).all(axis=1)
    inside = sides[:, 0] * sides[:, 1]
    areas = boxes[:, 2] * boxes[:, 3]
    both = areas + true[:, 2] * true[:, 3] - inside
    whole = np.where(found.crowd[truths], areas, both)
    return np.asarray(np.divide(inside, whole, out=np.zeros(len(inside)), where=meet & (whole > 0)))
