"""Which classes the samples of a training set show, and how much of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class SampleLabels(NamedTuple):
    """The classes of N samples, one entry for each sample and class that it shows.

    Attributes:
        samples: N.
        sample_ids: (E,) places of the samples.
        class_ids: (E,).
        amounts: (E,) how much of the class the sample shows, above 0: boxes, or pixels.
    """

    samples: int
    sample_ids: Ints
    class_ids: Ints
    amounts: Floats

    @classmethod
    def counted(cls, samples: int, sample_ids: Ints, class_ids: Ints) -> SampleLabels:
        """The labels of single objects, each given by its sample and its class."""
        if not len(class_ids):
            return cls(samples, np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        classes = int(class_ids.max()) + 1
        pairs, counts = np.unique(sample_ids * classes + class_ids, return_counts=True)
        return cls(samples, pairs // classes, pairs % classes, counts.astype(np.float64))

    @classmethod
    def of_table(cls, amounts: npt.NDArray[np.int64]) -> SampleLabels:
        """The labels of a table (N, K) of amounts."""
        sample_ids, class_ids = np.nonzero(amounts)
        found = amounts[sample_ids, class_ids].astype(np.float64)
        return cls(len(amounts), sample_ids.astype(np.int64), class_ids.astype(np.int64), found)

    def taken(self, places: Ints) -> SampleLabels:
        """The labels of some samples, each at most once, in the order of their places in the list."""
        where = np.full(self.samples, -1)
        where[places] = np.arange(len(places))
        kept = where[self.sample_ids] >= 0
        ids = where[self.sample_ids[kept]]
        return SampleLabels(len(places), ids, self.class_ids[kept], self.amounts[kept])

    def repeated(self, times: int) -> SampleLabels:
        """The labels of a set that is several times in a row."""
        shifts = np.repeat(np.arange(times) * self.samples, len(self.sample_ids))
        ids, classes = np.tile(self.sample_ids, times) + shifts, np.tile(self.class_ids, times)
        return SampleLabels(self.samples * times, ids, classes, np.tile(self.amounts, times))


def together(parts: Sequence[SampleLabels]) -> SampleLabels:
    """The labels of several kinds, such as boxes and masks, of the same samples; classes of each stay apart."""
    shifts = np.cumsum([0, *(int(part.class_ids.max(initial=-1)) + 1 for part in parts)])
    return SampleLabels(
        parts[0].samples,
        np.concatenate([part.sample_ids for part in parts]),
        np.concatenate([part.class_ids + shift for part, shift in zip(parts, shifts[:-1], strict=True)]),
        np.concatenate([part.amounts for part in parts]),
    )


@runtime_checkable
class Labelled(Protocol):
    """A training set that can say which classes its samples show."""

    def labels(self) -> SampleLabels:
        """The classes of all samples; this may read all masks."""
        ...
