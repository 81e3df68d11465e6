"""The thin step from a scored task to its report."""

from __future__ import annotations

from collections.abc import Callable

from classification.data.batch import ClassificationBatch
from classification.reports.labels import FoundLabels, batch_cards, label_figures, label_sections
from classification.scores.metric import ClassificationScores
from classification.task import ClassificationTask
from engine.data.contracts import SplitName, TaskData
from engine.errors import InputError
from engine.reading.images import UInt8Array
from engine.reading.reader import PixelReader
from engine.reports.batches import batch_section
from engine.reports.choosing import distinct_names
from engine.reports.contents import Report
from engine.training.task import DenseTask


def shown(task: DenseTask[TaskData], split: SplitName) -> Report:
    """What the last evaluation of a classifier showed.

    Args:
        task: a `ClassificationTask` that has scored the split.
        split: the split.
    """
    assert isinstance(task, ClassificationTask)
    assert isinstance(task.scores, ClassificationScores)
    assert task.data is not None
    assert task.records is not None
    files = task.data.files(split)
    collected = task.records.gather()
    names = distinct_names([files.image_name(place) for place in range(len(files))])
    found = FoundLabels(
        task.classes, task.scores, collected, names, looking(task, split), several_threshold=task.threshold
    )
    config = task.network.config
    return Report(
        title=f"{config.backbone}: {len(task.classes)} classes",
        subtitle=f"{split} of {files.source}, {len(collected.places):,} images",
        classes=task.classes.names,
        figures=label_figures(task.scores),
        sections=label_sections(found),
    )


def looking(task: ClassificationTask, split: SplitName) -> Callable[[int], UInt8Array | None]:
    """Reads an image again."""
    assert task.data is not None
    files, reader = task.data.files(split), PixelReader(task.reading, task.fill_color)

    def look(place: int) -> UInt8Array | None:
        try:
            return files.read_image(place, reader)
        except InputError:
            return None

    return look


def shown_batch(task: DenseTask[TaskData], batch: object) -> Report:
    """A training batch of a classifier, as the network sees it."""
    assert isinstance(task, ClassificationTask)
    assert isinstance(batch, ClassificationBatch)
    cards = batch_cards(batch, task.classes)
    return Report("Training", classes=task.classes.names, sections=(batch_section(cards, len(batch.images)),))
