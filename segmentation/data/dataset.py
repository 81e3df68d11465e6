"""Pictures and masks as training crops and as whole images, and batches of both."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from engine.data.mixing import Parts
from engine.data.sampling.labels import SampleLabels
from engine.data.sampling.repeats import ClassFocus
from engine.distributed import is_main
from engine.errors import InputError, SampleError
from engine.names import known_places, respelled, shown_names
from engine.reading.images import UInt8Array
from engine.reading.reader import PixelReader, filled
from engine.threads import free_cores
from segmentation.data.augment import CropAugmenter
from segmentation.data.batch import EvaluationBatch, SegmentationBatch
from segmentation.data.cityscapes.files import read_instance_ids
from segmentation.data.classes import IGNORED, MaskClasses
from segmentation.data.pairs import MaskSource, Pair, read_image_of

_log = logging.getLogger(__name__)


class Crop(NamedTuple):
    """One augmented sample.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        class_ids: (H, W) uint8 rows of the model; `IGNORED` is not counted.
    """

    image: UInt8Array
    class_ids: UInt8Array


class WholeImage(NamedTuple):
    """One unchanged sample.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        class_ids: (H, W) uint8 rows of the model; `IGNORED` is not counted.
        instance_ids: (H, W) int32 as in Cityscapes, or None.
        place: its index in the data set.
    """

    image: UInt8Array
    class_ids: UInt8Array
    instance_ids: npt.NDArray[np.int32] | None
    place: int


def parts_of(crop: Crop) -> Parts:
    """What is mixed of a crop."""
    return Parts(crop.image, np.empty((0, 4), np.float32), np.empty(0, np.int64), crop.class_ids)


def with_parts(crop: Crop, parts: Parts) -> Crop:
    """The crop with other parts."""
    assert parts.mask is not None
    return crop._replace(image=parts.image, class_ids=parts.mask)


class TrainingCrops(Dataset[Crop]):
    """Augmented crops of a set of pictures.

    Args:
        files: the pictures and masks.
        classes: rows of the model, among which the files' classes are looked up by name.
        augmenter: makes the crop.
        repeat: how often each picture occurs in one pass.
        read: reads the pictures.

    Raises:
        InputError: the model has no row for a class.
    """

    def __init__(
        self,
        files: MaskSource,
        classes: MaskClasses,
        augmenter: CropAugmenter,
        repeat: int = 1,
        read: PixelReader = PixelReader(),
    ) -> None:
        self.files = files
        self.read = read
        self.augmenter = augmenter
        self.repeat = repeat
        self.focus: ClassFocus | None = None  # the class that a crop shows, where images are taken for their classes
        self._rows = model_rows(files, classes)

    @property
    def name(self) -> str:
        """What messages call the set."""
        return self.files.source

    def labels(self) -> SampleLabels:
        """Which classes the pictures show: rows of the model, and how many pixels of each. All masks are read."""
        return mask_labels(self.files, self._rows).repeated(self.repeat)

    def image_path(self, index: int) -> Path:
        """The file of a picture."""
        return self.files.pairs[index % len(self.files.pairs)].image

    def __len__(self) -> int:
        return len(self.files.pairs) * self.repeat

    def __getitem__(self, index: int) -> Crop:
        if not 0 <= index < len(self):
            raise IndexError(index)
        pair = self.files.pairs[index % len(self.files.pairs)]
        wanted = None if self.focus is None else self.focus.draw(index)
        return Crop(*self.augmenter(*read_pair(self.files, pair, self._rows, self.read), wanted))


class WholeImages(Dataset[WholeImage]):
    """Pictures and masks at full size, with instances if all pictures have them.

    Args:
        files: the pictures and masks.
        classes: rows of the model, among which the files' classes are looked up by name.
        read: reads the pictures.

    Raises:
        InputError: the model has no row for a class.
    """

    def __init__(self, files: MaskSource, classes: MaskClasses, read: PixelReader = PixelReader()) -> None:
        self.files = files
        self.read = read
        self._rows = model_rows(files, classes)

    @property
    def name(self) -> str:
        """What messages call the set."""
        return self.files.source

    def image_path(self, index: int) -> Path:
        """The file of a picture."""
        return self.files.pairs[index].image

    def __len__(self) -> int:
        return len(self.files.pairs)

    def __getitem__(self, index: int) -> WholeImage:
        pair = self.files.pairs[index]
        image, class_ids = read_pair(self.files, pair, self._rows, self.read)
        return WholeImage(image, class_ids, read_instances_of(pair, class_ids.shape), index)


def collate_crops(samples: Sequence[Crop]) -> SegmentationBatch:
    """Stack crops of one size; the images' memory is channels-last."""
    class_ids = torch.stack([torch.from_numpy(sample.class_ids) for sample in samples])
    return SegmentationBatch(_stacked([sample.image for sample in samples]), class_ids)


