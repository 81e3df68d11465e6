"""What an evaluation counts in each image, collected over batches and processes into the scores of the set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from engine.distributed import all_gather_objects
from engine.errors import InputError
from segmentation.data.cityscapes.labels import CITYSCAPES
from segmentation.data.classes import IGNORED, MaskClasses
from segmentation.scores.boundary import boundary_f_scores, check_tolerance
from segmentation.scores.boundary_iou import Bands, boundary_bands
from segmentation.scores.cityscapes_scores import ID_COUNT, InstanceSums, instance_sums
from segmentation.scores.confusion import Counts, Floats, UInt8Array, class_confusion, count_pairs
from segmentation.scores.metric import SegmentationScores, benchmark_scores, class_scores

_UNLABELED = 0  # Cityscapes' id for pixels that are not counted; it could be any of the ignored ids
_NO_ID = 254


@dataclass(frozen=True, eq=False)
class ImageCounts:
    """What one image adds to the scores; a few kilobytes.

    Attributes:
        places: (C,) int32 places in the flattened confusion matrix that are not zero.
        counts: (C,) int64 pixels there.
        instances: sums over its instances, or None without an instance map.
        boundary: (K,) boundary F-scores, or None if not measured.
        bands: pixels along the outlines of each class, or None if not measured.
    """

    places: npt.NDArray[np.int32]
    counts: Counts
    instances: InstanceSums | None
    boundary: Floats | None
    bands: Bands | None = None


@dataclass(frozen=True)
class ImageCounter:
    """Counts single images; it can be sent to worker processes.

    Attributes:
        classes: the class list.
        cityscapes: count what Cityscapes' category and instance scores need; the classes must be `CITYSCAPES`.
        boundary: tolerance of the boundary F-score, below 1 a share of the diagonal, from 1 on pixels; None leaves
            it and boundary IoU out, as they take longer than everything else.

    Raises:
        InputError: the classes are not Cityscapes' though `cityscapes` is set, or the tolerance is out of range.
    """

    classes: MaskClasses
    cityscapes: bool = False
    boundary: float | None = None

    def __post_init__(self) -> None:
        if self.cityscapes and self.classes.label_ids != CITYSCAPES.label_ids:
            msg = (
                f"Cityscapes' scores are of its own {len(CITYSCAPES)} classes, and this class list of "
                f"{len(self.classes)} is another. Give a network that was trained on Cityscapes, or a data set without."
            )
            raise InputError(msg)
        if self.boundary is not None:
            check_tolerance(self.boundary)

    @property
    def confusion_shape(self) -> tuple[int, int]:
        """(34, 34) by ids for Cityscapes, else (K, K + 1) by rows."""
        return (ID_COUNT, ID_COUNT) if self.cityscapes else (len(self.classes), len(self.classes) + 1)

    def of_rows(
        self,
        predicted_rows: UInt8Array,
        true_rows: UInt8Array,
        instance_ids: npt.NDArray[np.integer] | None = None,
    ) -> ImageCounts:
        """Count an image given by rows of the class list.

        Args:
            predicted_rows: (H, W); 255 means no class.
            true_rows: (H, W); 255 is not counted.
            instance_ids: (H, W) of Cityscapes, or None.

        Raises:
            InputError: the instance map holds what cannot be.
            ValueError: the maps differ in size, or a true row is beyond the classes.
        """
        if self.cityscapes:
            ids = self.classes.label_by_class.copy()
            ids[len(self.classes) :] = _NO_ID  # refused below
            ids[IGNORED] = _UNLABELED
            return self.of_ids(ids[predicted_rows], ids[true_rows], instance_ids)
        confusion = class_confusion(count_pairs(true_rows, predicted_rows), len(self.classes))
        return self._counts(confusion, None, predicted_rows, true_rows)

    def of_ids(
        self,
        predicted_ids: UInt8Array,
        true_ids: UInt8Array,
        instance_ids: npt.NDArray[np.integer] | None = None,
    ) -> ImageCounts:
        """Count an image given by Cityscapes' ids, as its files hold them.

        Raises:
            InputError: the instance map holds what cannot be.
            ValueError: the maps differ in size or hold ids beyond 33.
        """
        pairs = count_pairs(true_ids, predicted_ids)
        if pairs[ID_COUNT:].any() or pairs[:, ID_COUNT:].any():
            msg = f"a label map has an id beyond {ID_COUNT - 1}"
            raise ValueError(msg)
        instances = None if instance_ids is None else instance_sums(predicted_ids, instance_ids)
        rows = self.classes.class_by_label
        maps = (predicted_ids, true_ids) if self.boundary is None else (rows[predicted_ids], rows[true_ids])
        return self._counts(pairs[:ID_COUNT, :ID_COUNT], instances, *maps)

    def _counts(
        self, confusion: Counts, instances: InstanceSums | None, predicted_rows: UInt8Array, true_rows: UInt8Array
    ) -> ImageCounts:
        flat = confusion.ravel()
        places = np.flatnonzero(flat)
        boundary = bands = None
        if self.boundary is not None:
            boundary = boundary_f_scores(predicted_rows, true_rows, len(self.classes), self.boundary)
            bands = boundary_bands(predicted_rows, true_rows, len(self.classes))
        return ImageCounts(places.astype(np.int32), flat[places], instances, boundary, bands)


class SegmentationRecords:
    """Collects the counts of an evaluation, for any batches and any number of processes.

    An image that comes again is dropped: the sampler of several processes repeats images to give each the same
    number. Sums are taken in the order of the images' indices, so that any number of processes gives the same bits.

    Args:
        classes: the class list.
        cityscapes: whether to measure Cityscapes' category and instance scores.
        boundary: tolerance of the boundary F-score, or None to leave it out; see `ImageCounter`.

    Raises:
        InputError: as `ImageCounter`.
    """

    def __init__(self, classes: MaskClasses, cityscapes: bool = False, boundary: float | None = None) -> None:
        self.counter = ImageCounter(classes, cityscapes, boundary)
        self._images: dict[int, ImageCounts] = {}

    def __len__(self) -> int:
        return len(self._images)

    @property
    def indices(self) -> tuple[int, ...]:
        """The images that were counted, ascending."""
        return tuple(sorted(self._images))

    def add(
        self,
        index: int,
        predicted_rows: UInt8Array,
        true_rows: UInt8Array,
        instance_ids: npt.NDArray[np.integer] | None = None,
    ) -> None:
        """Count an image.

        Args:
            index: its place in the data set.
            predicted_rows: (H, W) rows of the class list.
            true_rows: (H, W) rows of the class list; 255 is not counted.
            instance_ids: (H, W) of Cityscapes; None or an empty array where there are none.

        Raises:
            InputError: the instance map holds what cannot be.
            ValueError: the maps differ in size, or a true row is beyond the classes.
        """
        if index not in self._images:
            given = instance_ids if instance_ids is not None and instance_ids.size else None
            self.put(index, self.counter.of_rows(predicted_rows, true_rows, given))

    def put(self, index: int, counts: ImageCounts) -> None:
        """Take counts that were made elsewhere with the same `counter`."""
        self._images.setdefault(int(index), counts)

    def gather(self) -> SegmentationRecords:
        """The records of all processes, on each process."""
        merged = SegmentationRecords(self.counter.classes, self.counter.cityscapes, self.counter.boundary)
        for images in all_gather_objects(self._images):
            for index, counts in images.items():
                merged.put(index, counts)
        return merged

    def scores(self) -> SegmentationScores:
        """The scores of all images that were counted.

        Raises:
            InputError: some images have an instance map and others have none.
        """
        images = [self._images[index] for index in self.indices]
        confusion = np.zeros(self.counter.confusion_shape, np.int64)
        flat = confusion.reshape(-1)  # a view
        for image in images:
            flat[image.places] += image.counts
        boundary = bands = None
        if self.counter.boundary is not None:
            boundary = _mean_boundary(images, len(self.counter.classes))
            bands = _sum_of_bands(images, len(self.counter.classes)).iou()
        if not self.counter.cityscapes:
            return class_scores(self.counter.classes, confusion, boundary, bands)
        return benchmark_scores(confusion, self._instances(images), boundary, bands)

    def image_scores(self) -> dict[int, float]:
        """The mean IoU of each image alone, over the classes that are true or found in it; NaN without counted pixels.

        It is by the images' indices. The mean over images is not the score of the set, in which large classes of an
        image weigh more.
        """
        found: dict[int, float] = {}
        for index in self.indices:
            alone = SegmentationRecords(self.counter.classes, self.counter.cityscapes)
            alone.put(index, replace(self._images[index], instances=None))
            found[index] = alone.scores().miou
        return found

    def _instances(self, images: Sequence[ImageCounts]) -> InstanceSums | None:
        known = [image.instances for image in images if image.instances is not None]
        if not known:
            return None
        if len(known) < len(images):
            missing = next(index for index in self.indices if self._images[index].instances is None)
            msg = (
                f"{len(images) - len(known)} of {len(images)} images have no instance map, such as number {missing}. "
                "Give one for each image, or for none."
            )
            raise InputError(msg)
        total = InstanceSums.zero()
        for sums in known:
            total = total.plus(sums)
        return total


def _mean_boundary(images: Sequence[ImageCounts], count: int) -> Floats:
    """The mean over the images in which a class has a boundary, true or drawn."""
    total, seen = np.zeros(count), np.zeros(count)
    for image in images:
        if image.boundary is not None:
            known = ~np.isnan(image.boundary)
            total[known] += image.boundary[known]
            seen += known
    with np.errstate(invalid="ignore"):
        return np.asarray(total / seen)


def _sum_of_bands(images: Sequence[ImageCounts], count: int) -> Bands:
    """The pixels of the bands of all images together."""
    total = Bands(np.zeros(count, np.int64), np.zeros(count, np.int64))
    for image in images:
        if image.bands is not None:
            total = Bands(total.both + image.bands.both, total.either + image.bands.either)
    return total
