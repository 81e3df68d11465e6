"""One endless sequence of batches from one or two data sets, the same for any number of processes and workers.

Lightning's CombinedLoader repeats the order of a set each time it begins the set again within an epoch, has no shares,
and is not restored within an epoch. Here every batch is known in advance, from the seed and its number alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import count
from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from engine.checked import Checked
from engine.errors import InputError
from engine.numbers import NonNegativeFloat, NonNegativeInt, PositiveInt

_MOST_SETS = 2
Sample = TypeVar("Sample")
Batch = TypeVar("Batch")


class Draw(NamedTuple):
    """One sample of a batch.

    Attributes:
        which: the number of its set.
        place: its place in the set.
        visit: how often the whole set was seen before.
        seed: seed of all random numbers that the sample uses.
    """

    which: int
    place: int
    visit: int
    seed: int


@dataclass(frozen=True)
class Mixture(Checked):
    """The samples of every batch.

    Each pass over a set takes every sample once, in a random order that is drawn again for every pass; a pass may begin
    and end within a batch. Counted from the first batch, the share of a set is right to half a sample.

    Attributes:
        sizes: number of samples of each set; there are one or two sets.
        ratio: part of each set in the batches, such as (1, 1); a set with part 0 is left out.
        batch: samples in a batch, those of all processes together.
        seed: seed of the orders and of the samples.

    Raises:
        InputError: a number is out of range.
    """

    sizes: tuple[int, ...]
    ratio: tuple[NonNegativeFloat, ...]
    batch: PositiveInt
    seed: NonNegativeInt

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= len(self.sizes) == len(self.ratio) <= _MOST_SETS:
            msg = (
                f"{len(self.sizes)} sets are to be mixed as {self.ratio}; allowed are one or two, and a part for each."
            )
            raise InputError(msg)
        if not any(self.ratio):
            msg = f"ratio is {list(self.ratio)}; allowed are numbers of at least 0, not all of them 0."
            raise InputError(msg)
        if any(part and not size for part, size in zip(self.ratio, self.sizes, strict=True)):
            msg = "a data set to train on has no image. Give one with images, or leave it out."
            raise InputError(msg)

    @cached_property
    def shares(self) -> tuple[Fraction, ...]:
        """The exact share of each set in all samples."""
        parts = [Fraction(part) for part in self.ratio]
        return tuple(part / sum(parts) for part in parts)

    @property
    def pass_steps(self) -> int:
        """The number of whole batches in one pass over the set that takes the longest; at least 1."""
        used = [(size, share) for size, share in zip(self.sizes, self.shares, strict=True) if share]
        return max(1, *(math.floor(size / (self.batch * share)) for size, share in used))

    def drawn(self, steps: int) -> tuple[int, ...]:
        """The number of samples of each set in the first `steps` batches."""
        total = steps * self.batch
        first = math.floor(total * self.shares[0] + Fraction(1, 2))
        return (first, total - first)[: len(self.sizes)]

    def at(self, step: int) -> list[Draw]:
        """The samples of batch number `step`, from 0: those of the first set, then those of the second."""
        bounds = zip(self.drawn(step), self.drawn(step + 1), strict=True)
        return [self._draw(which, number) for which, (start, end) in enumerate(bounds) for number in range(start, end)]

    def _draw(self, which: int, number: int) -> Draw:
        visit, rest = divmod(number, self.sizes[which])
        place = int(_order(self.seed, which, visit, self.sizes[which])[rest])
        return Draw(which, place, visit, _seed(self.seed, which, visit, place))


@lru_cache(maxsize=4)  # for each of two sets, the pass that ends and the one that begins
def _order(seed: int, which: int, visit: int, size: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(which, visit))).permutation(size)


def _seed(*key: int) -> int:
    """63 random bits that belong to the key: a seed and numbers that count from 0."""
    return int(np.random.SeedSequence(key[0], spawn_key=key[1:]).generate_state(1, np.uint64)[0]) >> 1


class LoaderState(msgspec.Struct, frozen=True):
    """The position in a sequence of batches, and the mixture that it belongs to.

    Attributes:
        position: number of batches that were handed out.
        left: number of batches of the epoch that were not handed out.
        sizes: see `Mixture`.
        ratio: see `Mixture`.
        batch: see `Mixture`.
        seed: see `Mixture`.
    """

    position: int
    left: int
    sizes: tuple[int, ...]
    ratio: tuple[float, ...]
    batch: int
    seed: int


class MixedLoader(Generic[Sample, Batch]):
    """Loads the batches of a mixture; an epoch is the next `len(loader)` of them.

    The random numbers of a sample come from the sample's own seed, so that neither the number of workers nor an
    interruption changes them; the random state of the process is left as it was. Workers go on from epoch to epoch.

    Args:
        sets: the data sets to mix; the random numbers of a sample must come from torch's generator.
        mixture: the samples of every batch.
        collate: makes a batch of a process's samples.
        steps: batches of an epoch; None takes `mixture.pass_steps`.
        rank: number of this process.
        world: number of processes that share each batch; each takes every `world`-th sample.
        num_workers: processes that make samples.
        pin_memory: see `DataLoader`.

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
    ) -> None:
        if mixture.batch % world or (steps is not None and steps < 1):
            msg = (
                f"batches of {mixture.batch} images on {world} processes, {steps} in an epoch; allowed are equal "
                "shares of the processes and at least 1 batch."
            )
            raise InputError(msg)
        self.mixture = mixture
        self.steps = mixture.pass_steps if steps is None else steps
        self.rank = rank
        self.world = world
        self.position = 0  # batches that were handed out
        self._left = 0  # batches of the epoch that were not handed out
        self._resumed = 0  # the same, for the epoch that the next iteration continues
        # Lightning looks for this attribute, and stops the workers of the loader that it finds.
        self._iterator: Iterator[Batch] | None = None
        self._loader: DataLoader[Sample] = DataLoader(
            _Seeded(sets),
            batch_sampler=_Batches(self),
            collate_fn=collate,
            num_workers=num_workers,
            pin_memory=pin_memory,
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
            batch = next(self._iterator)
            # Counted before it is handed out: a state that is saved while the batch is used goes on with the next one.
            self.position += 1
            self._left = left
            yield batch

    def draws(self, step: int) -> list[Draw]:
        """The samples of this process in batch number `step`."""
        return self.mixture.at(step)[self.rank :: self.world]

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
        }

    def load_state_dict(self, state_dict: Mapping[str, object], *, within_epoch: bool = True) -> None:
        """Go on after the last batch that was handed out, with the seed of that training.

        Args:
            state_dict: the state of a loader with the same sets, ratio and batch, and with any number of processes and
                workers.
            within_epoch: whether the next iteration ends where the interrupted epoch would have ended.

        Raises:
            InputError: the sets, the ratio or the batch differ.
        """
        state, own = msgspec.convert(dict(state_dict), LoaderState), self.mixture
        for what, then, now in (
            ("images per step on all devices", state.batch, own.batch),
            ("ratio", list(state.ratio), list(own.ratio)),
            ("images", list(state.sizes), list(own.sizes)),
        ):
            if then != now:
                msg = (
                    f"the training was begun with {then} as {what}, but the data now have {now}. Resume it "
                    "with the same, so that every image comes as often as it should, or start a new training."
                )
                raise InputError(msg)
        self.mixture = replace(own, seed=state.seed)
        self.position = state.position
        self._left = self._resumed = state.left if within_epoch else 0
        self._iterator = None


class _Stands(Protocol):
    position: int

    def draws(self, step: int) -> list[Draw]: ...


class _Batches:
    """The keys of the batches from the loader's position on."""

    def __init__(self, loader: _Stands) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[list[Draw]]:
        return (self.loader.draws(step) for step in count(self.loader.position))


class _Seeded(Dataset[Sample]):
    """The samples of several sets, each made with its own random numbers."""

    def __init__(self, sets: Sequence[Dataset[Sample]]) -> None:
        self.sets = list(sets)

    def __getitem__(self, draw: Draw) -> Sample:
        with seeded(draw.seed):
            return self.sets[draw.which][draw.place]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Set torch's random generator of the CPU to a seed inside the block, and restore its state afterwards."""
    generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(before)