def collate_images(samples: Sequence[WholeImage]) -> EvaluationBatch:
    """Stack whole images of one size; the images' memory is channels-last.

    Raises:
        InputError: the sizes differ.
    """
    sizes = sorted({(sample.image.shape[0], sample.image.shape[1]) for sample in samples})
    if len(sizes) > 1:
        (height, width), (other_height, other_width) = sizes[0], sizes[-1]
        msg = (
            f"one evaluation batch has images of {width}x{height} and {other_width}x{other_height} (width x height). "
            "Give --data.eval_batch_size 1."
        )
        raise SampleError(msg)
    return EvaluationBatch(
        _stacked([sample.image for sample in samples]),
        torch.tensor([sample.place for sample in samples], dtype=torch.int64),
        [sample.class_ids for sample in samples],
        [sample.instance_ids for sample in samples if sample.instance_ids is not None],
    )


def model_rows(files: MaskSource, classes: MaskClasses) -> UInt8Array:
    """(256,) the model's row by the files' row; `IGNORED` is unchanged.

    Classes are matched by name; capitals, spaces, hyphens and underscores do not count where no row has the very name,
    and one line says so.

    Raises:
        InputError: the model has no class with one of the names.
    """
    names = files.classes.names
    places = known_places(files.source, names, classes.names)
    if len(set(places)) < len(places):
        twice = next(place for place in places if places.count(place) > 1)
        both = [name for name, place in zip(names, places, strict=True) if place == twice]
        msg = (
            f"the data in '{files.source}' have two classes for the model's '{classes.names[twice]}': "
            f"{shown_names(both)}. Give each its own name, or merge them."
        )
        raise InputError(msg)
    note = respelled(files.source, [(name, classes.names[place]) for name, place in zip(names, places, strict=True)])
    if note and is_main():
        _log.warning(note)
    rows = np.full(256, IGNORED, dtype=np.uint8)
    rows[: len(names)] = places
    return rows


def mask_labels(files: MaskSource, rows: UInt8Array) -> SampleLabels:
    """The classes that the pictures of a set show, in pixels; a mask that cannot be read shows none."""

    def counts(pair: Pair) -> npt.NDArray[np.int64]:
        try:
            return np.bincount(rows[files.read_mask(pair.mask)].ravel(), minlength=256)[:IGNORED]
        except InputError:  # the training says which, and stops or goes on as it is told
            return np.zeros(IGNORED, np.int64)

    with ThreadPoolExecutor(free_cores()) as pool:
        return SampleLabels.of_table(np.stack(list(pool.map(counts, files.pairs))))


def read_pair(files: MaskSource, pair: Pair, rows: UInt8Array, read: PixelReader) -> tuple[UInt8Array, UInt8Array]:
    """The picture of one pair, and its mask in the model's rows; pixels without data are not counted.

    Raises:
        SampleError: one of them cannot be read, or their sizes differ.
    """
    try:
        class_ids = rows[files.read_mask(pair.mask)]
        pixels = read_image_of((class_ids.shape[0], class_ids.shape[1]), pair, read)
    except InputError as error:
        raise SampleError(str(error)) from None
    return filled(pixels, read.fill_color), counted(class_ids, pixels.valid)


def counted(class_ids: UInt8Array, valid: npt.NDArray[np.bool_] | None) -> UInt8Array:
    """Rows of a mask, `IGNORED` where the picture has no data."""
    return class_ids if valid is None else np.where(valid, class_ids, np.uint8(IGNORED))


def read_instances_of(pair: Pair, size_hw: tuple[int, ...]) -> npt.NDArray[np.int32] | None:
    """The instance ids (H, W) of a pair, None where it has none.

    Raises:
        SampleError: they cannot be read, or do not have the mask's height and width.
    """
    if pair.instances is None:
        return None
    try:
        instance_ids = read_instance_ids(pair.instances)
    except InputError as error:
        raise SampleError(str(error)) from None
    if instance_ids.shape != size_hw:
        (height, width), (own_height, own_width) = size_hw, instance_ids.shape
        msg = (
            f"instances '{pair.instances}' are {own_width}x{own_height} (width x height) but the mask is "
            f"{width}x{height}. Give both of one image."
        )
        raise SampleError(msg)
    return instance_ids


def _stacked(images: Sequence[UInt8Array]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(image) for image in images]).permute(0, 3, 1, 2)
