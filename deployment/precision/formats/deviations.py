"""How far apart the results of two files are, on a few pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FEW = 8  # pictures by which groups of layers are told apart


def deviation(found: Sequence[npt.NDArray[np.float32]], expected: Sequence[npt.NDArray[np.float32]]) -> float:
    """The root mean square of differences, as a share of that of the expected values; the mean over all arrays."""
    shares = [
        float(np.sqrt(np.mean((one - other) ** 2) / max(1e-12, float(np.mean(other**2)))))
        for one, other in zip(found, expected, strict=True)
    ]
    return sum(shares) / len(shares)


def some(count: int, wanted: int = FEW) -> list[int]:
    """The places of a few that lie evenly among `count`."""
    few = min(wanted, count)
    return [round(place * (count - 1) / max(1, few - 1)) for place in range(few)]
