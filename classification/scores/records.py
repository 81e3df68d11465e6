"""What an evaluation found in each image, collected over batches and processes into the scores of the set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from classification.data.classes import LabelClasses
from classification.scores.metric import ClassificationScores, several_scores, single_scores
from engine.distributed import all_gather_objects


@dataclass(frozen=True, eq=False)
class Collected:
    """All images of an evaluation, by their places in the set.

    Attributes:
        places: (N,) ascending.
        probabilities: (N, K) float32.
        targets: (N,) int64 rows, or (N, K) of 0 and 1.
    """

    places: npt.NDArray[np.int64]
    probabilities: Tensor
    targets: Tensor


class ClassificationRecords:
    """Collects probabilities and labels, for any batches and any number of processes.

    An image that comes again is dropped: the sampler of several processes repeats images to give each the same number.

    Args:
        classes: the class list.
        threshold: where images have several labels, classes of this probability or more are found.
    """

    def __init__(self, classes: LabelClasses, threshold: float) -> None:
        self.classes = classes
        self.threshold = threshold
        self._places: list[Tensor] = []
        self._probabilities: list[Tensor] = []
        self._targets: list[Tensor] = []

    def add(self, places: Tensor, probabilities: Tensor, targets: Tensor) -> None:
        """Take the images of a batch.

        Args:
            places: (B,) their places in the set.
            probabilities: (B, K).
            targets: (B,) rows, or (B, K) of 0 and 1.
        """
        self._places.append(places.detach())
        self._probabilities.append(probabilities.detach().float())
        self._targets.append(targets.detach())

    def gather(self) -> Collected:
        """The images of all processes, on each process; all must call this at once."""
        own = None
        if self._places:
            parts = (self._places, self._probabilities, self._targets)
            own = tuple(torch.cat(part).cpu() for part in parts)
        known = [each for each in all_gather_objects(own) if each is not None]
        if not known:
            empty = torch.zeros(0, len(self.classes))
            return Collected(np.zeros(0, np.int64), empty, empty if self.classes.several else empty[:, 0].long())
        places, probabilities, targets = (torch.cat([each[part] for each in known]) for part in range(3))
        kept, first = np.unique(places.numpy(), return_index=True)
        rows = torch.from_numpy(first)
        return Collected(kept, probabilities[rows], targets[rows])

    def scores(self) -> ClassificationScores:
        """The scores of all images; all processes must call this at once."""
        found = self.gather()
        if self.classes.several:
            return several_scores(self.classes, found.probabilities, found.targets, self.threshold)
        return single_scores(self.classes, found.probabilities, found.targets)
