"""The loaders for training and scoring, from one set with boxes and masks or from two sets with one kind each."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

from torch import Tensor

from detection.data.boxes import BoxSource
from detection.data.classes import BoxClasses
from detection.data.dataset import BoxImages
from detection.formats.module import BoxSetModule
from engine.annotations.files import BrokenRow
from engine.checked import checked
from engine.data.augment import ImageAugmenter
from engine.data.bad_images import OnBadImage, ReadableImages
from engine.data.contracts import SPLITS, BatchSize, SplitName
from engine.data.mixing import MixedImages
from engine.data.module import SplitData
from engine.data.one_canvas import canvas_of
from engine.data.sampling.settings import BoxSampling
from engine.data.supply.canvases import resized_boxes, resized_images, resized_labels
from engine.errors import InputError
from engine.numbers import NonNegativeFloat, NonNegativeInt, PositiveInt, ZeroToHalf
from engine.reading.options import Reading
from joint.data.augment import JointAugmentation
from joint.data.batch import JointBatch
from joint.data.contracts import JointNetworkTask
from joint.data.dataset import (
    JointImages,
    JointSample,
    Masks,
    boxed_images,
    collate,
    collate_evaluation,
    parts_of,
    with_parts,
)
from joint.data.files import BoxFiles, MaskFiles
from segmentation.data.classes import MaskClasses
from segmentation.data.module import NO_MASK, MaskSet, SegmentationDataModule


class JointDataModule(SplitData[JointNetworkTask, JointSample, JointSample]):
    """Images for a detector and a segmenter on one canvas.

    Args:
        format: "both" for images that all have boxes and masks, "two" for one set with boxes and one with masks.
        root: folder that all paths start from; by default they start from the working folder.
        boxes: the paths of the boxes.
        masks: the paths of the masks.
        ratio: parts of the images with boxes and of those with masks in format `two`: 3 and 1 takes three images with
            boxes for each image with a mask. A set with part 0 is not trained on.
        steps_per_epoch: steps in an epoch; null takes one pass over the set that needs more steps.
        canvas_size: side of the canvas, or its height and width; null takes the model's own.
        batch_size: images per device and step; auto is the largest number that fits the memory.
        eval_batch_size: the same in validation and test; null takes batch_size.
        num_workers: processes that read and augment, per device; null takes as many as there are processors, at
            most 8.
        augmentation: the random changes of training images.
        on_bad_image: "stop" ends the training at a missing or broken image or mask, "skip" takes another one
            in its place, leaves it out of the scores, and lists it in bad_images.jsonl in the run's folder.
        bands: numbers, from 1, of the bands of rasters that are red, green and blue, or of one grey band; by default
            those that a file marks so, else the first three. The checkpoint keeps this, as the two that follow.
        value_range: values of rasters and 16-bit pictures that become 0 and 255; needed for rasters without 8 bits.
        nodata: value of a raster's pixels without data, if files do not state it.
        sampling: which training images come more often, by the classes of their boxes, of their pixels, or of both.
        multi_scale: by which share the longer side of a step's canvas may be shorter or longer, 0 to 0.5; the canvas
            changes every ten steps.
        cache_mib: memory in which decoded training images are kept, per device; what does not fit is decoded each time.
    """

    collate = staticmethod(collate)
    collate_whole = staticmethod(collate_evaluation)

    @checked
    def __init__(
        self,
        format: Literal["both", "two"] = "both",
        root: str | None = None,
        boxes: BoxFiles = BoxFiles(),
        masks: MaskFiles = MaskFiles(),
        ratio: tuple[NonNegativeFloat, NonNegativeFloat] = (1.0, 1.0),
        steps_per_epoch: PositiveInt | None = None,
        canvas_size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None,
        batch_size: BatchSize = 8,
        eval_batch_size: PositiveInt | None = None,
        num_workers: NonNegativeInt | None = None,
        augmentation: JointAugmentation = JointAugmentation(),
        on_bad_image: OnBadImage = "stop",
        bands: tuple[PositiveInt, ...] | None = None,
        value_range: tuple[float, float] | None = None,
        nodata: float | None = None,
        sampling: BoxSampling = BoxSampling(),
        multi_scale: ZeroToHalf = 0.0,
        cache_mib: NonNegativeInt = 0,
    ) -> None:
        reading = Reading(bands, value_range, nodata)
        super().__init__(batch_size, num_workers, eval_batch_size, on_bad_image, reading, multi_scale, cache_mib)
        if not any(ratio):
            msg = f"ratio is {list(ratio)}; allowed are numbers of at least 0, not both of them 0."
            raise InputError(msg)
        self.format = format
        self.boxes = boxes
        self.masks = masks
        self.box_root = Path(boxes.root or root or "")
        self.mask_root = Path(masks.root or root or "")
        self.ratio = ratio
        self.steps_per_epoch = steps_per_epoch
        self.canvas_size = canvas_size
        self.augmentation = augmentation
        self.sampling = sampling
        if format == "both" and masks.format == "drawn":
            boxes = boxes.of_drawn(masks, str(self.mask_root))
            self.box_root = Path(boxes.root or "")
        train, val, test = (self._box_paths(split) for split in SPLITS)
        one_set = format == "two" or masks.format == "drawn"
        whole = boxes.root if one_set and not any((*train, *val, *test)) else None
        self._coco = BoxSetModule(
            *(whole, *train, *val, *test),
            class_rows=boxes.class_rows,
            format=boxes.format,
            split=boxes.split,
            group=boxes.group,
            classes=boxes.classes,
            voc_origin=boxes.voc_origin,
        )
        self._labelled = SegmentationDataModule(
            masks.format,
            str(self.mask_root),
            masks.cityscapes,
            masks.folder,
            masks.drawn,
            on_bad_image=on_bad_image,
        )

    @property
    def sampled(self) -> BoxSampling:
        """See `SplitData`."""
        return self.sampling

    @property
    def cityscapes_scores(self) -> bool:
        """Whether the official Cityscapes scores, including categories and instances, can be computed."""
        return self._labelled.cityscapes_scores

    @property
    def broken(self) -> list[BrokenRow] | None:
        """Where rows of label files that cannot be read are noted; None ends the reading at the first."""
        return self._coco.broken

    @broken.setter
    def broken(self, broken: list[BrokenRow] | None) -> None:
        self._coco.broken = self._labelled.broken = broken

    @cached_property
    def classes(self) -> BoxClasses:
        """The class list for a detector that is made for these data.

        Raises:
            InputError: no annotations were given, or they cannot be used.
        """
        if not self._coco.whole:
            self.annotation_file(next((split for split in SPLITS if self.has_boxes(split)), "train"))
        return self._coco.train_classes()

    @cached_property
    def segmentation_classes(self) -> MaskClasses:
        """The class list for a segmenter that is made for these data.

        Raises:
            InputError: the folder format has no class list, or it cannot be used.
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
            InputError: the file was not given, or does not exist yet.
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

    def box_source(self, split: SplitName) -> BoxSource:
        """The images and boxes of a split, against which detections are scored.

        Raises:
            InputError: they were not given or cannot be used.
        """
        if self._coco.whole:
            return self._coco.box_source(split)
        self.annotation_file(split)
        if self._coco.paths[split][0] is None:
            msg = f"the data have no '{split}_images'. Give --data.boxes.{split}_images."
            raise InputError(msg)
        return self._coco.box_source(split)

    def mask_source(self, split: SplitName, *, leave_out: bool | None = None) -> MaskSet:
        """The images and masks of a split.

        Args:
            split: its name.
            leave_out: whether images without a mask are left out; None does as `on_bad_image` says.

        Raises:
            InputError: they were not given or cannot be used.
        """
        try:
            return self._labelled.files(split, leave_out=leave_out)
        except InputError as error:
            raise InputError(str(error).replace("--data.", "--data.masks.")) from error

    @property
    def mixing_ratio(self) -> tuple[float, ...]:
        """The part of each training set in the batches; a set without a part is not read."""
        return tuple(part for part in self.ratio if part) if self.format == "two" else (1.0,)

    @property
    def epoch_steps(self) -> int | None:
        """Steps in an epoch; None takes one pass over the set that needs more steps."""
        return self.steps_per_epoch

    def training_sets(self) -> list[JointImages]:
        """The augmented training images: one set with both kinds of labels, or one for each kind."""
        canvas_hw = self._canvas_hw()
        assert canvas_hw is not None  # files that lay pictures out themselves are not trained
        augmenter = self.augmentation.build(canvas_hw, self.fill_color)
        return self._sets("train", augmenter=augmenter)

    def mixed(self, images: ReadableImages[JointSample]) -> ReadableImages[JointSample] | MixedImages[JointSample]:
        """The training images of a set, mixed as the augmentation asks."""
        mixing = self.augmentation.mixing
        return MixedImages(images, mixing, parts_of, with_parts) if mixing.mixes else images

    def class_names(self) -> dict[str, tuple[str, ...]]:
        """See `SplitData`."""
        boxed, masked = self._wanted("train")
        names: dict[str, tuple[str, ...]] = {}
        if boxed:
            names["boxes"] = (self.classes if self.task is None else self.task.classes).names
        if masked:
            classes = self.segmentation_classes if self.task is None else self.task.segmentation_classes
            names["pixels"] = classes.names
        return names

    @staticmethod
    def resized(batch: object, size_hw: tuple[int, int]) -> JointBatch:
        """See `SplitData`."""
        assert isinstance(batch, JointBatch)
        before = batch.images.shape[-2], batch.images.shape[-1]
        return batch._replace(
            images=resized_images(batch.images, size_hw),
            boxes_xyxy=resized_boxes(batch.boxes_xyxy, before, size_hw),
            masks=resized_labels(batch.masks, size_hw),
        )

    @staticmethod
    def shown(batch: object) -> dict[str, Tensor]:
        """See `SplitData`."""
        assert isinstance(batch, JointBatch)
        return {"boxes": batch.class_ids, "pixels": batch.masks}

    def whole_sets(self, split: SplitName) -> list[JointImages]:
        """The images of a split, those with boxes first."""
        return self._sets(split, evaluation=True)

    def _sets(
        self, split: SplitName, *, augmenter: ImageAugmenter | None = None, evaluation: bool = False
    ) -> list[JointImages]:
        """The images of a split: one set that has both kinds of labels, or one for each kind."""
        wanted = self._wanted(split)
        boxes = self._boxed(split) if wanted[0] else None
        masks = self._masked(split) if wanted[1] else None
        kinds: list[tuple[BoxImages | None, Masks | None]] = [(boxes, masks)]
        if self.format == "two":
            kinds = [kind for kind in ((boxes, None), (None, masks)) if kind != (None, None)]
        canvas_hw, color = self._canvas_hw(), self.fill_color
        return [
            JointImages(canvas_hw, color, boxes=boxed, masks=masked, augmenter=augmenter, evaluation=evaluation)
            for boxed, masked in kinds
        ]

    def _wanted(self, split: SplitName) -> tuple[bool, bool]:
        """Whether images with boxes and images with masks are asked for."""
        if self.format == "both":
            return True, True
        if split == "train":
            return self.ratio[0] > 0, self.ratio[1] > 0
        given = self.has_boxes(split), self.has_masks(split)
        return given if any(given) else (True, True)  # the first of which then gives the message that it is missing

    def _boxed(self, split: SplitName) -> BoxImages:
        source = self.box_source(split)
        boxes = boxed_images(source, self.classes if self.task is None else self.task.classes, self.reader_of(split))
        if split == "train" and not boxes.box_count:
            msg = f"'{source.source}' has no box to learn from. Give annotations with boxes."
            raise InputError(msg)
        return boxes

    def _masked(self, split: SplitName) -> Masks:
        files = self.mask_source(split)
        self.leave_out(split, files.unpaired, NO_MASK)
        classes = self.segmentation_classes if self.task is None else self.task.segmentation_classes
        return Masks.of(files, classes, self.reader_of(split))

    def _box_paths(self, split: SplitName) -> tuple[str | None, str | None]:
        """The images and the annotations of a split, as `BoxSetModule` takes them."""
        beside = self._paths_of_masks(split) if self.format == "both" else (None, None)
        images, annotations = (
            own if given is None else self.box_root / given
            for given, own in zip(self.boxes.of(split), beside, strict=True)
        )
        return None if images is None else str(images), None if annotations is None else str(annotations)

    def _paths_of_masks(self, split: SplitName) -> tuple[Path | None, Path | None]:
        """The folder of images with masks, and the annotations that `python -m joint boxes` makes of Cityscapes."""
        if self.masks.format == "folder":
            folder = self.masks.folder.of(split)[0]
            return None if folder is None else self.mask_root / folder, None
        if self.masks.format == "drawn":
            return None, None
        name = self._cityscapes_split(split)
        if name is None:
            return None, None
        return (
            self.mask_root / "leftImg8bit" / name,
            self.box_root / "annotations" / f"instances_{name}.json",
        )

    def _cityscapes_split(self, split: SplitName) -> str | None:
        parts = self.masks.cityscapes
        if split != "train":
            return parts.val_split if split == "val" else parts.test_split
        if len(parts.train_splits) > 1:
            msg = (
                f"masks.cityscapes.train_splits is {list(parts.train_splits)}, but format both trains on one split, "
                "whose boxes are in one file. Give one."
            )
            raise InputError(msg)
        return next(iter(parts.train_splits), None)

    def _canvas_hw(self) -> tuple[int, int] | None:
        return canvas_of(self.canvas_size, self.task, "a 'canvas_size'")
