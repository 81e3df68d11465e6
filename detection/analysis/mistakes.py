"""What kind of mistake each wrong detection is, and which objects were missed: the split of TIDE.

Bolya et al., ECCV 2020, "TIDE: A General Toolbox for Identifying Object Detection Errors", in the order that their
program tests (tidecv 1.0.1, `quantify.py`); the paper names classes before places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from detection.analysis.matching import Matching
from detection.analysis.overlaps import BACKGROUND_IOU, Comparison, Pairs
from detection.data.boxes import Flags, Floats, Ints

Mistake: TypeAlias = Literal[
    "badly placed", "wrong class", "duplicate", "background", "wrong class, badly placed", "missed"
]
MISTAKES: tuple[Mistake, ...] = get_args(Mistake)
PLACED, CLASS, DUPLICATE, BACKGROUND, BOTH, MISSED = range(6)
NO_MISTAKE = -1

MEANINGS: dict[Mistake, str] = {
    "badly placed": f"of the right class, with an IoU from {BACKGROUND_IOU:g} to that of a match",
    "wrong class": "well placed on an object of another class",
    "duplicate": "well placed on an object that a detection of a higher score has found",
    "background": f"touches no object by more than an IoU of {BACKGROUND_IOU:g}",
    "wrong class, badly placed": "touches an object of another class, not well enough for a match",
    "missed": "an object that no detection found, and none that is badly placed or of the wrong class stands for",
}


@dataclass(frozen=True, eq=False)
class Mistakes:
    """The kinds of mistakes among D detections and G annotations.

    Attributes:
        kinds: (D,) places in `MISTAKES`, or `NO_MISTAKE` for detections that are right or ignored.
        truths: (D,) the annotation that a badly placed detection or one of the wrong class stands for, else -1.
        candidates: (D,) whether a detection would find that annotation if its place or class were right: of those
            that stand for one annotation that nothing found, the one of the highest score.
        missed: (G,) annotations that nothing found and nothing stands for.
    """

    kinds: NDArray[np.int8]
    truths: Ints
    candidates: Flags
    missed: Flags

    def counts(self) -> Ints:
        """(6,) how often each of `MISTAKES` occurs."""
        found = np.bincount(self.kinds[self.kinds >= 0], minlength=len(MISTAKES))
        found[MISSED] = np.count_nonzero(self.missed)
        return np.asarray(found)


def find_mistakes(compared: Comparison, matching: Matching) -> Mistakes:
    """Sort the wrong detections by the first of TIDE's tests that each passes, and find the missed objects."""
    count, iou = len(compared.scores), matching.iou
    pairs = _without_crowds(compared)
    same = compared.class_ids[pairs.detections] == compared.true_class_ids[pairs.truths]
    best_same, same_truth = _best(pairs, same, count)
    best_other, other_truth = _best(pairs, ~same, count)
    best_found, _ = _best(pairs, same & matching.found[pairs.truths], count)
    best, _ = _best(pairs, np.ones(len(same), np.bool_), count)
    tests = [
        (best_same >= BACKGROUND_IOU) & (best_same <= iou),
        best_other >= iou,
        best_found >= iou,
        best <= BACKGROUND_IOU,
    ]
    kinds = np.select(tests, [PLACED, CLASS, DUPLICATE, BACKGROUND], BOTH).astype(np.int8)
    kinds[~matching.wrong] = NO_MISTAKE
    truths = np.select([kinds == PLACED, kinds == CLASS], [same_truth, other_truth], -1)
    standing = np.flatnonzero(truths >= 0)
    standing = standing[~matching.found[truths[standing]]]
    missed = ~matching.found & ~compared.crowd
    missed[truths[standing]] = False
    # The first of each annotation, by falling score.
    standing = standing[np.argsort(-compared.scores[standing], kind="stable")]
    _, first = np.unique(truths[standing], return_index=True)
    candidates = np.zeros(count, np.bool_)
    candidates[standing[first]] = True
    return Mistakes(kinds, truths, candidates, missed)


def _without_crowds(compared: Comparison) -> Pairs:
    kept = ~compared.crowd[compared.pairs.truths]
    pairs = compared.pairs
    return Pairs(pairs.detections[kept], pairs.truths[kept], pairs.ious[kept])


def _best(pairs: Pairs, allowed: Flags, count: int) -> tuple[Floats, Ints]:
    """(D,) the largest overlap of each detection among allowed pairs, or 0, and the first such annotation, or -1."""
    detections, truths, ious = pairs.detections[allowed], pairs.truths[allowed], pairs.ious[allowed]
    best = np.zeros(count)
    np.maximum.at(best, detections, ious)
    chosen = np.full(count, -1, np.int64)
    ahead = ious == best[detections]
    chosen[detections[ahead][::-1]] = truths[ahead][::-1]  # of equal ones the first stays, as it is written last
    return best, chosen
