"""COCO's numbers of instance masks: those of boxes, with the overlap of masks (`segm`), by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypedDict

import msgspec
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from detection.data.boxes import BoxSource
from detection.data.categories import CategoryRows
from detection.data.classes import BoxClasses
from detection.data.coco import CocoAnnotations
from detection.data.masks import Rle
from detection.scores.metric import COCO_MOST, BoxScores, summarised
from detection.scores.truth import check_known
from engine.distributed import all_gather_objects
from engine.errors import InputError
from engine.outputs import atomic_path


class MaskEntry(TypedDict):
    """A mask of COCO's results form."""

    image_id: int
    category_id: int
    segmentation: Rle
    bbox: list[float]
    score: float


class _Result(msgspec.Struct):
    image_id: int
    category_id: int
    segmentation: dict[str, object] | list[list[float]]
    score: float


class MaskRecords:
    """Collects the masks that a detector finds, for any batches and any number of processes.

    An image that comes again is dropped, as `DetectionRecords` does.
    """

    def __init__(self) -> None:
        self._images: dict[int, list[MaskEntry]] = {}

    def add(
        self,
        image_id: int,
        masks: Sequence[Rle],
        boxes_xyxy: Iterable[Sequence[float]],
        scores: Iterable[float],
        category_ids: Iterable[int],
    ) -> None:
        """Add the N objects of an image.

        Args:
            image_id: of the annotation file.
            masks: of the whole image.
            boxes_xyxy: (N, 4) pixels of the image.
            scores: (N,).
            category_ids: (N,) of the model.
        """
        entries = [
            MaskEntry(
                image_id=image_id,
                category_id=category_id,
                segmentation=mask,
                bbox=[left, top, right - left, bottom - top],
                score=score,
            )
            for mask, (left, top, right, bottom), score, category_id in zip(
                masks, boxes_xyxy, scores, category_ids, strict=True
            )
        ]
        self._images.setdefault(image_id, entries)

    def add_batch(
        self,
        image_ids: Sequence[int],
        masks: Sequence[Sequence[Rle]],
        boxes_xyxy: Tensor,
        scores: Tensor,
        category_ids: Tensor,
    ) -> None:
        """Add the objects of B images.

        Args:
            image_ids: B, of the annotation file.
            masks: of the whole image, for each image as many as it has objects.
            boxes_xyxy: (B, D, 4) pixels of the image, of which the first are those of the objects.
            scores: (B, D).
            category_ids: (B, D) of the model.
        """
        for row, (image_id, found) in enumerate(zip(image_ids, masks, strict=True)):
            count = len(found)
            parts = (part[row, :count].tolist() for part in (boxes_xyxy, scores, category_ids))
            self.add(image_id, found, *parts)

    def gather(self) -> MaskRecords:
        """The records of all processes, on each process."""
        merged = MaskRecords()
        for images in all_gather_objects(self._images):
            for image_id, entries in images.items():
                merged._images.setdefault(image_id, entries)
        return merged

    @property
    def image_ids(self) -> list[int]:
        """Ids of all images seen, ascending."""
        return sorted(self._images)

    def entries(self, source: BoxSource, classes: BoxClasses) -> list[MaskEntry]:
        """All masks with the category ids of the scored annotations; classes that these do not list are left out.

        Raises:
            InputError: the annotations and the model do not fit, see `CategoryRows.of`.
        """
        found = [entry for image_id in self.image_ids for entry in self._images[image_id]]
        if not any(source.classes.names):
            return found
        listed = CategoryRows.of(source, classes).category_ids.tolist()
        numbers = dict(zip(classes.category_ids, listed, strict=True))
        kept = [entry for entry in found if numbers[entry["category_id"]] >= 0]
        return [MaskEntry(**{**entry, "category_id": numbers[entry["category_id"]]}) for entry in kept]


def write_masks(path: str | Path, entries: Sequence[MaskEntry]) -> None:
    """Write masks and boxes in COCO's results form, as its test server reads them.

    Raises:
        InputError: the file cannot be written.
    """
    encoded = msgspec.json.encode(entries)
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded)


def read_masks(path: str | Path) -> list[dict[str, object]]:
    """The masks of a COCO results file.

    Raises:
        InputError: the file cannot be read, or is no such list.
    """
    try:
        found = msgspec.json.decode(Path(path).read_bytes(), type=list[_Result])
    except (OSError, msgspec.MsgspecError) as error:
        msg = (
            f"cannot read '{path}': {error}. Give a COCO results list of "
            "{image_id, category_id, segmentation, score}."
        )
        raise InputError(msg) from error
    plain: list[dict[str, object]] = msgspec.to_builtins(found)
    return plain


def evaluate_masks(
    ground_truth: str | Path,
    results: Sequence[MaskEntry] | Sequence[dict[str, object]],
    *,
    image_ids: Iterable[int] | None = None,
    max_detections: int = COCO_MOST,
) -> BoxScores:
    """Score masks against a COCO annotation file.

    Args:
        ground_truth: the file, with a `segmentation` in each annotation.
        results: entries in COCO's results form.
        image_ids: score these images only; by default all of the file.
        max_detections: how many masks per image and category count.

    Raises:
        InputError: the file is malformed, or an entry is of an unknown image or category.
    """
    source = CocoAnnotations.to_score(ground_truth)
    names = dict(zip(source.classes.category_ids, source.classes.names, strict=True))
    for what, known in (("image", source.image_ids), ("category", np.array(sorted(names), np.int64))):
        given = np.array([dict(entry)[f"{what}_id"] for entry in results], np.int64)
        check_known(given, known.tolist(), what, "the masks")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(ground_truth))
        for annotation in truth.dataset.get("annotations", ()):
            if not annotation.get("segmentation"):
                msg = f"'{ground_truth}' has annotations without a 'segmentation'. Give one that has, or score boxes."
                raise InputError(msg)
        if results:
            found = truth.loadRes([dict(entry) for entry in results])
        else:  # which pycocotools cannot load
            found = COCO()
            found.dataset = {"images": truth.dataset["images"], "categories": truth.dataset["categories"]}
            found.dataset["annotations"] = []
            found.createIndex()
        evaluator = COCOeval(truth, found, "segm")
        images = source.image_ids.tolist() if image_ids is None else sorted({int(each) for each in image_ids})
        return summarised(evaluator, names, images, max_detections)
