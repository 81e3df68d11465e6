"""The thin step from a scored task to its report."""

from __future__ import annotations

from detection.analysis.cards import batch_cards
from detection.data.batch import DetectionBatch
from detection.reports.boxes import FoundBoxes, box_figures, box_sections
from detection.scores.metric import BoxScores
from detection.task import DetectionTask
from detection.tiles.evaluation import of_whole_images
from engine.data.contracts import SplitName, TaskData
from engine.reading.reader import PixelReader
from engine.reports.batches import batch_section
from engine.reports.contents import Report
from engine.training.task import DenseTask


def shown(task: DenseTask[TaskData], split: SplitName) -> Report:
    """What the last evaluation of a detector showed.

    Args:
        task: a `DetectionTask` that has scored the split.
        split: the split.
    """
    assert isinstance(task, DetectionTask)
    assert isinstance(task.scores, BoxScores)
    assert task.data is not None
    source = task.data.box_source(split)
    whole = of_whole_images(task.records.gather(), task.data.tiles_of(split), task.postprocess)
    records = whole.numbered_as(source, task.classes)
    found = FoundBoxes(source, records.table(), records.image_ids, task.scores)
    return Report(
        title=f"{task.network.title}: {len(task.classes)} classes",
        subtitle=f"{split} of {source.source}, {len(records.image_ids):,} images",
        classes=tuple(name for name in task.classes.names if name),
        figures=box_figures(found),
        sections=box_sections(found, PixelReader(task.reading, task.fill_color)),
        score_threshold=found.least_score,
    )


def shown_batch(task: DenseTask[TaskData], batch: object) -> Report:
    """A training batch of a detector, as the network sees it."""
    assert isinstance(task, DetectionTask)
    assert isinstance(batch, DetectionBatch)
    cards = batch_cards(batch, task.classes)
    return Report("Training", classes=task.classes.names, sections=(batch_section(cards, len(batch.images)),))
