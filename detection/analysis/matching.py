"""Which detection finds which annotation, as COCO's evaluation decides it, for all images at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detection.analysis.overlaps import Comparison, places
from detection.data.boxes import Flags, Floats, Ints

MATCH_IOU = 0.5  # of the curves, the confusion matrix and the mistakes: that of AP50


@dataclass(frozen=True, eq=False)
class Matching:
    """What each of D detections found, at one IoU.

    Attributes:
        truths: (D,) rows of the annotations; -1 for a detection that found none.
        ignored: (D,) detections within a crowd of their class, which are neither right nor wrong.
        found: (G,) whether an annotation was found.
        iou: the IoU from which on a detection counts.
    """

    truths: Ints
    ignored: Flags
    found: Flags
    iou: float

    @property
    def right(self) -> Flags:
        """(D,) detections that found an annotation."""
        return self.truths >= 0

    @property
    def wrong(self) -> Flags:
        """(D,) detections that found nothing and are not ignored."""
        return (self.truths < 0) & ~self.ignored


def match(compared: Comparison, iou: float = MATCH_IOU) -> Matching:
    """Match as pycocotools' `evaluateImg` does, over all sizes.

    Of an image and class, the detections choose by falling score, each the free annotation that it overlaps most, of
    equal ones the last. One that finds none is ignored if it lies in a crowd.

    Args:
        compared: detections and annotations.
        iou: the least IoU of a match, at least `BACKGROUND_IOU`.
    """
    pairs = compared.pairs
    least = min(iou, 1 - 1e-10)  # pycocotools' own
    close = (pairs.ious >= least) & (compared.class_ids[pairs.detections] == compared.true_class_ids[pairs.truths])
    crowd = compared.crowd[pairs.truths]
    ranks = places(compared.images * max(1, len(compared.class_names)) + compared.class_ids)
    chosen = close & ~crowd
    asking = pairs.detections[chosen], pairs.truths[chosen], pairs.ious[chosen]
    truths, found = greedy(*asking, ranks, len(compared.crowd))
    ignored = np.zeros(len(truths), np.bool_)
    ignored[pairs.detections[close & crowd]] = True
    return Matching(truths, ignored & (truths < 0), found, iou)


def greedy(detections: Ints, truths: Ints, ious: Floats, ranks: Ints, truth_count: int) -> tuple[Ints, Flags]:
    """Let detections choose annotations one after the other, all groups of them at once.

    Detections of one rank have no annotation in common, so that a round for each rank, a hundred at most for a usual
    detector, does what a loop over detections would do.

    Args:
        detections: (P,) rows of the detections of the allowed pairs.
        truths: (P,) rows of their annotations.
        ious: (P,) overlaps; the largest is chosen, of equal ones the last annotation.
        ranks: (D,) the turn of each detection within its group.
        truth_count: number of annotations G.

    Returns:
        (D,) the row of the annotation that each detection chose, or -1, and (G,) whether it was chosen.
    """
    chosen, taken = np.full(len(ranks), -1, np.int64), np.zeros(truth_count, np.bool_)
    order = np.lexsort((truths, ious, detections, ranks[detections]))
    detections, truths = detections[order], truths[order]
    turns = ranks[detections]
    begins = np.flatnonzero(np.diff(turns, prepend=-1))
    ends = np.append(begins[1:], len(turns))[: len(begins)]
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        free = begin + np.flatnonzero(~taken[truths[begin:end]])
        if not len(free):
            continue
        asking = detections[free]
        best = free[np.append(asking[1:] != asking[:-1], True)]  # the last of each detection
        chosen[detections[best]] = truths[best]
        taken[truths[best]] = True
    return chosen, taken
