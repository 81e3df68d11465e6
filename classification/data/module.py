"""Labelled images as the data loaders of Lightning's training, validation and test."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal

from classification.data.augment import ClassificationAugmentation
from classification.data.classes import LabelClasses
from classification.data.contracts import ClassifierTask
from classification.data.dataset import (
    GrowingImages,
    LabelledImage,
    LabelledImages,
    WholeImages,
    WholeSample,
    collate_training,
    collate_whole,
    model_targets,
)
from classification.data.framing import Framing
from classification.data.sets.cifar import CifarData, read_cifar
from classification.data.sets.folders import read_folders
from classification.data.sets.imagenet import read_imagenet
from classification.data.sets.tables import TableData, read_tables
from classification.data.sources import LabelSource, Rows, class_counts
from classification.training.progressive import Progressive, check_policy
from engine.checked import checked
from engine.data.bad_images import ImageSet, OnBadImage, ReadableImages
from engine.data.contracts import SplitName
from engine.data.mixing import Paced
from engine.data.module import SplitData
from engine.data.sampling.settings import BoxSampling
from engine.errors import InputError
from engine.numbers import NonNegativeInt, PositiveInt
from engine.reading.options import Reading

_UNTOLD = Framing(224, 0.875, "center", "bicubic", (0.485, 0.456, 0.406))


class ClassificationDataModule(SplitData[ClassifierTask, LabelledImage, WholeSample]):
    """Images in folders of classes, with a table of labels, of CIFAR, or of ImageNet.

    Args:
        format: `folder`: root/train/CLASS/…, root/val/CLASS/…, or root/CLASS/… with `split`; `table`: a CSV of files
            and labels; `cifar`: CIFAR-10 or CIFAR-100 in the binary version; `imagenet`: folders of synsets.
        root: folder of the set, from which other paths start.
        split: shares of train, val and test of a set without splits, such as 0.8/0.1/0.1; where an image goes depends
            on its name alone.
        group: a regular expression; images whose names match it alike, in its first bracket or as a whole, stay in one
            split, such as those of a patient.
        table: where the labels of a table stand.
        cifar: how CIFAR is used.
        sampling: which training images come more often, by their classes.
        batch_size: images per device and training step.
        eval_batch_size: images per device and step of validation and test; null is `batch_size`.
        num_workers: processes that read and augment, per device; null takes as many as there are processors, at
            most 8.
        augmentation: what may happen to training images.
        on_bad_image: "stop" ends the training at a missing or broken image, "skip" takes another one in its place,
            leaves it out of the scores, and lists it in bad_images.jsonl in the run's folder.
        bands: numbers, from 1, of the bands of rasters that are red, green and blue, or of one grey band; by default
            those that a file marks so, else the first three. The checkpoint keeps this, as the two that follow.
        value_range: values of rasters and 16-bit pictures that become 0 and 255; needed for rasters without 8 bits.
        nodata: value of a raster's pixels without data, if files do not state it.
    """

    collate = staticmethod(collate_training)
    collate_whole = staticmethod(collate_whole)

    @checked
    def __init__(
        self,
        format: Literal["folder", "table", "cifar", "imagenet"] = "folder",
        root: str | None = None,
        split: str | None = None,
        group: str | None = None,
        table: TableData = TableData(),
        cifar: CifarData = CifarData(),
        sampling: BoxSampling = BoxSampling(),
        batch_size: PositiveInt = 32,
        eval_batch_size: PositiveInt | None = None,
        num_workers: NonNegativeInt | None = None,
        augmentation: ClassificationAugmentation = ClassificationAugmentation(),
        on_bad_image: OnBadImage = "stop",
        bands: tuple[PositiveInt, ...] | None = None,
        value_range: tuple[float, float] | None = None,
        nodata: float | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, eval_batch_size, on_bad_image, Reading(bands, value_range, nodata))
        given = {"split": split, "group": group}
        if format in ("cifar", "imagenet") and (misplaced := [name for name, value in given.items() if value]):
            msg = f"data.{misplaced[0]} is given, but {format} has splits of its own. Leave it out."
            raise InputError(msg)
        self.root = Path(root or "")
        self.format = format
        self.split = split
        self.group = group
        self.table = table
        self.cifar = cifar
        self.sampling = sampling
        self.augmentation = augmentation

    @cached_property
    def _splits(self) -> Mapping[SplitName, LabelSource]:
        """The splits, read once."""
        if self.format == "folder":
            return dict(read_folders(self.root, self.split, self.group))
        if self.format == "table":
            return dict(read_tables(self.root, self.table, self.split, self.group))
        if self.format == "cifar":
            return dict(read_cifar(self.root, self.cifar))
        return dict(read_imagenet(self.root))

    @property
    def classes(self) -> LabelClasses:
        """The class list of a model made for these data."""
        return next(iter(self._splits.values())).classes

    def has(self, split: SplitName) -> bool:
        """Whether the split was given."""
        return split in self._splits

    def files(self, split: SplitName) -> LabelSource:
        """The images and labels of a split.

        Raises:
            InputError: the set has no such split.
        """
        if split not in self._splits:
            msg = f"the set in '{self.root}' has no {split}, only {', '.join(self._splits)}. Give a set that has it."
            raise InputError(msg)
        return self._splits[split]

    def class_counts(self) -> tuple[int, Rows]:
        """How many training images there are, and (K,) how many have each class of the task."""
        targets = model_targets(self.files("train"), self._rows)
        return len(targets), class_counts(targets, len(self._rows))

    @property
    def sampled(self) -> BoxSampling:
        """Which training images come more often."""
        return self.sampling

    def training_sets(self) -> list[ImageSet[LabelledImage]]:
        """The training images as they are; `mixed` augments them.

        Raises:
            InputError: the files cannot be used, or are too few for one step.
        """
        images = LabelledImages(self.files("train"), self._rows, self.reader)
        self.check_train_share(images, images.name)
        return [images]

    def mixed(self, images: ReadableImages[LabelledImage]) -> Paced[LabelledImage]:
        """The training images, augmented as the stage of the training asks."""
        progressive = Progressive() if self.task is None else self.task.progressive
        framing = _UNTOLD if self.task is None else self.task.framing
        check_policy(progressive, self.augmentation.policy)
        stages = [progressive.stage(number, framing.image_size) for number in range(progressive.stages)]
        return GrowingImages(images, [self.augmentation.build(stage, framing) for stage in stages], progressive)

    def whole_sets(self, split: SplitName) -> list[WholeImages]:
        """The images of a split as they are scored."""
        framing = _UNTOLD if self.task is None else self.task.framing
        return [WholeImages(LabelledImages(self.files(split), self._rows, self.reader), framing)]

    @property
    def _rows(self) -> LabelClasses:
        """What the rows of labels mean to the network."""
        return self.classes if self.task is None else self.task.classes
