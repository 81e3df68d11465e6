"""The tiles of a set of images, and what each shows of their boxes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detection.data.boxes import Ints, size_of
from detection.data.dataset import BoxImages
from engine.errors import InputError, SampleError
from engine.large.opening import open_windows
from engine.large.options import InTiles
from engine.large.tiling import Tiling
from engine.reading.images import FloatArray
from engine.reading.raster_file import Pixels, PixelSource
from engine.reading.reader import PixelReader, refuse_unused

_OPEN = 2  # files that stay open: a picture that is no raster is held decoded


class Shown(NamedTuple):
    """What a tile shows of the boxes of its image.

    Attributes:
        boxes_xyxy: (N, 4) float32 pixels of the tile, cut at its ends.
        class_ids: (N,) int64 rows of the model's class list.
    """

    boxes_xyxy: FloatArray
    class_ids: npt.NDArray[np.int64]


def shown_shares(boxes_xyxy: FloatArray, areas_xyxy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(T, N) the share of the area of N boxes, which have one, that T areas show."""
    boxes = boxes_xyxy.astype(np.float64)
    low = np.maximum(boxes[None, :, :2], areas_xyxy[:, None, :2])
    high = np.minimum(boxes[None, :, 2:], areas_xyxy[:, None, 2:])
    shares: npt.NDArray[np.float64] = np.clip(high - low, 0, None).prod(2) / (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return shares


def shown_boxes(
    boxes_xyxy: FloatArray, class_ids: npt.NDArray[np.int64], area_xyxy: Sequence[int], min_visible: float
) -> Shown:
    """The boxes of an image that a part of it shows.

    Args:
        boxes_xyxy: (N, 4) pixels of the image; each has an area.
        class_ids: (N,).
        area_xyxy: left, top, right, bottom of the part.
        min_visible: boxes of which it shows a smaller share are left out, and those of which it shows nothing.
    """
    area = np.array([area_xyxy], np.float64)
    shares = shown_shares(boxes_xyxy, area)[0]
    kept = (shares >= min_visible) & (shares > 0)
    corners = np.clip(boxes_xyxy[kept], np.tile(area[0, :2], 2), np.tile(area[0, 2:], 2)) - np.tile(area[0, :2], 2)
    return Shown(corners.astype(np.float32), class_ids[kept])


class TiledImages:
    """The tiles of a set of images, numbered image by image; their files are read window by window.

    Args:
        images: the set.
        tiles: their tiles.
        side: of the canvas that a tile is laid on.
        cell: see `InTiles.tiling`.

    Raises:
        InputError: the size of an image that the annotations do not state cannot be read.
    """

    def __init__(self, images: BoxImages, tiles: InTiles, side: int | None = None, cell: int = 1) -> None:
        self.images = images
        self._windows = _Windows(images.read)
        self.tilings: list[Tiling] = []
        for index in range(len(images)):
            tiling = tiles.tiling(self._size_hw(index), side, cell)
            assert tiling is not None
            self.tilings.append(tiling)

    @cached_property
    def ends(self) -> Ints:
        """(I + 1,); the tiles of image i have the numbers from end i to end i + 1."""
        counts = np.array([len(tiling) for tiling in self.tilings], np.int64)
        return np.concatenate([np.zeros(1, np.int64), counts.cumsum()])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def place(self, number: int) -> tuple[int, int]:
        """The image of a tile, and which of the image's tiles it is."""
        index = int(np.searchsorted(self.ends, number, side="right")) - 1
        return index, number - int(self.ends[index])

    def area(self, number: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of a tile in pixels of its image."""
        index, which = self.place(number)
        tiling = self.tilings[index]
        row, column = divmod(which, len(tiling.horizontal))
        rows, columns = tiling.vertical.spans[row], tiling.horizontal.spans[column]
        return columns.start, rows.start, columns.stop, rows.stop

    def read(self, index: int, area_xyxy: Sequence[int]) -> Pixels:
        """The pixels of a part of an image.

        Raises:
            SampleError: the image cannot be read, or has another size than its annotations.
        """
        left, top, right, bottom = area_xyxy
        path = self.images.image_path(index)
        try:
            source = self._windows(path, size_of(self.images.source, index))
            return source.read(slice(top, bottom), slice(left, right))
        except InputError as error:
            raise SampleError(str(error)) from None

    def _size_hw(self, index: int) -> tuple[int, int]:
        stated = size_of(self.images.source, index)
        if stated is not None:
            return stated
        try:
            with closing(open_windows(self.images.image_path(index), self.images.read.reading)) as source:
                return source.size_hw
        except InputError:
            return 1, 1  # what reads the image says what is wrong with it


class _Windows:
    """Opens files, and keeps the last few open, each process its own.

    Args:
        read: how they are read.
    """

    def __init__(self, read: PixelReader) -> None:
        self._read = read
        self._open: dict[Path, PixelSource] = {}
        self._process = os.getpid()

    def __call__(self, path: Path, size_hw: tuple[int, int] | None) -> PixelSource:
        """The file, open; it has the size that annotations state.

        Raises:
            InputError: it cannot be read, or has another size.
        """
        if self._process != os.getpid():  # files of the process that made this one are not shared
            self._open, self._process = {}, os.getpid()
        source = self._open.pop(path, None)
        if source is None:
            if self._read.strict and path.is_file():
                refuse_unused(path, self._read.reading)
            source = open_windows(path, self._read.reading, size_hw)
        self._open[path] = source
        while len(self._open) > _OPEN:
            self._open.pop(next(iter(self._open))).close()
        return source

    def __getstate__(self) -> dict[str, object]:
        return {"_read": self._read, "_open": {}, "_process": self._process}
