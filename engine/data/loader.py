"""One endless sequence of training batches, the same for any number of processes and workers, and for every task.

Torch's DataLoader draws the order of an epoch and the seeds of its workers on the way, Lightning's CombinedLoader
repeats the order of a set each time it begins the set again within an epoch, and neither is restored within an epoch.
Here every batch is known in advance, from the seed and its number alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from time import perf_counter
from typing import Generic, TypeVar

import msgspec
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from engine.data.mixing import Visited
from engine.data.mixture import Draw, Mixture
from engine.data.sampling.appearing import Appearing
from engine.data.workers import worker_context
from engine.errors import InputError

Sample = TypeVar("Sample")
Batch = TypeVar("Batch")


class LoaderState(msgspec.Struct, frozen=True):
    """The position in a sequence of batches, and the mixture that it belongs to.

    Attributes:
        position: number of batches that were handed out.
        left: number of batches of the epoch that were not handed out.
        sizes: see `Mixture`.
        ratio: see `Mixture`.
        batch: see `Mixture`.
        seed: see `Mixture`.
        start: see `Mixture`.
        orders: `Mixture.marks`.
    """

    position: int
    left: int
    sizes: tuple[int, ...]
    ratio: tuple[float, ...]
    batch: int
    seed: int
    start: int = 0
    orders: tuple[str, ...] = ()


class SampleLoader(Generic[Sample, Batch]):
    """Loads the batches of a mixture; an epoch is the next `len(loader)` of them.

    The random numbers of a sample come from the sample's own seed, so that neither the number of workers nor an
    interruption changes them; the random state of the process is left as it was. Workers go on from epoch to epoch.

    Args:
        sets: the data sets to mix. The random numbers of a sample may come from torch's generator, from `random` and
            from NumPy's global one.
        mixture: the samples of every batch.
        collate: makes a batch of a process's samples.
        steps: batches of an epoch; None takes `mixture.pass_steps`.
        rank: number of this process.
        world: number of processes that share each batch; each takes every `world`-th sample.
        num_workers: processes that make samples.
        pin_memory: see `DataLoader`.
        overfit: the first batches, this many, come again and again, to see whether a network can learn them; None
            takes every sample.

    Raises:
        InputError: the processes cannot share a batch equally, or a number is out of range.
    """

    def __init__(
        self,
        sets: Sequence[Dataset[Sample]],
        mixture: Mixture,
        collate: Callable[[Sequence[Sample]], Batch],
        *,
        steps: int | None = None,
        rank: int = 0,
        world: int = 1,
        num_workers: int = 0,
        pin_memory: bool = False,
        overfit: int | None = None,
    ) -> None:
        if mixture.batch % world or (steps is not None and steps < 1):
            msg = (
                f"batches of {mixture.batch} images on {world} processes, {steps} in an epoch; allowed are equal "
                "shares of the processes and at least 1 batch."
            )
            raise InputError(msg)
        self.steps = mixture.pass_steps if steps is None else steps
        self._place = _Place(mixture, rank, world, overfit)
        self._left = 0  # batches of the epoch that were not handed out
        self._resumed = 0  # the same, for the epoch that the next iteration continues
        self.waited = 0.0  # seconds for which batches were not there yet
        self.appearing: Appearing | None = None  # the classes that batches have shown, where somebody asks for them
        self.shown: Callable[[Batch], Mapping[str, Tensor]] | None = None  # what it looks at in a batch
        self._workers = num_workers
        # Lightning looks for this attribute, and stops the workers of the loader that it finds.
        self._iterator: Iterator[Batch] | None = None
        self._loader: DataLoader[Sample] = DataLoader(
            _Seeded(sets),
            batch_sampler=self._place,
            collate_fn=collate,
            num_workers=num_workers,
            pin_memory=pin_memory,
            multiprocessing_context=worker_context(num_workers),
            generator=torch.Generator(),  # without it the seed of the workers would advance the process's own
        )

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        # Counted now, not at the first batch: Lightning asks once after a state was loaded and once for each epoch.
        batches, self._resumed = self._resumed or self.steps, 0
        return self._epoch(batches)

    def _epoch(self, batches: int) -> Iterator[Batch]:
        if self._iterator is None:
            self._iterator = iter(self._loader)
        for left in reversed(range(batches)):
            begun = perf_counter()
            batch = next(self._iterator)
            self.waited += perf_counter() - begun
            if self.appearing is not None and self.shown is not None:
                self.appearing.look(self.shown(batch))
            # Counted before it is handed out: a state that is saved while the batch is used goes on with the next one.
            self._place.position += 1
            self._left = left
            yield batch

    @property
    def made_by(self) -> str:
        """Who makes the samples, in words."""
        return f"{self._workers} processes make" if self._workers else "the training's own process makes"

    @property
    def mixture(self) -> Mixture:
        """The samples of every batch."""
        return self._place.mixture

    @property
    def position(self) -> int:
        """Number of batches that were handed out."""
        return self._place.position

    def state_dict(self) -> dict[str, object]:
        """The position in the sequence, which is the same on every process."""
        mixture = self.mixture
        return {
            "position": self.position,
            "left": self._left,
            "sizes": list(mixture.sizes),
            "ratio": list(mixture.ratio),
            "batch": mixture.batch,
            "seed": mixture.seed,
            "start": mixture.start,
            "orders": list(mixture.marks),
        }

    def load_state_dict(self, state_dict: Mapping[str, object], *, within_epoch: bool = True) -> str | None:
        """Go on after the last sample that was handed out, with the seed of that training.

        Args:
            state_dict: the state of a loader with any number of processes and workers. At the end of an epoch it may
                have had batches of another size or other sets: the sequence of samples goes on from the same number.
            within_epoch: whether the next iteration ends where the interrupted epoch would have ended.

        Returns:
            A sentence on what differs from the loader of the state; None if nothing does.

        Raises:
            InputError: as `check_state`, within an epoch.
        """
        if within_epoch:
            self.check_state(state_dict)
        state, own, differing = _state(state_dict), self.mixture, self._differing(state_dict)
        self._iterator = None
        if differing:
            self._place.mixture = replace(own, seed=state.seed, start=state.start + state.position * state.batch)
            self._place.position = self._left = self._resumed = 0
            return f"the training goes on with {differing}"
        self._place.mixture = replace(own, seed=state.seed, start=state.start)
        self._place.position = state.position
        self._left = self._resumed = state.left if within_epoch else 0
        return None

    def check_state(self, state_dict: Mapping[str, object]) -> None:
        """Do nothing if an epoch that was begun with a state can be continued.

        Raises:
            InputError: the sets, the ratio or the batch differ.
        """
        if differing := self._differing(state_dict):
            msg = (
                f"the checkpoint was saved within an epoch, and cannot go on with {differing}. Resume it with the "
                "same, so that every image comes as often as it should, or from the end of an epoch."
            )
            raise InputError(msg)

    def _differing(self, state_dict: Mapping[str, object]) -> str:
        state, own = _state(state_dict), self.mixture
        return "; ".join(
            f"{now} in place of {then} {what}"
            for what, then, now in (
                ("images per step on all devices", state.batch, own.batch),
                ("as ratio", list(state.ratio), list(own.ratio)),
                ("as sampling", " and ".join(state.orders) or "every", " and ".join(own.marks) or "every"),
                ("images", " and ".join(map(str, state.sizes)), " and ".join(map(str, own.sizes))),
            )
            if then != now
        )


def _state(state_dict: Mapping[str, object]) -> LoaderState:
    return msgspec.convert(dict(state_dict), LoaderState)


@dataclass
class _Place:
    """A place in the sequence of batches, and the keys of the batches from there on.

    It does not know the loader: workers of a loader that refers to itself would end with the garbage collection, which
    closes their queues first, so that each of them waits for five seconds.
    """

    mixture: Mixture
    rank: int
    world: int
    overfit: int | None
    position: int = 0

    def __iter__(self) -> Iterator[list[Draw]]:
        return map(self.draws, count(self.position))

    def draws(self, step: int) -> list[Draw]:
        """The samples of this process in batch number `step`."""
        number = step if self.overfit is None else step % self.overfit
        return self.mixture.at(number)[self.rank :: self.world]


class _Seeded(Dataset[Sample]):
    """The samples of several sets, each made with its own random numbers."""

    def __init__(self, sets: Sequence[Dataset[Sample]]) -> None:
        self.sets = list(sets)

    def __getitem__(self, draw: Draw) -> Sample:
        images = self.sets[draw.which]
        with seeded(draw.seed):
            return images.at(draw.place, draw.visit) if isinstance(images, Visited) else images[draw.place]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Set the random generators of the process to a seed inside the block.

    They are torch's generator of the CPU, that of `random` and NumPy's global one, from which a user's own transform
    may draw. Their states are restored afterwards, except in a worker, in which nothing else draws.
    """
    generator = torch.default_generator
    apart = get_worker_info() is not None
    before = None if apart else (generator.get_state(), random.getstate(), np.random.get_state())  # noqa: NPY002
    generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global one is meant
    try:
        yield
    finally:
        if before is not None:
            generator.set_state(before[0])
            random.setstate(before[1])
            np.random.set_state(before[2])  # noqa: NPY002
