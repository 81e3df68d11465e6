"""Cityscapes and folders of images and masks as the data loaders of Lightning's training, validation and test."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from engine.annotations.files import BrokenRow
from engine.checked import checked
from engine.data.bad_images import OnBadImage, ReadableImages
from engine.data.contracts import BatchSize, SplitName
from engine.data.mixing import MixedImages
from engine.data.module import SplitData
from engine.data.sampling.settings import MaskSampling
from engine.data.supply.canvases import resized_images, resized_labels
from engine.errors import InputError
from engine.numbers import NonNegativeInt, PositiveInt, ZeroToHalf
from engine.reading.options import Reading
from segmentation.data.augment import SegmentationAugmentation
from segmentation.data.batch import SegmentationBatch
from segmentation.data.cityscapes.files import CityscapesData, CityscapesFiles
from segmentation.data.cityscapes.labels import CITYSCAPES
from segmentation.data.class_files import class_list, read_class_list
from segmentation.data.classes import MaskClasses
from segmentation.data.contracts import SegmenterTask
from segmentation.data.dataset import (
    Crop,
    TrainingCrops,
    WholeImage,
    WholeImages,
    collate_crops,
    collate_images,
    parts_of,
    with_parts,
)
from segmentation.data.drawn.masks import DrawnData, DrawnMasks, read_drawn
from segmentation.data.mask_folder import FolderData, MaskFolder
from segmentation.data.masks import MaskReader

MaskSet: TypeAlias = MaskFolder | CityscapesFiles | DrawnMasks
NO_MASK = "it has no mask, or is listed and does not exist"
_LEAST_SIDE = 33  # pixels of a crop, as of any picture that the network takes


class SegmentationDataModule(SplitData[SegmenterTask, Crop, WholeImage]):
    """Cityscapes, any folders of images and masks, or images with objects that an annotation tool has drawn.

    Args:
        format: which of the three the data are.
        root: folder that the other paths start from; without it they start from the working folder.
        cityscapes: which parts of Cityscapes are used.
        folder: where your own images and masks are.
        drawn: what becomes of polygons and masks in the label files of a set in `root`.
        crop_size: side of the training crops, or their height and width.
        batch_size: crops per device and step; auto is the largest number that fits the memory.
        eval_batch_size: whole images per device and step; more than one needs images of one size.
        num_workers: processes that read and augment, per device; None takes as many as there are processors, at
            most 8.
        augmentation: what may happen to training images.
        repeat: how often each training image occurs in one epoch; above 1, a small set loses less time between epochs.
        on_bad_image: "stop" ends the training at a missing or broken image or mask, "skip" takes another one
            in its place, leaves it out of the scores, and lists it in bad_images.jsonl in the run's folder.
        bands: numbers, from 1, of the bands of rasters that are red, green and blue, or of one grey band; by default
            those that a file marks so, else the first three. The checkpoint keeps this, as the two that follow.
        value_range: values of rasters and 16-bit pictures that become 0 and 255; needed for rasters without 8 bits.
        nodata: value of a raster's pixels without data, if files do not state it.
        sampling: which training images come more often, by the classes of their pixels.
        multi_scale: by which share the longer side of a step's canvas may be shorter or longer, 0 to 0.5; the canvas
            changes every ten steps.
        cache_mib: memory in which decoded training images are kept, per device; what does not fit is decoded each time.
    """

    collate = staticmethod(collate_crops)
    collate_whole = staticmethod(collate_images)

    @checked
    def __init__(
        self,
        format: Literal["cityscapes", "folder", "drawn"] = "cityscapes",
        root: str | None = None,
        cityscapes: CityscapesData = CityscapesData(),
        folder: FolderData = FolderData(),
        drawn: DrawnData = DrawnData(),
        crop_size: int | tuple[int, int] = (512, 1024),
        batch_size: BatchSize = 8,
        eval_batch_size: PositiveInt = 1,
        num_workers: NonNegativeInt | None = None,
        augmentation: SegmentationAugmentation = SegmentationAugmentation(),
        repeat: PositiveInt = 1,
        on_bad_image: OnBadImage = "stop",
        bands: tuple[PositiveInt, ...] | None = None,
        value_range: tuple[float, float] | None = None,
        nodata: float | None = None,
        sampling: MaskSampling = MaskSampling(),
        multi_scale: ZeroToHalf = 0.0,
        cache_mib: NonNegativeInt = 0,
    ) -> None:
        reading = Reading(bands, value_range, nodata)
        super().__init__(batch_size, num_workers, eval_batch_size, on_bad_image, reading, multi_scale, cache_mib)
        height, width = (crop_size, crop_size) if isinstance(crop_size, int) else crop_size
        self.crop_hw = (height, width)
        if min(self.crop_hw) < _LEAST_SIDE:
            msg = f"crop_size is {crop_size}; allowed is at least {_LEAST_SIDE} pixels."
            raise InputError(msg)
        self.root = Path(root or "")
        self.format = format
        self.cityscapes = cityscapes
        self.folder = folder
        self.drawn = drawn
        self.augmentation = augmentation
        self.repeat = repeat
        self.broken: list[BrokenRow] | None = None
        self.sampling = sampling

    @property
    def sampled(self) -> MaskSampling:
        """See `SplitData`."""
        return self.sampling

    @property
    def cityscapes_scores(self) -> bool:
        """Whether the official Cityscapes scores, including categories and instances, can be computed."""
        return self.format == "cityscapes"

    @cached_property
    def classes(self) -> MaskClasses:
        """The class list of a model made for these data.

        Raises:
            InputError: the folder format has no class list, or it cannot be used.
        """
        if self.format == "cityscapes":
            return CITYSCAPES
        if self.format == "drawn":
            return next(iter(self._drawn.values())).classes
        given = self.folder.classes
        if given is None:
            msg = "the data have no class list. Give --data.folder.classes, such as '[background, nucleus]'."
            raise InputError(msg)
        return read_class_list(self.root / given) if isinstance(given, str) else class_list(given)

    def has(self, split: SplitName) -> bool:
        """Whether the split was given."""
        if self.format == "folder":
            images, masks, _ = self.folder.of(split)
            return images is not None or masks is not None
        if self.format == "drawn":
            return split in self._drawn
        return bool(self._splits(split))

    def files(self, split: SplitName, *, leave_out: bool | None = None) -> MaskSet:
        """The pairs of a split.

        Args:
            split: its name.
            leave_out: whether images without a mask are left out; None does as `on_bad_image` says.

        Raises:
            InputError: the split was not given, or its files are missing or do not form pairs.
        """
        leave_out = self.on_bad_image == "skip" if leave_out is None else leave_out
        if self.format == "folder":
            folder = self.folder
            reader = MaskReader(self.classes, folder.mask_format, folder.ignore_values, folder.ignore_colors)
            images, masks, names = folder.of(split)
            return MaskFolder(
                self._path(images, f"{split}_images"),
                self._path(masks, f"{split}_masks"),
                reader,
                image_suffix=folder.image_suffix,
                mask_suffix=folder.mask_suffix,
                list_file=None if names is None else self.root / names,
                leave_out=leave_out,
            )
        if self.format == "drawn":
            if split not in self._drawn:
                msg = f"the set in '{self.root}' has no {split}, only {', '.join(self._drawn)}. Give a set that has it."
                raise InputError(msg)
            return self._drawn[split]
        if not self._splits(split):
            option = "train_splits" if split == "train" else f"{split}_split"
            msg = f"the data have no '{option}'. Give --data.cityscapes.{option}."
            raise InputError(msg)
        return CityscapesFiles(
            self.root,
            self._splits(split),
            self.cityscapes.annotations if split == "train" else "fine",
            leave_out=leave_out,
        )

    def training_sets(self) -> list[TrainingCrops]:
        """The augmented training crops.

        Raises:
            InputError: the files cannot be used, or are too few for one step.
        """
        augmenter = self.augmentation.build(self.crop_hw, self.fill_color)
        files = self.files("train")
        self.leave_out("train", files.unpaired, NO_MASK)
        crops = TrainingCrops(files, self._rows, augmenter, self.repeat, self.reader_of("train"))
        self.check_train_share(crops, crops.files.source, ", or --data.repeat")
        return [crops]

    def mixed(self, images: ReadableImages[Crop]) -> ReadableImages[Crop] | MixedImages[Crop]:
        """The training crops, mixed as the augmentation asks."""
        mixing = self.augmentation.mixing
        return MixedImages(images, mixing, parts_of, with_parts) if mixing.mixes else images

    def class_names(self) -> dict[str, tuple[str, ...]]:
        """See `SplitData`."""
        return {"pixels": self._rows.names}

    @staticmethod
    def resized(batch: object, size_hw: tuple[int, int]) -> SegmentationBatch:
        """See `SplitData`."""
        assert isinstance(batch, SegmentationBatch)
        return SegmentationBatch(resized_images(batch.images, size_hw), resized_labels(batch.class_ids, size_hw))

    @staticmethod
    def shown(batch: object) -> dict[str, Tensor]:
        """See `SplitData`."""
        assert isinstance(batch, SegmentationBatch)
        return {"pixels": batch.class_ids}

    def whole_sets(self, split: SplitName) -> list[WholeImages]:
        """The images and masks of a split at full size."""
        files = self.files(split)
        self.leave_out(split, files.unpaired, NO_MASK)
        return [WholeImages(files, self._rows, self.reader_of(split))]

    @cached_property
    def _drawn(self) -> Mapping[SplitName, DrawnMasks]:
        """The splits of a set with drawn objects, read once."""
        found = read_drawn(self.root, self.drawn, leave_out=self.on_bad_image == "skip", broken=self.broken)
        for line in found.lines:
            rank_zero_info(f"{found.root}: {line}")
        return found.splits

    @property
    def _rows(self) -> MaskClasses:
        """What the rows of masks mean to the network."""
        return self.classes if self.task is None else self.task.classes

    def _splits(self, split: SplitName) -> tuple[str, ...]:
        if split == "train":
            return self.cityscapes.train_splits
        name = self.cityscapes.val_split if split == "val" else self.cityscapes.test_split
        return () if name is None else (name,)

    def _path(self, given: str | None, option: str) -> Path:
        if given is None:
            msg = f"the data have no '{option}'. Give --data.folder.{option}."
            raise InputError(msg)
        return self.root / given
