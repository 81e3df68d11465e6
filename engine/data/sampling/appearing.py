"""Which classes the training images have shown so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

_EVERY = 4  # pixels of a mask from one that is looked at to the next, in both directions


class Appearing:
    """The classes that no batch has shown yet.

    Args:
        names: the names of the classes by row, for each kind of labels, such as boxes and pixels; rows without a name
            stand for no class.
    """

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self.names = {kind: tuple(own) for kind, own in names.items()}
        self._missing = {kind: {row for row, name in enumerate(own) if name} for kind, own in names.items()}

    def look(self, shown: Mapping[str, Tensor]) -> None:
        """Take a batch, whose labels are not on another device: rows of boxes (B, N), or of pixels (B, H, W)."""
        for kind, rows in shown.items():
            if missing := self._missing.get(kind):
                seen = rows if rows.dim() < 3 else rows[:, ::_EVERY, ::_EVERY]
                missing.difference_update(seen.unique().tolist())

    def missing(self) -> dict[str, list[str]]:
        """The names of the classes that were not shown, by kind, in the order of their rows."""
        return {kind: [self.names[kind][row] for row in sorted(rows)] for kind, rows in self._missing.items() if rows}
