"""What the Lightning data modules of all tasks share: splits, loaders, their checks, and the seeds of workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence, Sized
from typing import Generic, TypeVar, cast

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from engine.checked import checked
from engine.data.contracts import CanvasTask, PictureTask, SplitName
from engine.errors import InputError
from engine.numbers import NonNegativeInt, PositiveInt

IMAGENET_MEAN_COLOR = (124, 116, 104)  # round(255 * (0.485, 0.456, 0.406))

Task = TypeVar("Task", bound=PictureTask)
Sample = TypeVar("Sample")
Whole = TypeVar("Whole")
Loaded = TypeVar("Loaded")


class SplitData(LightningDataModule, ABC, Generic[Task, Sample, Whole]):
    """Training, validation and test sets as loaders.

    The class of a task says which splits there are (`has`), makes their data sets (`training_set`, `whole_set`) and
    their batches (`collate`, `collate_whole`). The task decides what the network sees: `task` is
    `trainer.lightning_module`, by the contract that the class names as its first type parameter.

    Args:
        batch_size: images per device and training step.
        num_workers: processes that read and augment, per device.
        eval_batch_size: images per device and step of validation and test; None is `batch_size`.

    Raises:
        InputError: a number is out of range.
    """

    @checked
    def __init__(
        self, batch_size: PositiveInt, num_workers: NonNegativeInt, eval_batch_size: PositiveInt | None = None
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.eval_batch_size = batch_size if eval_batch_size is None else eval_batch_size
        self.num_workers = num_workers
        self._training: Dataset[Sample] | None = None
        self._whole: dict[SplitName, Dataset[Whole]] = {}

    @abstractmethod
    def has(self, split: SplitName) -> bool:
        """Whether the split was given."""

    @abstractmethod
    def training_set(self) -> Dataset[Sample]:
        """The augmented training images.

        Raises:
            InputError: the images were not given or cannot be used.
        """

    @abstractmethod
    def whole_set(self, split: SplitName) -> Dataset[Whole]:
        """The images of a split as they are scored.

        Raises:
            InputError: the images were not given or cannot be used.
        """

    @staticmethod
    @abstractmethod
    def collate(samples: Sequence[Sample]) -> object:
        """A training batch."""

    @staticmethod
    @abstractmethod
    def collate_whole(samples: Sequence[Whole]) -> object:
        """A batch for validation or test."""

    @property
    def task(self) -> Task | None:
        """The trainer's task; None without a trainer."""
        return None if self.trainer is None else cast("Task", self.trainer.lightning_module)

    @property
    def fill_color(self) -> tuple[int, int, int]:
        """Colour beside the picture: that of the task, or without a task the mean of ImageNet."""
        return IMAGENET_MEAN_COLOR if self.task is None else self.task.fill_color

    def setup(self, stage: str) -> None:
        """Find the images that the stage needs: train and, if given, val for "fit"; else its split."""
        if stage == "fit":
            self.prepare_training()
        needed: dict[str, list[SplitName]] = {
            "fit": ["val"] if self.has("val") else [],
            "validate": ["val"],
            "test": ["test"],
        }
        for split in needed.get(stage, []):
            self._whole[split] = self.whole_set(split)

    def prepare_training(self) -> None:
        """Find the training images, before the first epoch."""
        self._training = self.training_set()

    def train_dataloader(self) -> object:
        """The shuffled and augmented training images; a last batch that is not full is left out of the epoch."""
        assert self._training is not None
        return self._loader(self._training, self.batch_size, self.collate, train=True)

    def val_dataloader(self) -> DataLoader[Whole] | list[DataLoader[Whole]]:
        """Every image in file order; an empty list where the split was not given."""
        return self._whole_loader("val") if "val" in self._whole else []

    def test_dataloader(self) -> DataLoader[Whole]:
        """Every image in file order."""
        return self._whole_loader("test")

    def check_train_share(self, images: Sized, source: str, remedy: str = "") -> None:
        """Do nothing if each device gets at least one batch of the training images.

        Args:
            images: the training images.
            source: their name in messages.
            remedy: what helps besides a smaller batch, as the end of a sentence.

        Raises:
            InputError: a device gets less than one batch.
        """
        world = 1 if self.trainer is None else self.trainer.world_size
        share = -(-len(images) // world)  # as DistributedSampler deals them out
        if share < self.batch_size:
            msg = (
                f"'{source}' has {len(images)} images, fewer than one step takes ({self.batch_size} on each of {world} "
                f"devices). Give --data.batch_size of at most {max(1, share)}{remedy}."
            )
            raise InputError(msg)

    @property
    def on_cuda(self) -> bool:
        """Whether batches go to a CUDA device: only for one does pinned memory help."""
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def _whole_loader(self, split: SplitName) -> DataLoader[Whole]:
        return self._loader(self._whole[split], self.eval_batch_size, self.collate_whole)

    def _loader(
        self,
        images: Dataset[Loaded],
        batch_size: int,
        collate: Callable[[Sequence[Loaded]], object],
        *,
        train: bool = False,
    ) -> DataLoader[Loaded]:
        return DataLoader(
            images,
            batch_size=batch_size,
            shuffle=train,
            drop_last=train,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=self.on_cuda,
            persistent_workers=self.num_workers > 0,
            # The loader has its own seeds for workers: an evaluation does not change the random numbers of the
            # training, with or without workers, and a resumed training goes on like one that was not interrupted.
            generator=None if train else torch.Generator(),
        )


def canvas_of(given: int | tuple[int, int] | None, task: CanvasTask | None, option: str) -> tuple[int, int]:
    """Height and width of the canvas: the given ones, or those of the task.

    Args:
        given: side of the canvas, or its height and width.
        task: the task whose canvas is taken if nothing was given.
        option: the option that gives the canvas, such as "an 'image_size'".

    Raises:
        InputError: neither a size nor a task is given.
    """
    if isinstance(given, int):
        return (given, given)
    if given is not None:
        return given
    if task is None:
        msg = f"without a model the data need {option}. Give the side of the canvas in pixels."
        raise InputError(msg)
    height, width = task.canvas_hw
    return (height, width)
