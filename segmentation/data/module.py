"""Cityscapes and folders of images and masks as the loaders of Lightning's training, validation and test."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from engine.errors import InputError, check_choice
from segmentation.data.augment import SegmentationAugmentation
from segmentation.data.batch import EvaluationBatch, SegmentationBatch
from segmentation.data.cityscapes.files import Annotations, CityscapesFiles
from segmentation.data.cityscapes.labels import CITYSCAPES
from segmentation.data.class_files import class_list, read_class_list
from segmentation.data.classes import MaskClasses, Rgb
from segmentation.data.dataset import TrainingCrops, WholeImages, collate_crops, collate_images
from segmentation.data.mask_folder import MaskFolder
from segmentation.data.masks import MaskFormat, MaskReader
from segmentation.data.pairs import LabelledFiles

SplitName = Literal["train", "val", "test"]
IMAGENET_MEAN_COLOR = (124, 116, 104)  # round(255 * (0.485, 0.456, 0.406))
_LEAST_SIDE = 33  # pixels of a crop, as of any picture that the network takes


@dataclass(frozen=True)
class CityscapesData:
    """Which parts of Cityscapes are used.

    Attributes:
        train_splits: trained on; `train_extra`, where listed, with its coarse annotations.
        val_split: validated on, with fine annotations; None does not validate.
        test_split: what `test` scores, with fine annotations; those of Cityscapes' own test set are not public.
        annotations: which annotations to train on.
    """

    train_splits: tuple[str, ...] = ("train",)
    val_split: str | None = "val"
    test_split: str | None = "val"
    annotations: Annotations = "fine"


@dataclass(frozen=True)
class FolderData:
    """Where a user's own images and masks lie, and what the masks mean.

    Attributes:
        train_images: folder of the training images.
        train_masks: folder of their masks, which have the images' names.
        train_list: the images to take, where not all: a text file with one name a line, or a COCO JSON.
        val_images: folder of the validation images.
        val_masks: folder of their masks.
        val_list: the images to take.
        test_images: folder of the test images.
        test_masks: folder of their masks.
        test_list: the images to take.
        classes: names in the order of the rows; or a mapping with `names`, `label_ids` (the values in index masks)
            and `colors`; or a YAML file with either.
        mask_format: "index" for values that are label ids, "color" for RGB, "binary" for 0 and anything else.
        ignore_values: values of pixels that are not counted; by default 255 in index masks, unless it is a class's.
        ignore_colors: the same for colour masks.
        image_suffix: what image names have more than their masks' before the file ending, such as `_rgb`.
        mask_suffix: the same for masks, such as `_mask`.
    """

    train_images: str | None = None
    train_masks: str | None = None
    train_list: str | None = None
    val_images: str | None = None
    val_masks: str | None = None
    val_list: str | None = None
    test_images: str | None = None
    test_masks: str | None = None
    test_list: str | None = None
    classes: str | list[str] | dict[str, Any] | None = None
    mask_format: MaskFormat = "index"
    ignore_values: tuple[int, ...] | None = None
    ignore_colors: tuple[Rgb, ...] = ()
    image_suffix: str = ""
    mask_suffix: str = ""


class SegmentationDataModule(LightningDataModule):
    """Cityscapes, or any folders of images and masks.

    What the network sees is the task's to say. In `setup` these attributes of `trainer.lightning_module` are read:
    `classes` (`MaskClasses`, whose rows the masks are given in) and `fill_color` (the mean colour, three numbers of 0
    to 255).

    Args:
        format: which of the two the data are.
        root: folder that the other paths start from; without it they start from the working folder.
        cityscapes: which parts of Cityscapes are used.
        folder: where one's own images and masks lie.
        crop_size: side of the training crops, or their height and width.
        batch_size: crops per device and step.
        eval_batch_size: whole images per device and step; more than one needs images of one size.
        num_workers: processes that read and augment, per device.
        augmentation: what may happen to training images.
        repeat: how often each training image comes in one epoch; a small set loses less time between epochs.
    """

    def __init__(
        self,
        format: Literal["cityscapes", "folder"] = "cityscapes",
        root: str | None = None,
        cityscapes: CityscapesData = CityscapesData(),
        folder: FolderData = FolderData(),
        crop_size: int | tuple[int, int] = (512, 1024),
        batch_size: int = 8,
        eval_batch_size: int = 1,
        num_workers: int = 4,
        augmentation: SegmentationAugmentation = SegmentationAugmentation(),
        repeat: int = 1,
    ) -> None:
        super().__init__()
        check_choice("format", format, ("cityscapes", "folder"))
        counts = {"batch_size": batch_size, "eval_batch_size": eval_batch_size, "repeat": repeat}
        for name, count in counts.items():
            if count < 1:
                msg = f"{name} is {count}; allowed is at least 1."
                raise InputError(msg)
        if num_workers < 0:
            msg = f"num_workers is {num_workers}; allowed is at least 0."
            raise InputError(msg)
        height, width = (crop_size, crop_size) if isinstance(crop_size, int) else crop_size
        self.crop_hw = (height, width)
        if min(self.crop_hw) < _LEAST_SIDE:
            msg = f"crop_size is {crop_size}; allowed is at least {_LEAST_SIDE} pixels."
            raise InputError(msg)
        self.root = Path(root or "")
        self.format = format
        self.cityscapes = cityscapes
        self.folder = folder
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.augmentation = augmentation
        self.repeat = repeat
        self._train: TrainingCrops | None = None
        self._whole: dict[SplitName, WholeImages] = {}

    @property
    def cityscapes_scores(self) -> bool:
        """Whether the official Cityscapes scores, categories and instances among them, can be had."""
        return self.format == "cityscapes"

    @cached_property
    def classes(self) -> MaskClasses:
        """The class list of a model made for these data.

        Raises:
            InputError: the folder format has none, or it cannot be used.
        """
        if self.format == "cityscapes":
            return CITYSCAPES
        given = self.folder.classes
        if given is None:
            msg = "the data have no class list. Give --data.folder.classes, such as '[background, nucleus]'."
            raise InputError(msg)
        return read_class_list(self.root / given) if isinstance(given, str) else class_list(given)

    def has(self, split: SplitName) -> bool:
        """Whether the split was given."""
        if self.format == "folder":
            return any(getattr(self.folder, f"{split}_{what}") is not None for what in ("images", "masks"))
        return bool(self._splits(split))

    def files(self, split: SplitName) -> LabelledFiles:
        """The pairs of a split.

        Raises:
            InputError: it was not given, or its files are missing or do not pair.
        """
        if self.format == "folder":
            folder = self.folder
            reader = MaskReader(self.classes, folder.mask_format, folder.ignore_values, folder.ignore_colors)
            names = getattr(folder, f"{split}_list")
            return MaskFolder(
                self._path(f"{split}_images"),
                self._path(f"{split}_masks"),
                reader,
                image_suffix=folder.image_suffix,
                mask_suffix=folder.mask_suffix,
                list_file=None if names is None else self.root / names,
            )
        if not self._splits(split):
            option = "train_splits" if split == "train" else f"{split}_split"
            msg = f"the data have no '{option}'. Give --data.cityscapes.{option}."
            raise InputError(msg)
        return CityscapesFiles(
            self.root, self._splits(split), self.cityscapes.annotations if split == "train" else "fine"
        )

    def setup(self, stage: str) -> None:
        """Find what the stage needs: train and, where given, val for "fit"; else the one split."""
        task: Any = self.trainer.lightning_module if self.trainer is not None else None
        classes = self.classes if task is None else task.classes
        if stage == "fit":
            fill_color = IMAGENET_MEAN_COLOR if task is None else task.fill_color
            augmenter = self.augmentation.build(self.crop_hw, fill_color)
            self._train = TrainingCrops(self.files("train"), classes, augmenter, self.repeat)
            self._check_train(self._train)
        needed: dict[str, list[SplitName]] = {
            "fit": ["val"] if self.has("val") else [],
            "validate": ["val"],
            "test": ["test"],
        }
        for split in needed.get(stage, []):
            self._whole[split] = WholeImages(self.files(split), classes)

    def train_dataloader(self) -> DataLoader[SegmentationBatch]:
        """Shuffled and augmented; a last batch that is not full is left to the next epoch's shuffle."""
        assert self._train is not None
        return self._loader(self._train, self.batch_size, collate_crops, train=True)

    def val_dataloader(self) -> DataLoader[EvaluationBatch] | list[Any]:
        """Every image in file order; an empty list where the split was not given."""
        return self._whole_loader("val") if "val" in self._whole else []

    def test_dataloader(self) -> DataLoader[EvaluationBatch]:
        """Every image in file order."""
        return self._whole_loader("test")

    def _whole_loader(self, split: SplitName) -> DataLoader[EvaluationBatch]:
        return self._loader(self._whole[split], self.eval_batch_size, collate_images)

    def _loader(self, dataset: Any, batch_size: int, collate: Any, *, train: bool = False) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=batch_size,
            shuffle=train,
            drop_last=train,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            # Workers' seeds of its own: an evaluation leaves the training's random numbers alone.
            generator=None if train else torch.Generator(),
        )

    def _splits(self, split: SplitName) -> tuple[str, ...]:
        if split == "train":
            return self.cityscapes.train_splits
        name = self.cityscapes.val_split if split == "val" else self.cityscapes.test_split
        return () if name is None else (name,)

    def _path(self, option: str) -> Path:
        given: str | None = getattr(self.folder, option)
        if given is None:
            msg = f"the data have no '{option}'. Give --data.folder.{option}."
            raise InputError(msg)
        return self.root / given

    def _check_train(self, crops: TrainingCrops) -> None:
        world = 1 if self.trainer is None else self.trainer.world_size
        share = -(-len(crops) // world)  # as DistributedSampler deals them out
        if share < self.batch_size:
            msg = (
                f"'{crops.files.source}' has {len(crops)} images, fewer than one step takes ({self.batch_size} on each "
                f"of {world} devices). Give --data.batch_size of at most {max(1, share)}, or --data.repeat."
            )
            raise InputError(msg)
