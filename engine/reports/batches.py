"""Training images as a chapter."""

from __future__ import annotations

from collections.abc import Sequence

from engine.reports.contents import Gallery, ImageCard, Section

MOST = 16  # images of a batch that are shown


def batch_section(cards: Sequence[ImageCard], total: int) -> Section:
    """A training batch.

    Args:
        cards: its first images with their labels.
        total: images of the batch.
    """
    title = "Training batch"
    return Section(title, (Gallery(title, tuple(cards), total, "As the network sees them, after augmentation."),))
