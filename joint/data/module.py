"""One set with boxes and masks, or two sets with one kind each, as the loaders of Lightning's training and scoring."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from torch.utils.data import ConcatDataset, DataLoader

from detection.data.classes import BoxClasses
from detection.data.dataset import CocoDetection
from detection.data.module import CocoDataModule
from engine.errors import InputError, check_choice
from joint.data.augment import JointAugmentation
from joint.data.batch import JointEvaluationBatch
from joint.data.dataset import JointImages, JointSample, Masks, boxed_images, collate, collate_evaluation
from joint.data.mixing import MixedLoader, Mixture
from segmentation.data.classes import MaskClasses
from segmentation.data.module import CityscapesData, FolderData, SegmentationDataModule

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
_KINDS = ("images", "annotations")
IMAGENET_MEAN_COLOR = (124, 116, 104)  # round(255 * (0.485, 0.456, 0.406))


@dataclass(frozen=True)
class BoxFiles:
    """Where the annotations with boxes lie, and their images.

    In format `both` the images are those of the masks, and the annotations of Cityscapes are by default
    `annotations/instances_SPLIT.json`, which `python -m joint boxes` writes.

    Attributes:
        root: folder that the paths start from; without it data.root.
        train_images: folder of the training images.
        train_annotations: their COCO JSON.
        val_images: folder of the validation images.
        val_annotations: their COCO JSON.
        test_images: folder of the test images.
        test_annotations: their COCO JSON.
        class_rows: how a model made for the data numbers its classes: "contiguous" or "by_id", as in detection.
    """

    root: str | None = None
    train_images: str | None = None
    train_annotations: str | None = None
    val_images: str | None = None
    val_annotations: str | None = None
    test_images: str | None = None
    test_annotations: str | None = None
    class_rows: Literal["contiguous", "by_id"] = "contiguous"


@dataclass(frozen=True)
class MaskFiles:
    """Where the images with masks lie.

    Attributes:
        root: folder that the paths start from; without it data.root.
        format: whether they are Cityscapes or any folders of images and masks.
        cityscapes: which parts of Cityscapes are used.
        folder: where one's own images and masks lie.
    """

    root: str | None = None
    format: Literal["cityscapes", "folder"] = "cityscapes"
    cityscapes: CityscapesData = CityscapesData()
    folder: FolderData = FolderData()


class JointDataModule(LightningDataModule):
    """Images for a detector and a segmenter on one canvas.

    What the network sees is the task's to say. In `setup` these attributes of `trainer.lightning_module` are read:
    `canvas_hw` (where `canvas_size` is None), `classes` (the detector's), `segmentation_classes` and `fill_color`.

    Args:
        format: "both" for images that all have boxes and masks, "two" for one set with boxes and one with masks.
        root: folder that all paths start from; without it they start from the working folder.
        boxes: where the boxes lie.
        masks: where the masks lie.
        ratio: parts of the images with boxes and of those with masks in format `two`: 3 and 1 takes three images with
            boxes for each with a mask. What has part 0 is not trained on.
        steps_per_epoch: steps in an epoch; null is one pass of the set that takes longer.
        canvas_size: side of the canvas, or its height and width; null takes the model's own.
        batch_size: images per device and step.
        eval_batch_size: the same in validation and test; null is batch_size.
        num_workers: processes that read and augment, per device.
        augmentation: what may happen to training images.
    """

    def __init__(
        self,
        format: Literal["both", "two"] = "both",
        root: str | None = None,
        boxes: BoxFiles = BoxFiles(),
        masks: MaskFiles = MaskFiles(),
        ratio: tuple[float, float] = (1.0, 1.0),
        steps_per_epoch: int | None = None,
        canvas_size: int | tuple[int, int] | None = None,
        batch_size: int = 8,
        eval_batch_size: int | None = None,
        num_workers: int = 4,
        augmentation: JointAugmentation = JointAugmentation(),
    ) -> None:
        super().__init__()
        check_choice("format", format, ("both", "two"))
        counts = {"batch_size": batch_size, "eval_batch_size": eval_batch_size, "steps_per_epoch": steps_per_epoch}
        for name, count in counts.items():
            if count is not None and count < 1:
                msg = f"{name} is {count}; allowed is at least 1."
                raise InputError(msg)
        if min(ratio) < 0 or max(ratio) == 0:
            msg = f"ratio is {list(ratio)}; allowed are numbers of at least 0, not both of them 0."
            raise InputError(msg)
        if num_workers < 0:
            msg = f"num_workers is {num_workers}; allowed is at least 0."
            raise InputError(msg)
        if canvas_size is not None and min(canvas_size if isinstance(canvas_size, tuple) else (canvas_size,)) < 1:
            msg = f"canvas_size is {canvas_size}; allowed is at least 1 pixel."
            raise InputError(msg)
        self.format = format
        self.boxes = boxes
        self.masks = masks
        self.box_root = Path(boxes.root or root or "")
        self.mask_root = Path(masks.root or root or "")
        self.ratio = ratio
        self.steps_per_epoch = steps_per_epoch
        self.canvas_size = canvas_size
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.num_workers = num_workers
        self.augmentation = augmentation
        self._coco = CocoDataModule(**self._coco_paths(), class_rows=boxes.class_rows)
        self._labelled = SegmentationDataModule(masks.format, str(self.mask_root), masks.cityscapes, masks.folder)
        self._training: list[JointImages] = []
        self._whole: dict[SplitName, list[JointImages]] = {}
        self._loader: MixedLoader | None = None
        self._saved: dict[str, Any] = {}

    @property
    def cityscapes_scores(self) -> bool:
        """Whether the official Cityscapes scores, categories and instances among them, can be had."""
        return self._labelled.cityscapes_scores

    @cached_property
    def classes(self) -> BoxClasses:
        """The class list of a detector made for these data.

        Raises:
            InputError: no annotations were given, or they cannot be used.
        """
        self.annotation_file(next((split for split in SPLITS if self.has_boxes(split)), "train"))
        return self._coco.train_classes()

    @cached_property
    def segmentation_classes(self) -> MaskClasses:
        """The class list of a segmenter made for these data.

        Raises:
            InputError: the folder format has none, or it cannot be used.
        """
        if self.masks.format == "folder" and self.masks.folder.classes is None:
            msg = "the masks have no class list. Give --data.masks.folder.classes, such as '[background, nucleus]'."
            raise InputError(msg)
        return self._labelled.classes

    def has_boxes(self, split: SplitName) -> bool:
        """Whether boxes were given for the split."""
        return self._coco.has(split) and (self.format == "two" or self.has_masks(split))

    def has_masks(self, split: SplitName) -> bool:
        """Whether masks were given for the split."""
        return self._labelled.has(split)

    def has(self, split: SplitName) -> bool:
        """Whether the split was given at all."""
        return self.has_boxes(split) or self.has_masks(split)

    def annotation_file(self, split: SplitName) -> Path:
        """The COCO JSON of a split.

        Raises:
            InputError: it was not given, or is not there yet.
        """
        file = self._coco.paths[split][1]
        if file is None:
            msg = f"the data have no '{split}_annotations'. Give --data.boxes.{split}_annotations."
            raise InputError(msg)
        if not Path(file).is_file() and self.format == "both" and self.masks.format == "cityscapes":
            made = (
                f"python -m joint boxes --root {self.mask_root} --split {self._cityscapes_split(split)} --output {file}"
            )
            msg = f"annotation file '{file}' does not exist. Make it of the instance ids: {made}"
            raise InputError(msg)
        return Path(file)

    def setup(self, stage: str) -> None:
        """Find what the stage needs: train and, where given, val for "fit"; else the one split."""
        if stage == "fit":
            augmenter = self.augmentation.build(self._canvas_hw(), self._fill_color())
            self._training = self._sets("train", augmenter=augmenter)
        needed: dict[str, list[SplitName]] = {
            "fit": ["val"] if self.has("val") else [],
            "validate": ["val"],
            "test": ["test"],
        }
        for split in needed.get(stage, []):
            self._whole[split] = self._sets(split, evaluation=True)

    def train_dataloader(self) -> MixedLoader:
        """Shuffled, mixed and augmented, one sequence over all epochs."""
        world, rank = (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)
        mixture = Mixture(
            sizes=tuple(len(images) for images in self._training),
            ratio=tuple(part for part in self.ratio if part) if self.format == "two" else (1.0,),
            batch=self.batch_size * world,
            seed=int(os.environ.get("PL_GLOBAL_SEED", "0")),  # as Lightning's own samplers take it
        )
        state = self._saved or ({} if self._loader is None else self._loader.state_dict())
        self._loader = MixedLoader(
            self._training,
            mixture,
            collate,
            steps=self.steps_per_epoch,
            rank=rank,
            world=world,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
        )
        if state:
            # Lightning itself loads the state that ends an epoch, and only where the checkpoint was within one.
            self._loader.load_state_dict(state, within_epoch=False)
            self._saved = {}
        return self._loader

    def val_dataloader(self) -> DataLoader[JointEvaluationBatch] | list[Any]:
        """Every image in file order, those with boxes first; an empty list where the split was not given."""
        return self._whole_loader("val") if "val" in self._whole else []

    def test_dataloader(self) -> DataLoader[JointEvaluationBatch]:
        """Every image in file order, those with boxes first."""
        return self._whole_loader("test")

    def state_dict(self) -> dict[str, Any]:
        """How far the training has come in its sequence of batches."""
        return {} if self._loader is None else self._loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next training loader go on where another one stopped."""
        self._saved = dict(state_dict)

    def teardown(self, stage: str) -> None:
        """Let the next training begin anew."""
        if stage == "fit":
            self._loader = None
            self._saved = {}

    def _whole_loader(self, split: SplitName) -> DataLoader[JointEvaluationBatch]:
        images: ConcatDataset[JointSample] = ConcatDataset(self._whole[split])
        loader: DataLoader[Any] = DataLoader(
            images,
            batch_size=self.eval_batch_size,
            num_workers=self.num_workers,
            collate_fn=collate_evaluation,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            # Else each start of workers would move the process's own random state, and a resumed training with it.
            generator=torch.Generator(),
        )
        return loader

    def _sets(self, split: SplitName, **options: Any) -> list[JointImages]:
        """The images of a split: one set that has both kinds of labels, or one for each kind."""
        wanted = self._wanted(split)
        boxes = self._boxed(split) if wanted[0] else None
        masks = self._masked(split) if wanted[1] else None
        if self.format == "both":
            return [JointImages(self._canvas_hw(), self._fill_color(), boxes=boxes, masks=masks, **options)]
        kinds: list[dict[str, Any]] = [{"boxes": boxes} if boxes else {}, {"masks": masks} if masks else {}]
        return [JointImages(self._canvas_hw(), self._fill_color(), **kind, **options) for kind in kinds if kind]

    def _wanted(self, split: SplitName) -> tuple[bool, bool]:
        """Whether images with boxes and images with masks are asked for."""
        if self.format == "both":
            return True, True
        if split == "train":
            return self.ratio[0] > 0, self.ratio[1] > 0
        given = self.has_boxes(split), self.has_masks(split)
        return given if any(given) else (True, True)  # the first of which is then missed, in words

    def _boxed(self, split: SplitName) -> CocoDetection:
        file = self.annotation_file(split)
        folder = self._coco.paths[split][0]
        if folder is None:
            msg = f"the data have no '{split}_images'. Give --data.boxes.{split}_images."
            raise InputError(msg)
        classes = self.classes if self._task is None else self._task.classes
        boxes = boxed_images(self._coco.annotations(split), folder, classes)
        if split == "train" and not boxes.box_count:
            msg = f"annotation file '{file}' has no box to learn from. Give annotations with boxes."
            raise InputError(msg)
        return boxes

    def _masked(self, split: SplitName) -> Masks:
        try:
            files = self._labelled.files(split)
        except InputError as error:
            raise InputError(str(error).replace("--data.", "--data.masks.")) from error
        classes = self.segmentation_classes if self._task is None else self._task.segmentation_classes
        return Masks.of(files, classes)

    def _coco_paths(self) -> dict[str, Any]:
        """Images and annotations of each split, as `CocoDataModule` takes them."""
        given = {f"{split}_{what}": getattr(self.boxes, f"{split}_{what}") for split in SPLITS for what in _KINDS}
        paths = {name: None if path is None else str(self.box_root / path) for name, path in given.items()}
        if self.format == "both":
            for split in SPLITS:
                own = self._paths_of_masks(split)
                paths |= {name: str(path) for name, path in own.items() if paths[name] is None and path is not None}
        return paths

    def _paths_of_masks(self, split: SplitName) -> dict[str, Path | None]:
        """Where the images with masks lie, and the annotations that `python -m joint boxes` makes of Cityscapes."""
        if self.masks.format == "folder":
            folder = getattr(self.masks.folder, f"{split}_images")
            return {f"{split}_images": None if folder is None else self.mask_root / folder}
        name = self._cityscapes_split(split)
        if name is None:
            return {}
        return {
            f"{split}_images": self.mask_root / "leftImg8bit" / name,
            f"{split}_annotations": self.box_root / "annotations" / f"instances_{name}.json",
        }

    def _cityscapes_split(self, split: SplitName) -> str | None:
        parts = self.masks.cityscapes
        if split != "train":
            return parts.val_split if split == "val" else parts.test_split
        if len(parts.train_splits) > 1:
            msg = (
                f"masks.cityscapes.train_splits is {list(parts.train_splits)}, but format both trains on one split, "
                "whose boxes one file holds. Give one."
            )
            raise InputError(msg)
        return next(iter(parts.train_splits), None)

    @property
    def _task(self) -> Any:
        return None if self.trainer is None else self.trainer.lightning_module

    def _fill_color(self) -> tuple[int, int, int]:
        return IMAGENET_MEAN_COLOR if self._task is None else self._task.fill_color

    def _canvas_hw(self) -> tuple[int, int]:
        if isinstance(self.canvas_size, int):
            return (self.canvas_size, self.canvas_size)
        if self.canvas_size is not None:
            return self.canvas_size
        if self._task is None:
            msg = "without a model the data need a 'canvas_size'. Give the side of the canvas in pixels."
            raise InputError(msg)
        height, width = self._task.canvas_hw
        return (height, width)
