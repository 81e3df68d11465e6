"""The confusion matrix of detections: which class was taken for which, what was missed, and what is not there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detection.analysis.matching import Matching, greedy
from detection.analysis.overlaps import Comparison, places
from detection.data.boxes import Ints


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counts of pairs of classes.

    Attributes:
        counts: (K + 1, K + 1) by true class and predicted class. In the last column stand objects that nothing was
            found on, in the last row detections that are on nothing; the corner is 0.
        truths: (D,) the annotation that each detection stands on, of whichever class; -1 for none.
    """

    counts: Ints
    truths: Ints


def confusion(compared: Comparison, matching: Matching) -> Confusion:
    """Pair detections with annotations, of the same class where there is one.

    The diagonal holds the matches of COCO's evaluation. The detections and annotations that these leave are paired
    whatever their class: in each image by falling score, each detection with the free annotation that it overlaps
    most, from the IoU of the matching on. Crowds, and detections in a crowd of their class, do not count.

    Args:
        compared: detections and annotations; leave out before what is below a score, see `Comparison.above`.
        matching: their matches.
    """
    count = len(compared.class_names)
    pairs = compared.pairs
    left = (
        (pairs.ious >= matching.iou)
        & matching.wrong[pairs.detections]
        & ~matching.found[pairs.truths]
        & ~compared.crowd[pairs.truths]
    )
    by_score = np.lexsort((-compared.scores, compared.images))
    ranks = np.empty(len(by_score), np.int64)
    ranks[by_score] = places(compared.images[by_score])
    free = pairs.detections[left], pairs.truths[left], pairs.ious[left]
    crossed, also_found = greedy(*free, ranks, len(compared.crowd))
    truths = np.where(matching.right, matching.truths, crossed)

    counts = np.zeros((count + 1, count + 1), np.int64)
    counted = np.flatnonzero(~matching.ignored)
    paired = truths[counted] >= 0
    true_rows = np.full(len(counted), count)
    true_rows[paired] = compared.true_class_ids[truths[counted][paired]]
    np.add.at(counts, (true_rows, compared.class_ids[counted]), 1)
    missed = ~(matching.found | also_found | compared.crowd)
    counts[:count, count] = np.bincount(compared.true_class_ids[missed], minlength=count)
    return Confusion(counts, truths)
