"""The thin step from a scored task to its report."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from detection.analysis.cards import batch_cards
from detection.reports.boxes import FoundBoxes, box_figures, box_sections
from detection.scores.metric import BoxScores
from engine.data.contracts import SplitName, TaskData
from engine.errors import InputError
from engine.reading.reader import PixelReader
from engine.reports.batches import batch_section
from engine.reports.choosing import distinct_names
from engine.reports.contents import Figure, Report, Section
from engine.training.task import DenseTask
from joint.data.batch import JointBatch
from joint.data.dataset import JointImages
from joint.prediction.predictor import JointPredictor
from joint.scores.records import JointRecords
from joint.scores.scores import JointScores
from joint.task import JointTask
from segmentation.data.batch import SegmentationBatch
from segmentation.data.dataset import read_pair
from segmentation.reports.batches import batch_cards as mask_cards
from segmentation.reports.masks import FoundMasks, MaskedImage, color_names, mask_figures, mask_sections
from segmentation.scores.metric import SegmentationScores


def shown(task: DenseTask[TaskData], split: SplitName) -> Report:
    """What the last evaluation of a joint network showed.

    Args:
        task: a `JointTask` that has scored the split.
        split: the split.
    """
    assert isinstance(task, JointTask)
    assert isinstance(task.scores, JointScores)
    assert task.data is not None
    assert task.records is not None
    scores, records = task.scores, task.records.gather()
    sets = task.data.whole_sets(split)
    joint = None if math.isnan(scores.joint) else scores.joint
    figures = [Figure("joint", joint, "weighted mean of AP and mIoU")]
    sections: list[Section] = []
    least_score = 0.0
    if scores.boxes is not None:
        boxes = _boxes(task, split, records, scores.boxes)
        figures += box_figures(boxes)
        sections += box_sections(boxes, PixelReader(task.reading, task.fill_color))
        least_score = boxes.least_score
    if scores.masks is not None:
        figures += mask_figures(scores.masks)
        sections += mask_sections(_masks(task, sets, records, scores.masks))
    masks = dict(zip(task.segmentation_classes.names, color_names(task.segmentation_classes), strict=True))
    names = tuple(dict.fromkeys((*task.segmentation_classes.names, *filter(None, task.classes.names))))
    config = task.network.detector.config
    return Report(
        title=f"Joint network {config.name}: {len(task.classes)} classes of objects, {len(masks)} of pixels",
        subtitle=f"{split} of {sets[0].name}, {sum(map(len, sets)):,} images",
        classes=names,
        class_colors=tuple(masks.values()),
        figures=tuple(figures),
        sections=tuple(sections),
        score_threshold=least_score,
    )


def _boxes(task: JointTask, split: SplitName, records: JointRecords, scores: BoxScores) -> FoundBoxes:
    assert task.data is not None
    source = task.data.box_source(split)
    found = records.boxes.numbered_as(source, task.classes)
    return FoundBoxes(source, found.table(), found.image_ids, scores)


def _masks(
    task: JointTask, sets: Sequence[JointImages], records: JointRecords, scores: SegmentationScores
) -> FoundMasks:
    images = next(images for images in sets if images.masks is not None)
    places = {images.image_id(place): place for place in range(len(images))}
    names = distinct_names([str(images.image_path(place)) for place in range(len(images))])
    image_scores = {places[image_id]: score for image_id, score in records.masks.image_scores().items()}
    chosen = {place: names[place] for place in image_scores}
    return FoundMasks(task.segmentation_classes, scores, image_scores, chosen, _looking(task, images))


def _looking(task: JointTask, images: JointImages) -> Callable[[int], MaskedImage | None]:
    """Computes an image as the evaluation did."""
    predictor = JointPredictor(task.network, task.postprocess, image_size=task.canvas_hw, detect=False)
    masks = images.masks
    assert masks is not None

    def look(place: int) -> MaskedImage | None:
        try:
            image, true_rows = read_pair(masks.files, masks.files.pairs[place], masks.rows, masks.read)
        except InputError:
            return None
        found = predictor.predict(image).segmented
        assert found is not None
        return MaskedImage(image, true_rows, found.class_ids)

    return look


def shown_batch(task: DenseTask[TaskData], batch: object) -> Report:
    """A training batch of a joint network, as the network sees it: boxes, and classes of pixels where there are any."""
    assert isinstance(task, JointTask)
    assert isinstance(batch, JointBatch)
    masked = batch.masked.tolist()
    crops = mask_cards(SegmentationBatch(batch.images, batch.masks), task.segmentation_classes)
    cards = [
        replace(card, overlays=crop.overlays if has else ())
        for card, crop, has in zip(batch_cards(batch.detection(), task.classes), crops, masked, strict=False)
    ]
    return Report("Training", classes=task.classes.names, sections=(batch_section(cards, len(masked)),))
