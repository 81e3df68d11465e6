"""Which samples every batch of a training has: a sequence that the seed and the number of the batch decide alone.

Neither the number of processes and workers nor an interruption changes it, because nothing is drawn on the way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.checked import Checked
from engine.data.sampling.repeats import Repeats
from engine.errors import InputError
from engine.numbers import NonNegativeFloat, NonNegativeInt, PositiveInt

_MOST_SETS = 2


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

    Each pass over a set takes every sample once, or as often as `repeats` says, in a random order that is drawn again
    for every pass; a pass may begin and end within a batch. Counted from the first batch, the share of a set is right
    to half a sample.

    Attributes:
        sizes: number of samples in a pass over each set; there are one or two sets.
        ratio: part of each set in the batches, such as (1, 1); a set with part 0 is left out.
        batch: samples in a batch, those of all processes together.
        seed: seed of the orders and of the samples.
        start: samples that came before the first batch, in batches of another size or from other sets.
        repeats: for each set how often its samples come in a pass; nothing, or None for a set, takes each once.

    Raises:
        InputError: a number is out of range.
    """

    sizes: tuple[int, ...]
    ratio: tuple[NonNegativeFloat, ...]
    batch: PositiveInt
    seed: NonNegativeInt
    start: NonNegativeInt = 0
    repeats: tuple[Repeats | None, ...] = field(default=(), compare=False)

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
        """The number of samples of each set up to the end of the first `steps` batches."""
        total = self.start + steps * self.batch
        first = math.floor(total * self.shares[0] + Fraction(1, 2))
        return (first, total - first)[: len(self.sizes)]

    def at(self, step: int) -> list[Draw]:
        """The samples of batch number `step`, from 0: those of the first set, then those of the second."""
        bounds = zip(self.drawn(step), self.drawn(step + 1), strict=True)
        return [self._draw(which, number) for which, (start, end) in enumerate(bounds) for number in range(start, end)]

    def _draw(self, which: int, number: int) -> Draw:
        visit, rest = divmod(number, self.sizes[which])
        places, numbers = _order(self.seed, which, visit, self.sizes[which], self.repeats_of(which))
        place, number = int(places[rest]), 0 if numbers is None else int(numbers[rest])
        # The second of a sample within a pass is changed in another way than the first.
        return Draw(which, place, visit, _seed(self.seed, which, visit, place, *([number] if number else [])))

    def repeats_of(self, which: int) -> Repeats | None:
        """How often the samples of a set come in a pass; None takes each once."""
        return self.repeats[which] if self.repeats else None

    @property
    def marks(self) -> tuple[str, ...]:
        """What stands for `repeats` in a state; empty where each sample comes once."""
        marks = tuple("every" if one is None else one.mark for one in self.repeats)
        return () if set(marks) <= {"every"} else marks


@lru_cache(maxsize=4)  # for each of two sets, the pass that ends and the one that begins
def _order(
    seed: int, which: int, visit: int, size: int, repeats: Repeats | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None]:
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(which, visit)))
    return (generator.permutation(size), None) if repeats is None else repeats.order(generator)


def _seed(*key: int) -> int:
    """63 random bits that belong to the key: a seed and numbers that count from 0."""
    return int(np.random.SeedSequence(key[0], spawn_key=key[1:]).generate_state(1, np.uint64)[0]) >> 1
