"""COCO folders as the loaders of Lightning's training, validation and test."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from detection.data.augment import DetectionAugmentation
from detection.data.classes import BoxClasses
from detection.data.coco import CocoAnnotations
from detection.data.dataset import CocoDetection, Sample, collate
from engine.checked import checked
from engine.errors import InputError
from engine.numbers import NonNegativeInt, PositiveInt

SplitName = Literal["train", "val", "test"]
IMAGENET_MEAN_COLOR = (124, 116, 104)  # round(255 * (0.485, 0.456, 0.406))


class CocoDataModule(LightningDataModule):
    """Images and annotations in COCO's form.

    What the network sees is the task's to say. In `setup` these attributes of `trainer.lightning_module` are read:
    `canvas_hw` (height and width of the canvas, used where `image_size` is None), `classes` (`BoxClasses`) and
    `fill_color` (the mean colour, three numbers of 0 to 255).

    Args:
        root: folder that the other paths start from; without it they start from the working folder.
        train_images: folder of the training images.
        train_annotations: their COCO JSON.
        val_images: folder of the validation images.
        val_annotations: their COCO JSON.
        test_images: folder of the test images.
        test_annotations: their COCO JSON; COCO's own test sets come without boxes.
        batch_size: images per device and step.
        num_workers: processes that read and augment, per device.
        image_size: side of the canvas, or its height and width; None takes the model's own.
        augmentation: what may happen to training images.
        class_rows: how a model made for the training set numbers its classes: "contiguous" gives each category one
            row in ascending order of id, "by_id" gives category id i row i - 1, gaps included, as the published
            COCO weights have it.
    """

    @checked
    def __init__(
        self,
        root: str | None = None,
        train_images: str | None = None,
        train_annotations: str | None = None,
        val_images: str | None = None,
        val_annotations: str | None = None,
        test_images: str | None = None,
        test_annotations: str | None = None,
        batch_size: PositiveInt = 16,
        num_workers: NonNegativeInt = 4,
        image_size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None,
        augmentation: DetectionAugmentation = DetectionAugmentation(),
        class_rows: Literal["contiguous", "by_id"] = "contiguous",
    ) -> None:
        super().__init__()
        self.root = Path(root or "")
        self.paths: dict[SplitName, tuple[str | None, str | None]] = {
            "train": (train_images, train_annotations),
            "val": (val_images, val_annotations),
            "test": (test_images, test_annotations),
        }
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.image_size = image_size
        self.augmentation = augmentation
        self.class_rows = class_rows
        self._annotations: dict[SplitName, CocoAnnotations] = {}
        self._datasets: dict[SplitName, CocoDetection] = {}

    def has(self, split: SplitName) -> bool:
        """Whether the split was given."""
        return any(self.paths[split])

    def annotation_file(self, split: SplitName) -> Path:
        """The COCO JSON of a split.

        Raises:
            InputError: it was not given.
        """
        return self._path(split, 1)

    def annotations(self, split: SplitName) -> CocoAnnotations:
        """The annotations of a split, read once.

        Raises:
            InputError: the file was not given or cannot be used.
        """
        if split not in self._annotations:
            self._annotations[split] = CocoAnnotations.read(self.annotation_file(split))
        return self._annotations[split]

    def train_classes(self) -> BoxClasses:
        """The class list of a model made for this data: the categories of train, or else of val, or of test.

        Raises:
            InputError: no annotations were given, or "by_id" meets a category id below 1.
        """
        names: tuple[SplitName, ...] = ("train", "val", "test")
        classes = self.annotations(next((name for name in names if self.has(name)), "train")).classes
        return classes if self.class_rows == "contiguous" else _rows_by_id(classes)

    def setup(self, stage: str) -> None:
        """Read what the stage needs: train and, where given, val for "fit"; else the one split."""
        needed: dict[str, list[SplitName]] = {
            "fit": ["train", "val"] if self.has("val") else ["train"],
            "validate": ["val"],
            "test": ["test"],
        }
        for split in needed.get(stage, []):
            self._datasets[split] = self._dataset(split)
        if stage == "fit":
            self._check_train(self._datasets["train"])

    def train_dataloader(self) -> DataLoader[Sample]:
        """Shuffled and augmented; a last batch that is not full is left to the next epoch's shuffle."""
        return self._loader("train", shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader[Sample] | list[Any]:
        """Every image in file order; an empty list where the split was not given."""
        return self._loader("val") if "val" in self._datasets else []

    def test_dataloader(self) -> DataLoader[Sample]:
        """Every image in file order."""
        return self._loader("test")

    def _loader(self, split: SplitName, *, shuffle: bool = False, drop_last: bool = False) -> DataLoader[Sample]:
        return DataLoader(
            self._datasets[split],
            batch_size=self.batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            # Workers' seeds of its own: an evaluation leaves the training's random numbers alone.
            generator=None if shuffle else torch.Generator(),
        )

    def _path(self, split: SplitName, which: int) -> Path:
        given = self.paths[split][which]
        if given is None:
            option = f"{split}_{('images', 'annotations')[which]}"
            msg = f"the data has no '{option}'. Give --data.{option}."
            raise InputError(msg)
        return self.root / given

    def _dataset(self, split: SplitName) -> CocoDetection:
        folder, annotations = self._path(split, 0), self.annotations(split)
        task: Any = self.trainer.lightning_module if self.trainer is not None else None
        canvas_hw = self._canvas_hw(task)
        fill_color = IMAGENET_MEAN_COLOR if task is None else task.fill_color
        classes = self.train_classes() if task is None else task.classes
        augmenter = self.augmentation.build(canvas_hw, fill_color) if split == "train" else None
        return CocoDetection(annotations, folder, classes, canvas_hw, fill_color, augmenter)

    def _canvas_hw(self, task: Any) -> tuple[int, int]:
        if isinstance(self.image_size, int):
            return (self.image_size, self.image_size)
        if self.image_size is not None:
            return self.image_size
        if task is None:
            msg = "without a model the data needs an 'image_size'. Give the side of the canvas in pixels."
            raise InputError(msg)
        height, width = task.canvas_hw
        return (height, width)

    def _check_train(self, dataset: CocoDetection) -> None:
        file = self.annotation_file("train")
        if not dataset.box_count:
            msg = f"annotation file '{file}' has no box to learn from. Give annotations with boxes."
            raise InputError(msg)
        world = 1 if self.trainer is None else self.trainer.world_size
        share = -(-len(dataset) // world)  # as DistributedSampler deals them out
        if share < self.batch_size:
            msg = (
                f"'{file}' has {len(dataset)} images, fewer than one step takes ({self.batch_size} on each of {world} "
                f"devices). Give --data.batch_size of at most {max(1, share)}."
            )
            raise InputError(msg)


def _rows_by_id(classes: BoxClasses) -> BoxClasses:
    if min(classes.category_ids) < 1:
        msg = (
            f"class_rows 'by_id' needs category ids from 1, the annotations have {min(classes.category_ids)}. "
            "Give --data.class_rows contiguous."
        )
        raise InputError(msg)
    names = dict(zip(classes.category_ids, classes.names, strict=True))
    ids = tuple(range(1, max(classes.category_ids) + 1))
    return BoxClasses(tuple(names.get(i, "") for i in ids), ids)
