"""Images with boxes as the data loaders of Lightning's training, validation and test."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from detection.data.augment import DetectionAugmentation
from detection.data.batch import DetectionBatch
from detection.data.boxes import BoxSource, BoxTable
from detection.data.classes import BoxClasses, ClassRows
from detection.data.coco import CocoAnnotations
from detection.data.contracts import DetectorTask
from detection.data.dataset import BoxImages, Sample, collate, parts_of, with_parts
from detection.data.labels.scores import scores_of_labels
from detection.data.masks import MaskTable
from detection.data.tiles.cutting import TiledImages
from detection.data.tiles.options import TrainingTiles
from detection.data.tiles.training import TrainingTileSet
from detection.data.tiles.whole import WholeTileSet
from engine.checked import checked
from engine.data.bad_images import ImageSet, OnBadImage, ReadableImages
from engine.data.contracts import SPLITS, BatchSize, SplitName
from engine.data.mixing import MixedImages
from engine.data.module import SplitData
from engine.data.one_canvas import canvas_of
from engine.data.policies.tables import WITHOUT_MASKS
from engine.data.sampling.settings import BoxSampling
from engine.data.supply.canvases import resized_boxes, resized_images, resized_labels
from engine.errors import InputError
from engine.numbers import NonNegativeInt, PositiveInt, ZeroToHalf
from engine.reading.options import Reading


class BoxDataModule(SplitData[DetectorTask, Sample, Sample]):
    """Images with boxes from any format: a subclass gives a `BoxSource` for each split.

    Args:
        batch_size: images per device and step; auto is the largest number that fits the memory.
        num_workers: processes that read and augment, per device; None takes as many as there are processors, at
            most 8.
        image_size: side of the canvas, or its height and width; None takes the model's own.
        augmentation: what may happen to training images.
        tiles: tiles that large training images are cut into; validation has the same.
        class_rows: how a model made for the training set numbers its classes: "contiguous" gives each category one
            row in ascending order of id, "by_id" gives category id i row i - 1, gaps included, as the published
            COCO weights have it.
        on_bad_image: "stop" ends the training at a missing or broken image, "skip" takes another one
            in its place, leaves it out of the scores, and lists it in bad_images.jsonl in the run's folder.
        bands: numbers, from 1, of the bands of rasters that are red, green and blue, or of one grey band; by default
            those that a file marks so, else the first three. The checkpoint keeps this, as the two that follow.
        value_range: values of rasters and 16-bit pictures that become 0 and 255; needed for rasters without 8 bits.
        nodata: value of a raster's pixels without data, if files do not state it.
        sampling: which training images come more often, by their classes.
        multi_scale: by which share the longer side of a step's canvas may be shorter or longer, 0 to 0.5; the canvas
            changes every ten steps.
        cache_mib: memory in which decoded training images are kept, per device; what does not fit is decoded each time.
        label_scores: whether a training box counts by the 'score' of its annotation, as pseudo-labels have one; a box
            without one counts in full.
    """

    collate = staticmethod(collate)
    collate_whole = collate  # the name is the line above, in this class

    @checked
    def __init__(
        self,
        batch_size: BatchSize = 16,
        num_workers: NonNegativeInt | None = None,
        image_size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None,
        augmentation: DetectionAugmentation = DetectionAugmentation(),
        tiles: TrainingTiles = TrainingTiles(),
        class_rows: ClassRows = "contiguous",
        on_bad_image: OnBadImage = "stop",
        bands: tuple[PositiveInt, ...] | None = None,
        value_range: tuple[float, float] | None = None,
        nodata: float | None = None,
        sampling: BoxSampling = BoxSampling(),
        multi_scale: ZeroToHalf = 0.0,
        cache_mib: NonNegativeInt = 0,
        label_scores: bool = False,
    ) -> None:
        super().__init__(
            batch_size,
            num_workers,
            on_bad_image=on_bad_image,
            reading=Reading(bands, value_range, nodata),
            multi_scale=multi_scale,
            cache_mib=cache_mib,
        )
        self.image_size = image_size
        self.augmentation = augmentation
        self.tiles = tiles
        self.class_rows = class_rows
        self.sampling = sampling
        self.label_scores = label_scores
        self._tiled: dict[SplitName, WholeTileSet] = {}

    @abstractmethod
    def box_source(self, split: SplitName) -> BoxSource:
        """The images and boxes of a split, for training and scoring.

        Raises:
            InputError: the split was not given or cannot be used.
        """

    @property
    def sampled(self) -> BoxSampling:
        """See `SplitData`."""
        return self.sampling

    def train_classes(self) -> BoxClasses:
        """The class list of a model made for these data: the categories of train, or else of val, or of test.

        Raises:
            InputError: no split was given, or there is a category id below 1 with "by_id".
        """
        classes = self.box_source(next((split for split in SPLITS if self.has(split)), "train")).classes
        return classes if self.class_rows == "contiguous" else _rows_by_id(classes)

    def training_sets(self) -> Sequence[ImageSet[Sample]]:
        """The augmented training images, or their tiles.

        Raises:
            InputError: the images cannot be used, have no box, or are too few for one step.
        """
        images = self._images("train")
        assert images.canvas_hw is not None  # files that lay pictures out themselves are not trained
        augmenter = self.augmentation.build(images.canvas_hw, images.fill_color)
        source = images.source.source
        if not images.box_count:
            msg = f"'{source}' has no box to learn from. Give annotations with boxes."
            raise InputError(msg)
        if self.tiles.window is not None:
            if self.label_scores:
                msg = "data.label_scores weighs boxes of whole images, and data.tiles.window cuts them. Leave one out."
                raise InputError(msg)
            if self.task is not None and self.task.wants_masks:
                msg = "data.tiles.window cuts boxes only, and head mask_rcnn learns masks too. Leave data.tiles out."
                raise InputError(msg)
            tiles = TrainingTileSet(images, self.tiles, augmenter)
            self.check_train_share(tiles, source, words="tiles")
            return [tiles]
        images.augmenter = augmenter
        self.check_train_share(images, source)
        if self.task is not None and self.task.wants_masks:
            self._refuse_unmasked()
            images.masks = MaskTable.read(self.mask_file("train"))
        if self.label_scores:
            if self.augmentation.mixing.mixes:
                msg = "data.label_scores weighs boxes, which mosaic, copy_paste and mixup do not. Set these to 0."
                raise InputError(msg)
            images.certainty = scores_of_labels(self.scored_file("train"))
        return [images]

    def class_names(self) -> dict[str, tuple[str, ...]]:
        """See `SplitData`."""
        return {"boxes": (self.train_classes() if self.task is None else self.task.classes).names}

    @staticmethod
    def shown(batch: object) -> dict[str, Tensor]:
        """See `SplitData`."""
        assert isinstance(batch, DetectionBatch)
        return {"boxes": batch.class_ids}

    def heaviest(self) -> int:
        """See `SplitData`: an image with the most boxes."""
        images = self._training[0]
        counts = np.diff(self.box_source("train").box_ends)
        return int(counts.argmax()) if len(counts) == len(images) else 0  # tiles are not counted

    @staticmethod
    def resized(batch: object, size_hw: tuple[int, int]) -> DetectionBatch:
        """See `SplitData`."""
        assert isinstance(batch, DetectionBatch)
        before = batch.images.shape[-2], batch.images.shape[-1]
        return batch._replace(
            images=resized_images(batch.images, size_hw),
            boxes_xyxy=resized_boxes(batch.boxes_xyxy, before, size_hw),
            masks=None if batch.masks is None else tuple(resized_labels(masks, size_hw) for masks in batch.masks),
        )

    def mask_file(self, split: SplitName) -> Path:
        """The COCO file with the masks of a split.

        Raises:
            InputError: the data have none.
        """
        msg = (
            f"{type(self).__name__} has no masks, which head mask_rcnn learns. Give COCO files, or another model.head."
        )
        raise InputError(msg)

    def scored_file(self, split: SplitName) -> Path:
        """The COCO file with the scores of a split's labels.

        Raises:
            InputError: the data have none.
        """
        msg = f"data.label_scores is true, but {type(self).__name__} has no scores of labels. Give COCO files."
        raise InputError(msg)

    def _refuse_unmasked(self) -> None:
        if self.augmentation.mixing.mixes:
            msg = "mosaic, copy_paste and mixup mix boxes only, and head mask_rcnn learns masks too. Set them to 0."
            raise InputError(msg)
        if self.augmentation.policy.name in WITHOUT_MASKS:
            msg = (
                f"augmentation.policy '{self.augmentation.policy.name}' moves what is inside single boxes, and head "
                "mask_rcnn learns masks too. Give randaugment, v2, v3 or none."
            )
            raise InputError(msg)

    def mixed(self, images: ReadableImages[Sample]) -> ReadableImages[Sample] | MixedImages[Sample]:
        """The training images, mixed as the augmentation asks."""
        mixing = self.augmentation.mixing
        return MixedImages(images, mixing, parts_of, with_parts) if mixing.mixes else images

    def whole_sets(self, split: SplitName) -> Sequence[ImageSet[Sample]]:
        """The images of a split, letter-boxed as prediction does, or all of their tiles."""
        images = self._images(split)
        if self.task is not None:
            images.views = self.task.views
        if self.task is None or self.task.inference.window is None:
            self._tiled.pop(split, None)
            return [images]
        self._tiled[split] = WholeTileSet(images, self.task.inference, self.task.cell)
        return [self._tiled[split]]

    def tiles_of(self, split: SplitName) -> TiledImages | None:
        """The tiles that the samples of a split are; None where they are whole images."""
        return self._tiled[split].tiles if split in self._tiled else None

    def _images(self, split: SplitName) -> BoxImages:
        source = self.box_source(split)
        classes = self.train_classes() if self.task is None else self.task.classes
        canvas_hw = canvas_of(self.image_size, self.task, "an 'image_size'")
        return BoxImages(source, classes, canvas_hw, self.fill_color, read=self.reader_of(split))


class CocoDataModule(BoxDataModule):
    """Images and annotations in COCO's form.

    Args:
        root: folder that the other paths start from; without it they start from the working folder.
        train_images: folder of the training images.
        train_annotations: their COCO JSON.
        val_images: folder of the validation images.
        val_annotations: their COCO JSON.
        test_images: folder of the test images.
        test_annotations: their COCO JSON; COCO's own test sets come without boxes.
        batch_size: images per device and step; auto is the largest number that fits the memory.
        num_workers: processes that read and augment, per device; None takes as many as there are processors, at
            most 8.
        image_size: side of the canvas, or its height and width; None takes the model's own.
        augmentation: what may happen to training images.
        tiles: tiles that large training images are cut into; validation has the same.
        class_rows: how a model made for the training set numbers its classes: "contiguous" gives each category one
            row in ascending order of id, "by_id" gives category id i row i - 1, gaps included, as the published
            COCO weights have it.
        on_bad_image: "stop" ends the training at a missing or broken image, "skip" takes another one
            in its place, leaves it out of the scores, and lists it in bad_images.jsonl in the run's folder.
        bands: numbers, from 1, of the bands of rasters that are red, green and blue, or of one grey band; by default
            those that a file marks so, else the first three. The checkpoint keeps this, as the two that follow.
        value_range: values of rasters and 16-bit pictures that become 0 and 255; needed for rasters without 8 bits.
        nodata: value of a raster's pixels without data, if files do not state it.
        sampling: which training images come more often, by their classes.
        multi_scale: by which share the longer side of a step's canvas may be shorter or longer, 0 to 0.5; the canvas
            changes every ten steps.
        cache_mib: memory in which decoded training images are kept, per device; what does not fit is decoded each time.
        label_scores: whether a training box counts by the 'score' of its annotation, as pseudo-labels have one; a box
            without one counts in full.
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
        batch_size: BatchSize = 16,
        num_workers: NonNegativeInt | None = None,
        image_size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None,
        augmentation: DetectionAugmentation = DetectionAugmentation(),
        tiles: TrainingTiles = TrainingTiles(),
        class_rows: ClassRows = "contiguous",
        on_bad_image: OnBadImage = "stop",
        bands: tuple[PositiveInt, ...] | None = None,
        value_range: tuple[float, float] | None = None,
        nodata: float | None = None,
        sampling: BoxSampling = BoxSampling(),
        multi_scale: ZeroToHalf = 0.0,
        cache_mib: NonNegativeInt = 0,
        label_scores: bool = False,
    ) -> None:
        super().__init__(
            batch_size,
            num_workers,
            image_size,
            augmentation,
            tiles,
            class_rows,
            on_bad_image,
            bands,
            value_range,
            nodata,
            sampling,
            multi_scale,
            cache_mib,
            label_scores,
        )
        self.root = Path(root or "")
        self.paths: dict[SplitName, tuple[str | None, str | None]] = {
            "train": (train_images, train_annotations),
            "val": (val_images, val_annotations),
            "test": (test_images, test_annotations),
        }
        self._sources: dict[SplitName, CocoAnnotations] = {}

    def has(self, split: SplitName) -> bool:
        """Whether the split was given."""
        return any(self.paths[split])

    def annotation_file(self, split: SplitName) -> Path:
        """The COCO JSON of a split.

        Raises:
            InputError: the file was not given.
        """
        return self._path(split, 1)

    def mask_file(self, split: SplitName) -> Path:
        """The COCO JSON of a split, which holds the masks too.

        Raises:
            InputError: the file was not given.
        """
        return self.annotation_file(split)

    def scored_file(self, split: SplitName) -> Path:
        """The COCO JSON of a split, which holds the scores too.

        Raises:
            InputError: the file was not given.
        """
        return self.annotation_file(split)

    def box_source(self, split: SplitName) -> BoxTable:
        """The annotations of a split, read once.

        Raises:
            InputError: the images or the file were not given, or the file cannot be used.
        """
        if split not in self._sources:
            folder = self._path(split, 0)
            self._sources[split] = CocoAnnotations.read(self.annotation_file(split), folder)
        return self._sources[split]

    def _path(self, split: SplitName, which: int) -> Path:
        given = self.paths[split][which]
        if given is None:
            option = f"{split}_{('images', 'annotations')[which]}"
            msg = f"the data has no '{option}'. Give --data.{option}."
            raise InputError(msg)
        return self.root / given


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
