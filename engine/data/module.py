"""What the Lightning data modules of all tasks share: splits, loaders, their checks, and the seeds of workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Sized
from dataclasses import replace
from typing import Generic, TypeVar, cast

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader

from engine.checked import checked
from engine.data.bad_images import (
    BadImage,
    BadImages,
    ImageSet,
    OnBadImage,
    ReadableImages,
    check_present,
    without_repeats,
)
from engine.data.contracts import BatchSize, PictureTask, SplitName
from engine.data.loader import SampleLoader, seeded
from engine.data.mixing import Paced
from engine.data.mixture import Mixture
from engine.data.sampling.appearing import Appearing
from engine.data.sampling.labels import Labelled
from engine.data.sampling.repeats import Chosen, Focused, Repeats
from engine.data.sampling.settings import BoxSampling, Sampling
from engine.data.supply.module import StepData
from engine.data.supply.store import KeepingReader, PixelStore
from engine.data.supply.trainer import folder_of_run, overfit_count, within_epoch
from engine.data.workers import too_many_workers, worker_context, worker_count
from engine.distributed import all_gather_objects, is_main, run_on_main
from engine.errors import InputError
from engine.numbers import NonNegativeInt, PositiveInt, ZeroToHalf
from engine.reading.options import Reading
from engine.reading.reader import IMAGENET_MEAN_COLOR, PixelReader

Task = TypeVar("Task", bound=PictureTask)
Sample = TypeVar("Sample")
Whole = TypeVar("Whole")
_Loaded = TypeVar("_Loaded")


class SplitData(StepData, ABC, Generic[Task, Sample, Whole]):
    """Training, validation and test sets as loaders.

    The class of a task says which splits there are (`has`), makes their data sets (`training_sets`, `whole_sets`) and
    their batches (`collate`, `collate_whole`). The task decides what the network sees: `task` is
    `trainer.lightning_module`, by the contract that the class names as its first type parameter.

    Args:
        batch_size: images per device and training step; auto is the largest number that fits the memory.
        num_workers: processes that read and augment, per device; None takes as many as there are processors for it,
            but at most 8.
        eval_batch_size: images per device and step of validation and test; None is `batch_size`.
        on_bad_image: "stop" ends the training at a missing or broken image or mask, "skip" takes another one
            in its place, leaves it out of the scores, and lists it in bad_images.jsonl in the run's folder.
        reading: how rasters are read, where the data ask for it.
        multi_scale: by which share the longer side of a step's canvas may be shorter or longer, 0 to 0.5; the canvas
            changes every ten steps.
        cache_mib: memory in which decoded training images are kept, per device; what does not fit is decoded each time.

    Raises:
        InputError: a number is out of range.
    """

    @checked
    def __init__(
        self,
        batch_size: BatchSize,
        num_workers: NonNegativeInt | None = None,
        eval_batch_size: PositiveInt | None = None,
        on_bad_image: OnBadImage = "stop",
        reading: Reading = Reading(),
        multi_scale: ZeroToHalf = 0.0,
        cache_mib: NonNegativeInt = 0,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, multi_scale)
        self.reading = reading
        self.cache_mib = cache_mib
        self._shelf: list[PixelStore] = []
        self.num_workers = num_workers
        self.on_bad_image = on_bad_image
        self._training: list[ReadableImages[Sample] | Paced[Sample]] = []
        self._repeats: tuple[Repeats | None, ...] = ()
        self._whole: dict[SplitName, ConcatDataset[Whole]] = {}
        self._loader: SampleLoader[Sample, object] | None = None
        self._saved: Mapping[str, object] = {}
        self._bad: BadImages | None = None
        self._without: dict[SplitName, int] = {}

    @abstractmethod
    def has(self, split: SplitName) -> bool:
        """Whether the split was given."""

    @abstractmethod
    def training_sets(self) -> Sequence[ImageSet[Sample]]:
        """The augmented training images, of one set or of the sets that are mixed.

        Raises:
            InputError: the images were not given or cannot be used.
        """

    @abstractmethod
    def whole_sets(self, split: SplitName) -> Sequence[ImageSet[Whole]]:
        """The images of a split as they are scored, set after set.

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

    def mixed(self, images: ReadableImages[Sample]) -> ReadableImages[Sample] | Paced[Sample]:
        """The training images of a set, mixed as the augmentation asks; without one as they are."""
        return images

    def class_names(self) -> Mapping[str, Sequence[str]]:
        """The names of the classes by row, for each kind of labels that training images have."""
        return {}

    @staticmethod
    def shown(batch: object) -> Mapping[str, Tensor]:
        """The rows that a training batch shows, for each kind of labels of `class_names`."""
        return {}

    @property
    def mixing_ratio(self) -> tuple[float, ...]:
        """The part of each training set in the batches."""
        return (1.0,)

    @property
    def epoch_steps(self) -> int | None:
        """Steps in an epoch; None takes the whole batches of one pass over the images."""
        return None

    @property
    def task(self) -> Task | None:
        """The trainer's task; None without a trainer."""
        return None if self.trainer is None else cast("Task", self.trainer.lightning_module)

    @property
    def fill_color(self) -> tuple[int, int, int]:
        """Colour beside the picture: that of the task, or without a task the mean of ImageNet."""
        return IMAGENET_MEAN_COLOR if self.task is None else self.task.fill_color

    @property
    def reader(self) -> PixelReader:
        """Reads the images: as the data ask for, and else as the task was trained."""
        reading = self.reading if self.task is None else self.reading.over(self.task.reading)
        strict = self.reading != Reading()
        if self.cache_mib:
            return KeepingReader(reading, self.fill_color, strict, shelf=self._shelf)
        return PixelReader(reading, self.fill_color, strict)

    def reader_of(self, split: SplitName) -> PixelReader:
        """Reads the images of a split; those of training in a quicker way."""
        return replace(self.reader, training=split == "train")

    def setup(self, stage: str) -> None:
        """Find the images that the stage needs, and look for missing files: train and, if given, val for "fit".

        Raises:
            InputError: the images cannot be used, or some are missing though they may not.
        """
        if self.on_bad_image == "skip" and self._bad is None:
            self._bad = BadImages(folder_of_run(self.trainer) if stage == "fit" else None)
        if (note := too_many_workers(self.num_workers, self._devices)) is not None:
            rank_zero_info(note)
        if stage == "fit":
            self.prepare_training()
        needed: dict[str, list[SplitName]] = {
            "fit": ["val"] if self.has("val") else [],
            "validate": ["val"],
            "test": ["test"],
        }
        for split in needed.get(stage, []):
            self._whole[split] = ConcatDataset([self._readable(images, split) for images in self.whole_sets(split)])

    @property
    def sampled(self) -> Sampling:
        """Which training images come more often; by default none."""
        return BoxSampling()

    def prepare_training(self) -> None:
        """Find the training images, before the first epoch, and how often each of them comes."""
        sets = self.training_sets()
        self._training = [self.mixed(self._readable(images, "train")) for images in sets]
        self._repeats = tuple(self._repeated(images) for images in sets)
        if self.cache_mib:
            paths = [images.image_path(place) for images in sets for place in range(len(images))]
            method = worker_context(worker_count(self.num_workers, self._devices))
            self._shelf[:] = [PixelStore(self.cache_mib, paths, method)]

    def _repeated(self, images: ImageSet[Sample]) -> Repeats | None:
        """How often each of the images comes; None takes each once."""
        if self.sampled.name == "every":
            return None
        assert isinstance(images, Labelled)
        chosen = run_on_main(lambda: Chosen.of(images.labels(), self.sampled))  # which may read all masks
        if chosen.focus is not None and isinstance(images, Focused):
            images.focus = chosen.focus
        rank_zero_info(f"{images.name}: {chosen.line}")
        return chosen.repeats

    @property
    def step_seed(self) -> int:
        """That of the sequence of samples, which a training that goes on has from its checkpoint."""
        return super().step_seed if self._loader is None else self._loader.mixture.seed

    @property
    def most_images(self) -> int:
        """The largest number of images on a device that leaves an epoch enough steps."""
        return self.most_of(self._training)

    @property
    def batch_before(self) -> int | None:
        """Images per device and step of the training that goes on; None where none does."""
        before = self._saved.get("batch")
        world = 1 if self.trainer is None else self.trainer.world_size
        return before // world if isinstance(before, int) and before >= world else None

    def trial_batch(self, images: int) -> object:
        """A training batch of one image many times, which takes as much memory as any: `heaviest` says which."""
        with seeded(0):
            return self.largest_canvas(self.collate([self._training[0][self.heaviest()]] * images))

    def heaviest(self) -> int:
        """The place of a training image that takes the most memory; canvases alone take the same for all."""
        return 0

    def train_dataloader(self) -> SampleLoader[Sample, object]:
        """The shuffled, mixed and augmented training images, in one sequence over all epochs."""
        assert self._training
        world, rank = (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)
        mixture = Mixture(
            sizes=tuple(
                len(images) if repeats is None else repeats.length
                for images, repeats in zip(self._training, self._repeats, strict=True)
            ),
            ratio=self.mixing_ratio,
            batch=self.batch_size * world,
            seed=super().step_seed,
            repeats=self._repeats,
        )
        self._close(mixture)
        state = self._saved or ({} if self._loader is None else self.state_dict())
        loader: SampleLoader[Sample, object] = SampleLoader(
            self._training,
            mixture,
            self.collate,
            steps=self.epoch_steps,
            rank=rank,
            world=world,
            num_workers=worker_count(self.num_workers, self._devices),
            pin_memory=self._pin_memory,
            overfit=overfit_count(self.trainer, self.epoch_steps or mixture.pass_steps),
        )
        if state:
            # Lightning itself loads the state that ends an epoch, and only if the checkpoint was written within one.
            if state.get("within", True):
                loader.check_state(state)
            if (note := loader.load_state_dict(state, within_epoch=False)) is not None:
                rank_zero_info(f"{note}; no image is left out or comes twice for it.")
            self._saved = {}
        self._loader = loader
        loader.appearing, loader.shown = Appearing(self.class_names()), self.shown
        return loader

    def _close(self, mixture: Mixture) -> None:
        """Say to sets that change with the training how long it is, such as mixed ones; without an end, never."""
        if self.trainer is None or not any(isinstance(images, Paced) for images in self._training):
            return
        steps = self.trainer.max_steps
        if self.trainer.max_epochs is not None and self.trainer.max_epochs > 0:
            of_epochs = self.trainer.max_epochs * (self.epoch_steps or mixture.pass_steps)
            steps = min(steps, of_epochs) if steps > 0 else of_epochs
        for images, share, size in zip(self._training, mixture.shares, mixture.sizes, strict=True):
            if isinstance(images, Paced) and steps > 0:
                images.close_after(float(steps * mixture.batch * share) / size)

    def val_dataloader(self) -> DataLoader[Whole] | list[DataLoader[Whole]]:
        """Every image in file order; an empty list where the split was not given."""
        return self._whole_loader("val") if "val" in self._whole else []

    def test_dataloader(self) -> DataLoader[Whole]:
        """Every image in file order."""
        return self._whole_loader("test")

    def state_dict(self) -> dict[str, object]:
        """The position of the training in its sequence of batches, and whether that is within an epoch."""
        if self._loader is None:
            return {}
        return {**self._loader.state_dict(), "within": within_epoch(self.trainer)}

    def load_state_dict(self, state_dict: Mapping[str, object]) -> None:
        """Let the next training loader go on where another loader stopped."""
        self._saved = dict(state_dict)

    def teardown(self, stage: str) -> None:
        """Say which images were left out, and let the next training begin from the first batch."""
        if self._bad is not None:
            self._say_bad(self._bad)
            self._bad = None
        if stage == "fit":
            self._loader = None
            self._saved = {}
            while self._shelf:
                self._shelf.pop().close()

    def leave_out(self, split: SplitName, images: Sequence[str], why: str) -> None:
        """Note images of a split that its data set does not have, because they cannot be used.

        Args:
            split: the split.
            images: their files.
            why: the reason, as a sentence without its full stop.
        """
        self._without[split] = len(images)
        if not images:
            return
        rank_zero_info(f"{len(images):,} images of {split} are left out, the first is '{images[0]}': {why}.")
        if self._bad is not None:
            for image in images:
                self._bad.add(BadImage(split, image, why))

    def check_train_share(self, images: Sized, source: str, remedy: str = "", words: str = "images") -> None:
        """Do nothing if each device gets at least one batch of the training images.

        Args:
            images: the training images.
            source: their name in messages.
            remedy: what helps besides a smaller batch, as the end of a sentence.
            words: what the samples are.

        Raises:
            InputError: a device gets less than one batch.
        """
        world = 1 if self.trainer is None else self.trainer.world_size
        share = -(-len(images) // world)
        if share < self.batch_size:
            msg = (
                f"'{source}' has {len(images)} {words}, fewer than one step takes ({self.batch_size} on each of "
                f"{world} devices). Give --data.batch_size of at most {max(1, share)}{remedy}."
            )
            raise InputError(msg)

    def _readable(self, images: ImageSet[_Loaded], split: SplitName) -> ReadableImages[_Loaded]:
        if (note := check_present(images, self.on_bad_image)) is not None:
            rank_zero_info(note)
        return ReadableImages(images, split, self._bad)

    def _whole_loader(self, split: SplitName) -> DataLoader[Whole]:
        workers = worker_count(self.num_workers, self._devices)
        return DataLoader(
            self._whole[split],
            batch_size=self.eval_batch_size,
            num_workers=workers,
            collate_fn=self.collate_whole,
            pin_memory=self._pin_memory,
            persistent_workers=workers > 0,
            multiprocessing_context=worker_context(workers),
            # Its own generator: an evaluation does not change the random numbers of the training.
            generator=torch.Generator(),
        )

    @property
    def _devices(self) -> int:
        """The processes of this machine that share its processors."""
        return 1 if self.trainer is None else max(1, self.trainer.num_devices)

    @property
    def _pin_memory(self) -> bool:
        """Whether the batches go to a CUDA device; for any other, pinned memory costs time and helps nothing."""
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def _say_bad(self, bad: BadImages) -> None:
        found = without_repeats(entry for entries in all_gather_objects(bad.read()) for entry in entries)
        if found and is_main():
            scored = {split: len(images) + self._without.get(split, 0) for split, images in self._whole.items()}
            rank_zero_info(bad.report(found, scored))
        bad.close()
