"""Balanced sampling: every class equally often in a pass, and every image of a class equally often over the passes.

No image is drawn on the way, so that a resumed training sees the same ones (`engine.data.mixture`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from classification.data.sources import Targets


class BalancedOrder:
    """Which image a place of a pass has.

    Args:
        targets: (N,) rows, or (N, K) of 0 and 1; a class without images is left out.
    """

    def __init__(self, targets: Targets) -> None:
        several = targets.ndim == 2
        rows = range(targets.shape[1]) if several else range(int(targets.max()) + 1)
        members = [np.flatnonzero(targets[:, row] > 0 if several else targets == row) for row in rows]
        self._members = [images for images in members if len(images)]
        self._length = len(targets)

    def index(self, place: int, visit: int) -> int:
        """The image of a place in a pass over the set, counted from 0."""
        classes = len(self._members)
        which = place % classes
        images = self._members[which]
        # How many images of the class come in a pass: one for each place that is its own.
        in_pass = len(range(which, self._length, classes))
        turn, rest = divmod(visit * in_pass + place // classes, len(images))
        return int(images[_order(which, turn, len(images))[rest]])


@lru_cache(maxsize=4096)  # an order for each class
def _order(which: int, turn: int, size: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(np.random.SeedSequence(0, spawn_key=(which, turn))).permutation(size)
