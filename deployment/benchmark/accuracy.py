"""AP, mIoU and top-1 of a candidate, at the size at which its time is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from classification.data.classes import LabelClasses
from classification.data.dataset import model_targets
from classification.data.sets.folders import read_folder
from classification.data.sets.imagenet import imagenet_names, with_imagenet_names
from classification.data.sets.tables import read_table
from classification.data.sources import LabelledFiles
from classification.prediction.classified import Classified
from classification.scores.metric import WORDS
from classification.scores.records import ClassificationRecords
from deployment.benchmark.stages import Answer, Classifying, Opened, Segmenting
from detection.data.classes import BoxClasses
from detection.data.coco import CocoAnnotations
from detection.prediction.found import Found
from detection.prediction.predictor import DetectionPredictor
from detection.scores.metric import evaluate_boxes
from detection.scores.records import DetectionTable
from engine.errors import InputError
from engine.prediction.canvas import OnCanvas
from engine.reading.images import UInt8Array
from joint.network.original import enlarged_rows
from joint.prediction.found import JointFound
from joint.prediction.predictor import JointPredictor
from segmentation.data.classes import MaskClasses
from segmentation.data.mask_folder import MaskFolder
from segmentation.data.masks import MaskReader
from segmentation.data.pairs import read_image_of
from segmentation.inference.segmented import Segmented
from segmentation.scores.records import SegmentationRecords


class Data(NamedTuple):
    """Labelled pictures; None for what is not there.

    Attributes:
        annotations: a COCO annotation file.
        images: the folder that its file names start from; None is its own.
        masks: a folder of masks.
        mask_images: the folder of their pictures.
        mask_format: what the values of the masks mean; None is `index`.
        mask_list: the pictures to take of that folder.
        labels: a folder with a folder of pictures for each class, or a CSV of files and labels.
        label_images: the folder that the files of such a CSV start from; None is its own.
        label_separator: what stands between several labels of a picture in it.
    """

    annotations: Path | None = None
    images: Path | None = None
    masks: Path | None = None
    mask_images: Path | None = None
    mask_format: Literal["index", "color", "binary"] | None = None
    mask_list: Path | None = None
    labels: Path | None = None
    label_images: Path | None = None
    label_separator: str | None = None

    def fits(self, task: str) -> bool:
        """Whether it says anything about networks of a task."""
        boxes, masks, labels = (each is not None for each in (self.annotations, self.masks, self.labels))
        there = {"detection": boxes, "segmentation": masks, "joint": boxes or masks, "classification": labels}
        return there.get(task, False)

    def check(self) -> None:
        """Do nothing if everything that is needed is given.

        Raises:
            InputError: something is missing, or not there.
        """
        if (self.masks is None) != (self.mask_images is None):
            msg = "--masks is the folder of the masks, and --mask_images that of their pictures. Give both, or neither."
            raise InputError(msg)
        unused = next((name for name in ("mask_format", "mask_list") if getattr(self, name) is not None), None)
        if self.masks is None and unused is not None:
            msg = f"{unused} is about the masks of --masks, and there are none. Give both, or neither."
            raise InputError(msg)
        if self.annotations is None and self.images is not None:
            msg = "--images is the folder of the pictures that --annotations names. Give both, or neither."
            raise InputError(msg)
        if self.annotations is not None and not self.annotations.is_file():
            msg = f"there is no file '{self.annotations}'. Give a COCO annotation file."
            raise InputError(msg)
        table = self.labels is not None and self.labels.suffix.lower() == ".csv"
        unused = next((name for name in ("label_images", "label_separator") if getattr(self, name) is not None), None)
        if not table and unused is not None:
            msg = f"{unused} is about a table of --labels, and none is given. Give a CSV file, or leave it out."
            raise InputError(msg)
        if self.labels is not None and not (self.labels.is_file() if table else self.labels.is_dir()):
            msg = f"there is no folder or CSV file '{self.labels}'. Give CLASS/… or a table of files and labels."
            raise InputError(msg)


def scores_of(opened: Opened, data: Data, tell: Callable[[], None] = lambda: None) -> dict[str, float]:
    """AP of boxes, mIoU of pixels, and top-1 of classes, as far as the network and the data have both.

    Where images have several labels, the mean average precision of the classes stands in top-1's place, as in
    validation. Pictures are laid on the canvas whose time is measured; classes of pixels are compared at the pictures'
    own size.

    Args:
        opened: the candidate.
        data: labelled pictures.
        tell: is called after each picture.

    Raises:
        InputError: the classes of the network and of the data differ, or a file cannot be read.
    """
    found: dict[str, float] = {}
    computing = opened.computing
    if data.annotations is not None and isinstance(computing, DetectionPredictor | JointPredictor):
        found["AP"] = _ap(opened, computing.classes, data, tell)
    if data.masks is not None and data.mask_images is not None:
        if isinstance(computing, JointPredictor):
            found["mIoU"] = _miou(opened, computing.segmentation_classes, data, tell)
        elif isinstance(computing, Segmenting):
            found["mIoU"] = _miou(opened, computing.predictor.classes, data, tell)
    if data.labels is not None and isinstance(computing, Classifying):
        found |= _of_labels(opened, computing.predictor.classes, data, tell)
    return found


def _ap(opened: Opened, classes: BoxClasses, data: Data, tell: Callable[[], None]) -> float:
    assert data.annotations is not None
    source = CocoAnnotations.read(data.annotations, data.images)
    unknown = set(source.classes.category_ids) - set(classes.category_ids)
    if unknown:
        msg = (
            f"'{data.annotations}' has the category {min(unknown)}, which {opened.candidate.subject.name} does not "
            "find. Give annotations of the classes that the network was trained on."
        )
        raise InputError(msg)
    pictures = ((index, opened.reader(source.image_path(index), source.size_hw(index))) for index in range(len(source)))
    rows: list[npt.NDArray[np.float64]] = []
    for index, answer, _ in _answers(opened, pictures, tell):
        found = answer.found if isinstance(answer, JointFound) else answer
        assert isinstance(found, Found)
        boxes = found.boxes_xyxy.astype(np.float64)
        image = np.full((len(found), 1), source.image_ids[index])
        sizes = boxes[:, 2:] - boxes[:, :2]
        rows.append(np.hstack([image, boxes[:, :2], sizes, found.scores[:, None], found.category_ids[:, None]]))
    return evaluate_boxes(source, DetectionTable.of(np.concatenate([np.empty((0, 7)), *rows]))).ap


def _miou(opened: Opened, classes: MaskClasses, data: Data, tell: Callable[[], None]) -> float:
    assert data.masks is not None
    assert data.mask_images is not None
    reader = MaskReader(classes, data.mask_format or "index")
    folder = MaskFolder(data.mask_images, data.masks, reader, list_file=data.mask_list)
    truths: dict[int, UInt8Array] = {}

    def pictures() -> Iterator[tuple[int, UInt8Array]]:
        for index, pair in enumerate(folder.pairs):
            truths[index] = folder.read_mask(pair.mask)
            height, width = truths[index].shape
            yield index, read_image_of((height, width), pair, opened.reader).image

    records = SegmentationRecords(classes)
    for index, answer, sample in _answers(opened, pictures(), tell):
        if isinstance(answer, JointFound):
            assert answer.segmented is not None
            rows = answer.segmented.class_ids
        else:
            assert isinstance(answer, Segmented)
            rows = enlarged_rows(torch.from_numpy(answer.class_ids), sample.letterbox).numpy()
        records.add(index, rows, truths.pop(index))
    return records.scores().miou


def _of_labels(opened: Opened, classes: LabelClasses, data: Data, tell: Callable[[], None]) -> dict[str, float]:
    files = _labelled(data, classes)
    targets = torch.from_numpy(model_targets(files, classes))
    pictures = ((index, files.read_image(index, opened.reader)) for index in range(len(files)))
    records = ClassificationRecords(classes, threshold=0.5)  # which neither measure looks at
    for index, answer, _ in _answers(opened, pictures, tell):
        assert isinstance(answer, Classified)
        records.add(torch.tensor([index]), torch.from_numpy(answer.probabilities)[None], targets[index, None])
    return {WORDS["map" if classes.several else "top1"]: records.scores().score}


def _labelled(data: Data, classes: LabelClasses) -> LabelledFiles:
    assert data.labels is not None
    if data.labels.is_dir():
        files = read_folder(data.labels)
    else:
        columns = classes.names if classes.several and data.label_separator is None else ()
        files = read_table(data.labels, data.label_images, data.label_separator, columns)
    return with_imagenet_names(files) if classes.names == imagenet_names() else files


def _answers(
    opened: Opened, pictures: Iterator[tuple[int, UInt8Array]], tell: Callable[[], None]
) -> Iterator[tuple[int, Answer, OnCanvas]]:
    waiting: list[tuple[int, OnCanvas]] = []

    def flush() -> Iterator[tuple[int, Answer, OnCanvas]]:
        samples = [sample for _, sample in waiting]
        images = torch.stack([sample.image for sample in samples]).permute(0, 3, 1, 2)
        for (index, sample), answer in zip(waiting, opened.answers(images, samples), strict=True):
            yield index, answer, sample
            tell()
        waiting.clear()

    for index, image in pictures:
        laid = opened.canvas(image)
        if waiting and waiting[0][1].image.shape != laid.image.shape:  # of a file that takes pictures as they are
            yield from flush()
        waiting.append((index, laid))
        if len(waiting) == opened.candidate.batch:
            yield from flush()
    if waiting:
        yield from flush()
