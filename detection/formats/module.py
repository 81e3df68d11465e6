"""The data module of the detector: COCO files that are named one by one, or a whole set in any format."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from lightning.pytorch.utilities import rank_zero_info

from detection.data.augment import DetectionAugmentation
from detection.data.boxes import BoxTable
from detection.data.classes import ClassRows
from detection.data.module import CocoDataModule
from detection.data.tiles.options import TrainingTiles
from detection.formats.collected import ReadOptions, VocOrigin
from detection.formats.found import FormatWord, read_set
from detection.formats.readers.coco_rows import read_sound
from engine.annotations.files import BrokenRow
from engine.checked import checked
from engine.data.bad_images import OnBadImage
from engine.data.contracts import BatchSize, SplitName
from engine.data.sampling.settings import BoxSampling
from engine.errors import InputError
from engine.numbers import NonNegativeInt, PositiveInt, ZeroToHalf


class BoxSetModule(CocoDataModule):
    """Images with boxes: of a folder in any format, or of COCO files.

    Args:
        root: the folder of a set in any format, which is recognised, or one label file of it; or, with paths of
            splits, the folder that these start from.
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
        format: the format of the set in root, where it holds several; None recognises it.
        split: shares of train, val and test, such as 0.8/0.1/0.1, for a set without splits. Where an image goes
            depends on its name alone, so that it stays there when others come.
        group: a regular expression for names of images; those that it matches alike, in its first bracket or as a
            whole, stay in one split, such as '(.*)_frame' for the frames of a video.
        classes: names of the classes in their order, where the set has none or another one.
        voc_origin: number of the first pixel in Pascal VOC's XML: "1" as in VOC itself, "0" as most tools write it,
            "auto" tells by the coordinates.
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
        format: FormatWord | None = None,
        split: str | None = None,
        group: str | None = None,
        classes: tuple[str, ...] = (),
        voc_origin: VocOrigin = "auto",
    ) -> None:
        paths = (train_images, train_annotations, val_images, val_annotations, test_images, test_annotations)
        super().__init__(
            *(root, *paths, batch_size, num_workers, image_size, augmentation, tiles, class_rows, on_bad_image),
            *(bands, value_range, nodata, sampling, multi_scale, cache_mib, label_scores),
        )
        self.whole = root is not None and not any(paths)
        self.format = format
        self.split = split
        self.group = group
        self.options = ReadOptions(tuple(classes), voc_origin)
        self.broken: list[BrokenRow] | None = None

    @cached_property
    def parts(self) -> Mapping[SplitName, BoxTable]:
        """The splits of the set in `root`, read once.

        Raises:
            InputError: the set cannot be recognised, read or split.
        """
        found = read_set(self.root, self.format, self.options, self.broken, "--data.")
        for line in (found.line(), *found.notes):
            rank_zero_info(f"{found.root}: {line}")
        return found.parts(self.split, self.group)

    def has(self, split: SplitName) -> bool:
        """Whether the split was given, or the set has it."""
        return split in self.parts if self.whole else super().has(split)

    def box_source(self, split: SplitName) -> BoxTable:
        """The images and boxes of a split, read once.

        Raises:
            InputError: the split is not there, or cannot be used.
        """
        if not self.whole:
            if self.broken is None:
                return super().box_source(split)
            folder = self._path(split, 0)
            return read_sound(self.annotation_file(split), folder, self.broken)
        if split not in self.parts:
            msg = f"the set in '{self.root}' has no {split}, only {', '.join(self.parts)}. Give --data.{split}_images."
            raise InputError(msg)
        return self.parts[split]
