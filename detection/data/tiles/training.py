"""Tiles of large images as augmented samples, each time at another place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from detection.data.boxes import Ints
from detection.data.dataset import BoxImages, Sample
from detection.data.tiles.cutting import TiledImages, shown_boxes, shown_shares
from detection.data.tiles.options import TrainingTiles
from engine.data.augment import ImageAugmenter
from engine.data.sampling.labels import SampleLabels
from engine.errors import InputError
from engine.reading.images import pad_to_canvas
from engine.reading.reader import filled

_TRIES = 8  # at tiles without an object, of which an ortho picture has many outside of its flight


class TrainingTileSet(Dataset[Sample]):
    """The tiles of a set of images: all that show an object, and as many without as are asked for.

    Every time a tile is taken it is moved at random, by up to half a step of the grid, so that objects are cut at
    other places. Places, like all that is random in a sample, follow from the seed, the pass and the number of the
    sample (`engine.data.mixture`). A tile of an image that is smaller is filled up, so that all have one scale.

    Args:
        images: the set; its augmenter is not used.
        options: the tiles.
        augmenter: what may happen to a tile.

    Raises:
        InputError: no tile shows an object.
    """

    def __init__(self, images: BoxImages, options: TrainingTiles, augmenter: ImageAugmenter) -> None:
        assert options.window is not None
        self.images = images
        self.options = options
        self.window = options.window
        self.augmenter = augmenter
        self.tiles = TiledImages(images, options)
        self._shown = self._objects()
        some = np.zeros(len(self.tiles), np.bool_)
        some[self._shown[0]] = True
        self.full: Ints = np.flatnonzero(some)
        self.empty: Ints = np.flatnonzero(~some)
        self.empty_count = min(len(self.empty), round(options.empty * len(self.full)))
        if not len(self.full):
            msg = (
                f"no tile of {self.window} px of '{self.name}' shows as much as {options.min_visible:g} of an object. "
                "Give a larger --data.tiles.window, or a smaller --data.tiles.min_visible."
            )
            raise InputError(msg)

    @property
    def name(self) -> str:
        """What messages call the set."""
        return self.images.name

    def image_path(self, index: int) -> Path:
        """The file of a tile's image."""
        number = self.full[index] if index < len(self.full) else self.empty[index - len(self.full)]
        return self.images.image_path(self.tiles.place(int(number))[0])

    def __len__(self) -> int:
        return len(self.full) + self.empty_count

    def __getitem__(self, index: int) -> Sample:
        if index < len(self.full):
            return self._sample(int(self.full[index]))
        if self.empty_count == len(self.empty):
            return self._sample(int(self.empty[index - len(self.full)]))
        for _ in range(_TRIES):
            sample = self._sample(int(self.empty[_random(len(self.empty))]))
            if sample.valid is None or sample.valid.any():
                break
        return sample

    def _sample(self, number: int) -> Sample:
        index, _ = self.tiles.place(number)
        area = self._moved(index, number)
        pixels = self.tiles.read(index, area)
        boxes, class_ids = self.images.usable_boxes(index)
        shown = shown_boxes(boxes, class_ids, area, self.options.min_visible)
        whole = pad_to_canvas(
            filled(pixels, self.images.read.fill_color), (self.window, self.window), self.images.fill_color
        )
        image, boxes, kept, _ = self.augmenter(whole, shown.boxes_xyxy)
        image_id = int(self.images.source.image_ids[index])
        size_hw = (area[3] - area[1], area[2] - area[0])
        return Sample(image, boxes, shown.class_ids[kept], image_id, float("nan"), size_hw, pixels.valid)

    def _moved(self, index: int, number: int) -> tuple[int, int, int, int]:
        """A tile moved at random within its image; left, top, right, bottom."""
        tiling = self.tiles.tilings[index]
        left, top, right, bottom = self.tiles.area(number)
        reach = (self.window - tiling.overlap) // 2
        x, y = (
            min(max(0, start + _random(2 * reach + 1) - reach), max(0, length - self.window))
            for start, length in ((left, tiling.size_hw[1]), (top, tiling.size_hw[0]))
        )
        return x, y, x + right - left, y + bottom - top

    def labels(self) -> SampleLabels:
        """Which classes the tiles show; those without an object show none."""
        tiles, class_ids = self._shown
        return SampleLabels.counted(len(self), np.searchsorted(self.full, tiles), class_ids)

    def _objects(self) -> tuple[Ints, Ints]:
        """The tiles of the grid that show enough of an object, and its class: an entry for each object and tile."""
        tiles, shown = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for index in range(len(self.images)):
            boxes, class_ids = self.images.usable_boxes(index)
            if not len(boxes):
                continue
            first, end = self.tiles.ends[index : index + 2].tolist()
            areas = np.array([self.tiles.area(number) for number in range(first, end)], np.float64)
            shares = shown_shares(boxes, areas)
            rows, columns = np.nonzero((shares >= self.options.min_visible) & (shares > 0))
            tiles.append(first + rows)
            shown.append(class_ids[columns])
        return np.concatenate(tiles), np.concatenate(shown)


def _random(count: int) -> int:
    """A number from 0 to below `count`, by the generator that the loader seeds for each sample."""
    return int(torch.randint(count, ()).item())
