"""The thin step from a scored task to its report."""

from __future__ import annotations

from collections.abc import Callable

import torch

from engine.data.contracts import SplitName, TaskData
from engine.errors import InputError
from engine.reading.reader import PixelReader
from engine.reports.batches import batch_section
from engine.reports.choosing import distinct_names
from engine.reports.contents import Report
from engine.training.task import DenseTask
from segmentation.data.batch import SegmentationBatch
from segmentation.data.dataset import WholeImages
from segmentation.inference.inference import class_rows
from segmentation.reports.batches import batch_cards
from segmentation.reports.masks import FoundMasks, MaskedImage, color_names, mask_figures, mask_sections
from segmentation.scores.metric import SegmentationScores
from segmentation.task import SegmentationTask


def shown(task: DenseTask[TaskData], split: SplitName) -> Report:
    """What the last evaluation of a segmenter showed.

    Args:
        task: a `SegmentationTask` that has scored the split.
        split: the split.
    """
    assert isinstance(task, SegmentationTask)
    assert isinstance(task.scores, SegmentationScores)
    assert task.data is not None
    assert task.records is not None
    images = WholeImages(task.data.files(split), task.classes, PixelReader(task.reading, task.fill_color))
    scores = task.records.gather().image_scores()
    names = distinct_names([str(pair.image) for pair in images.files.pairs])
    found = FoundMasks(
        task.classes, task.scores, scores, {place: names[place] for place in scores}, looking(task, images)
    )
    config = task.network.config
    return Report(
        title=f"{config.decoder} on {config.backbone}: {len(task.classes)} classes",
        subtitle=f"{split} of {images.name}, {len(scores):,} images",
        classes=task.classes.names,
        class_colors=color_names(task.classes),
        figures=mask_figures(task.scores),
        sections=mask_sections(found),
    )


def looking(task: SegmentationTask, images: WholeImages) -> Callable[[int], MaskedImage | None]:
    """Computes an image as the evaluation did."""

    def look(place: int) -> MaskedImage | None:
        try:
            sample = images[place]
        except InputError:
            return None
        batch = torch.from_numpy(sample.image).permute(2, 0, 1)[None].to(task.device)
        task.network.eval()
        rows = class_rows(task.network, batch, task.inference)[0].cpu().numpy()
        return MaskedImage(sample.image, sample.class_ids, rows)

    return look


def shown_batch(task: DenseTask[TaskData], batch: object) -> Report:
    """A training batch of a segmenter, as the network sees it."""
    assert isinstance(task, SegmentationTask)
    assert isinstance(batch, SegmentationBatch)
    cards = batch_cards(batch, task.classes)
    return Report("Training", classes=task.classes.names, sections=(batch_section(cards, len(batch.images)),))
