"""The part of a data module that says what one training step takes: how many images, and on which canvas."""

from __future__ import annotations

import os
from collections.abc import Sequence, Sized
from typing import Protocol, cast

from lightning import LightningDataModule

from engine.data.contracts import BatchSize
from engine.data.supply.canvases import canvas_at, canvases
from engine.errors import InputError

LEAST_STEPS = 10  # of an epoch with a batch that is found


class Imaged(Protocol):
    """A batch with images."""

    @property
    def images(self) -> Sized:
        """(B, 3, H, W)."""
        ...


class StepData(LightningDataModule):
    """Batches of a size that is given or found, on canvases of one size or of several.

    Args:
        batch_size: images per device and training step; auto is the largest number that fits the memory.
        eval_batch_size: the same in validation and test; None is `batch_size`, and with auto one image where nothing
            is trained.
        multi_scale: by which share the longer side of a step's canvas may be shorter or longer.
    """

    def __init__(self, batch_size: BatchSize, eval_batch_size: int | None, multi_scale: float) -> None:
        super().__init__()
        self.finds_batch = batch_size == "auto"
        self.batch_size = 1 if batch_size == "auto" else batch_size
        self.eval_batch_size = self.batch_size if eval_batch_size is None else eval_batch_size
        self._eval_given = eval_batch_size is not None
        self.multi_scale = multi_scale

    @property
    def step_seed(self) -> int:
        """The seed of what is drawn for a step."""
        return int(os.environ.get("PL_GLOBAL_SEED", "0"))  # as Lightning's own samplers take it

    def take_batch(self, images: int) -> None:
        """Train with this number of images per device and step, and score with it, unless that number was given."""
        if not self._eval_given:
            self.eval_batch_size = images
        self.batch_size, self.finds_batch = images, False

    def most_of(self, sets: Sequence[Sized]) -> int:
        """The largest number of images on a device that leaves an epoch of the smallest set enough steps."""
        world = 1 if self.trainer is None else self.trainer.world_size
        share = min(len(images) for images in sets) // world
        return max(min(share, 2), share // LEAST_STEPS)

    @staticmethod
    def resized(batch: object, size_hw: tuple[int, int]) -> object:
        """A training batch on a canvas of another size.

        Raises:
            InputError: the data have no such batches.
        """
        msg = "data.multi_scale is not for these data. Leave it out."
        raise InputError(msg)

    def largest_canvas(self, batch: object) -> object:
        """The batch on the largest canvas that a step may have."""
        if not self.multi_scale:
            return batch
        return self.resized(batch, canvases(_size_hw(batch), self.multi_scale)[-1])

    def on_after_batch_transfer(self, batch: object, dataloader_idx: int) -> object:
        """The batch on the canvas of this step, resized on the device that computes it."""
        if not self.multi_scale or self.trainer is None or not self.trainer.training:
            return batch
        choices = canvases(_size_hw(batch), self.multi_scale)
        size_hw = canvas_at(self.trainer.global_step, self.step_seed, choices)
        return batch if size_hw == _size_hw(batch) else self.resized(batch, size_hw)


def _size_hw(batch: object) -> tuple[int, int]:
    shape = cast("_Shaped", cast("Imaged", batch).images).shape
    return int(shape[-2]), int(shape[-1])


class _Shaped(Protocol):
    """A tensor."""

    @property
    def shape(self) -> Sequence[int]: ...
