"""Sources as a loader reads and prepares them, and the Lightning module that answers a batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import Dataset

from engine.errors import InputError
from engine.prediction.predictor import Predictor, Preparation, Prepared, places_by_shape
from engine.prediction.sources import IMAGE, SourceFile
from engine.reading.reader import PixelReader

_NOTHING = torch.empty(0)


class PredictionBatch(Generic[Prepared]):
    """Sources of one step.

    It is no tuple and no dataclass: Lightning would look into these and move the images to the device one by one; the
    predictor moves them stacked. A worker sends it with the images of one shape in one tensor, because each tensor
    keeps a file open.

    Args:
        indices: places of the images in the list of sources.
        samples: the prepared images, of any shapes.
        unread: places of the sources that are no images; the task reads them while it computes them.
        failed: places of the images that could not be read, with the reason of each.
    """

    def __init__(self, indices: list[int], samples: list[Prepared], unread: list[int], failed: dict[int, str]) -> None:
        self.indices = indices
        self.samples = samples
        self.unread = unread
        self.failed = failed

    def __reduce__(self) -> tuple[object, ...]:
        groups = places_by_shape(self.samples)
        stacks = [torch.stack([self.samples[place].image for place in places]) for places in groups]
        bare = [sample._replace(image=_NOTHING) for sample in self.samples]
        return _unpacked, (self.indices, bare, self.unread, self.failed, groups, stacks)


def _unpacked(
    indices: list[int],
    bare: list[Prepared],
    unread: list[int],
    failed: dict[int, str],
    groups: list[list[int]],
    stacks: list[Tensor],
) -> PredictionBatch[Prepared]:
    """The batch that a worker sent."""
    samples = list(bare)
    for places, stack in zip(groups, stacks, strict=True):
        for place, image in zip(places, stack, strict=True):
            samples[place] = bare[place]._replace(image=image)
    return PredictionBatch(indices, samples, unread, failed)


class SourceImages(Dataset[tuple[int, Prepared | str | None]]):
    """The sources that are left, by their places in the whole list.

    An item is the place with the prepared image, with the reason why the image cannot be read, or with None for a
    source that is no image.

    Args:
        sources: all sources.
        left: places of those that are left.
        read: the reader of each image.
        prepare: the preparation of each image.
    """

    def __init__(
        self, sources: Sequence[SourceFile], left: Sequence[int], read: PixelReader, prepare: Preparation[Prepared]
    ) -> None:
        self.sources = list(sources)
        self.left = list(left)
        self.read = read
        self.prepare = prepare

    def __len__(self) -> int:
        return len(self.left)

    def __getitem__(self, number: int) -> tuple[int, Prepared | str | None]:
        index = self.left[number]
        source = self.sources[index]
        if source.kind != IMAGE:
            return index, None
        try:
            return index, self.prepare(self.read(source.path))
        except InputError as error:
            return index, str(error)


def collate_sources(samples: Sequence[tuple[int, Prepared | str | None]]) -> PredictionBatch[Prepared]:
    """Collect samples in lists, without stacking them."""
    batch: PredictionBatch[Prepared] = PredictionBatch([], [], [], {})
    for index, sample in samples:
        if sample is None:
            batch.unread.append(index)
        elif isinstance(sample, str):
            batch.failed[index] = sample
        else:
            batch.indices.append(index)
            batch.samples.append(sample)
    return batch


class PredictingModule(LightningModule):
    """A Lightning module that answers batches of sources with the predictor it was given.

    Attributes:
        predictor: set while a `predict` runs; its network is no part of the module's own weights.
        restores: whether the weights of a checkpoint will replace those that the network begins with.
    """

    predictor: Predictor[Any, Any] | None = None
    restores: bool = False

    def predict_step(self, batch: PredictionBatch[Any], batch_idx: int) -> list[object]:
        """The answers for the images of a batch, in pixels of the original images."""
        assert self.predictor is not None
        return self.predictor.run(batch.samples)
