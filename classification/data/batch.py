"""What the loader hands to the network and to the measures."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class ClassificationBatch(NamedTuple):
    """Training images of one size.

    Attributes:
        images: (B, 3, H, W) uint8 RGB.
        targets: (B,) int64 rows of the class list, or (B, K) float32 of 0 and 1 where images have several labels.
        stage: how far the training has grown, see `classification.training.progressive`; 0 without stages.
    """

    images: Tensor
    targets: Tensor
    stage: int


class EvaluationBatch(NamedTuple):
    """Images of the network's size with their labels.

    Attributes:
        images: (B, 3, H, W) uint8 RGB.
        indices: (B,) int64 places in the data set, by which the repeats of a distributed sampler are dropped.
        targets: as in training.
    """

    images: Tensor
    indices: Tensor
    targets: Tensor
