"""Whether scores mean what they say: a reliability diagram, and the expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reliability:
    """Scores in N bins of equal width over [0, 1].

    Attributes:
        edges: (N + 1,) the ends of the bins; a bin holds its lower end, and the last one both.
        counts: (N,) how many scores fall into each.
        scores: (N,) their mean; NaN in an empty bin.
        right: (N,) the share of them that is right; NaN in an empty bin.
    """

    edges: Floats
    counts: NDArray[np.int64]
    scores: Floats
    right: Floats

    @property
    def expected_error(self) -> float:
        """The mean distance of score and share of right ones over all scores; NaN without scores.

        Guo et al., ICML 2017, "On calibration of modern neural networks", equation 3.
        """
        return (
            float(np.nansum(self._distances * self.counts) / self.counts.sum()) if self.counts.any() else float("nan")
        )

    @property
    def largest_error(self) -> float:
        """The largest distance of a bin, equation 5 of the same; NaN without scores."""
        return float(np.nanmax(self._distances)) if self.counts.any() else float("nan")

    @property
    def _distances(self) -> Floats:
        return np.abs(self.scores - self.right)


def reliability(scores: NDArray[np.floating], right: NDArray[np.bool_], bins: int = 10) -> Reliability:
    """Sort scores into bins.

    Args:
        scores: (D,) in [0, 1].
        right: (D,) whether the answer of each score is right.
        bins: how many bins.
    """
    edges = np.linspace(0, 1, bins + 1)
    rows = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, bins - 1)
    counts = np.bincount(rows, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(rows, weights=scores, minlength=bins) / counts
        share = np.bincount(rows, weights=right, minlength=bins) / counts
    return Reliability(edges, counts, mean, share)
