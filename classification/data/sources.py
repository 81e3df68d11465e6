"""A set of images with labels: what every format offers, and the one of image files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from classification.data.classes import LabelClasses
from engine.reading.images import UInt8Array
from engine.reading.reader import PixelReader

Rows: TypeAlias = npt.NDArray[np.int64]
Targets: TypeAlias = Rows | npt.NDArray[np.float32]


class LabelSource(Protocol):
    """A split of a set of labelled images."""

    @property
    def source(self) -> str:
        """What messages call the set."""
        ...

    @property
    def classes(self) -> LabelClasses:
        """The classes of the set."""
        ...

    @property
    def targets(self) -> Targets:
        """(N,) int64 rows of `classes`, or (N, K) float32 of 0 and 1 where images have several labels."""
        ...

    def __len__(self) -> int: ...

    def image_path(self, index: int) -> Path:
        """The file of an image."""
        ...

    def image_name(self, index: int) -> str:
        """What tables and reports call an image."""
        ...

    def read_image(self, index: int, read: PixelReader) -> UInt8Array:
        """An image, (H, W, 3) RGB.

        Raises:
            InputError: it cannot be read.
        """
        ...


@dataclass(frozen=True, eq=False)
class LabelledFiles:
    """Image files with their labels.

    Attributes:
        source: what messages call the set.
        classes: the classes of the set.
        paths: N files.
        targets: (N,) int64 rows of `classes`, or (N, K) float32 of 0 and 1 where images have several labels.
    """

    source: str
    classes: LabelClasses
    paths: Sequence[Path]
    targets: Targets

    def __len__(self) -> int:
        return len(self.paths)

    def image_path(self, index: int) -> Path:
        """The file of an image."""
        return self.paths[index]

    def image_name(self, index: int) -> str:
        """Its path."""
        return str(self.paths[index])

    def read_image(self, index: int, read: PixelReader) -> UInt8Array:
        """An image, (H, W, 3) RGB."""
        return read(self.paths[index])

    def part(self, places: npt.NDArray[np.int64]) -> LabelledFiles:
        """The images of some places alone."""
        paths = [self.paths[place] for place in places.tolist()]
        return LabelledFiles(self.source, self.classes, paths, self.targets[places])


def class_counts(targets: Targets, classes: int) -> Rows:
    """(K,) how many images have each class.

    >>> class_counts(np.array([0, 2, 2]), 4).tolist()
    [1, 0, 2, 0]
    """
    if targets.ndim == 2:
        counts: Rows = targets.sum(0).astype(np.int64)
        return counts
    return np.bincount(targets.astype(np.int64), minlength=classes)
