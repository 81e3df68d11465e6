"""How often each sample comes in a pass over a set, and in which order: exact for any number of processes."""

from __future__ import annotations

import hashlib
import math
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch

from engine.data.sampling.labels import Floats, Ints, SampleLabels
from engine.data.sampling.settings import Sampling

# Share of a class in an image that is taken for that class: 3,000 pixels of pictures of 2048 x 1024 in DAFormer
# (`rare_class_sampling.min_pixels`).
LEAST_SHARE = 3000 / (2048 * 1024)


def repeat_factors(labels: SampleLabels, threshold: float) -> Floats:
    """(N,) how often each sample comes in a pass; at least once.

    Gupta et al., "LVIS" (arXiv 1908.03195, section B.2): r_c = max(1, sqrt(t / f_c)) of a class that is in a share f_c
    of the samples, and the largest of its classes for a sample.

    Args:
        labels: the classes of the samples.
        threshold: t.
    """
    seen = np.bincount(labels.class_ids)
    of_class = np.sqrt(threshold * labels.samples / np.maximum(seen, 1)).clip(min=1)
    repeats = np.ones(labels.samples)
    np.maximum.at(repeats, labels.sample_ids, of_class[labels.class_ids])
    return repeats


class Preference(NamedTuple):
    """How likely it is that a sample is taken, and for which of its classes.

    Attributes:
        labels: what counts: samples that are taken for one of their classes, with an entry for each.
        shares: (E,) of each entry, 1 in all.
    """

    labels: SampleLabels
    shares: Floats

    def repeats(self) -> Floats:
        """(N,) how often each sample comes in a pass of N; samples without a class come once."""
        own = np.bincount(self.labels.sample_ids, self.shares, self.labels.samples)
        some = np.bincount(self.labels.sample_ids, minlength=self.labels.samples) > 0
        return np.where(some, own * some.sum(), 1.0)


def balanced(labels: SampleLabels) -> Preference:
    """Each class equally likely, and each sample that shows it.

    Shen et al., "Relay Backpropagation" (arXiv 1512.05830, section 3.2), who first draw a class and then an image.
    """
    return _by_class(labels, np.ones(int(labels.class_ids.max(initial=-1)) + 1))


def preferring_rare(labels: SampleLabels, temperature: float) -> Preference:
    """Classes with few pixels more likely than others, and each sample that shows enough of the class.

    Hoyer et al., "DAFormer" (arXiv 2111.14887, equations 4 and 5): P(c) is proportional to exp((1 - f_c) / T) with the
    share f_c of all pixels.

    Args:
        labels: the classes of the samples, in pixels.
        temperature: T.
    """
    pixels = np.bincount(labels.class_ids, labels.amounts)
    grades = (1 - pixels / max(pixels.sum(), 1)) / temperature
    weights = np.exp(grades - grades.max(initial=0)) * (pixels > 0)
    totals = np.bincount(labels.sample_ids, labels.amounts, labels.samples)
    enough = labels.amounts >= LEAST_SHARE * totals[labels.sample_ids]
    # A class that never has so much is taken where it is.
    kept = np.bincount(labels.class_ids[enough], minlength=len(pixels)) > 0
    counted = enough | ~kept[labels.class_ids]
    some = SampleLabels(labels.samples, labels.sample_ids[counted], labels.class_ids[counted], labels.amounts[counted])
    return _by_class(some, weights)


def _by_class(labels: SampleLabels, weights: Floats) -> Preference:
    seen = np.bincount(labels.class_ids, minlength=len(weights))
    each = np.divide(weights, seen, out=np.zeros(len(weights)), where=seen > 0)
    shares = each[labels.class_ids]
    return Preference(labels, shares / max(shares.sum(), 1e-300))


class Repeats:
    """A number of copies of each sample, which passes over the set keep on average.

    Every pass has the same number of samples. In each, a sample comes as often as its number says, rounded up or down
    by systematic resampling (Kitagawa 1996, "Monte Carlo Filter and Smoother", appendix), so that the mean over passes
    is the number itself.

    Args:
        counts: (N,) numbers, such as 1.7.
        name: a word for messages.
    """

    def __init__(self, counts: Floats, name: str) -> None:
        self.length = max(1, math.ceil(counts.sum() - 1e-9))
        # Scaled up by less than a sample in all, so that the number of samples is whole.
        self.counts = counts * (self.length / max(float(counts.sum()), 1e-300))
        self.mark = f"{name} {hashlib.sha256(counts.tobytes()).hexdigest()[:8]}"

    def order(self, generator: np.random.Generator) -> tuple[Ints, Ints]:
        """The samples of a pass in a random order, and for each how often it came before in that pass's list."""
        places = generator.permutation(len(self.counts))
        ends = np.cumsum(self.counts[places]).clip(max=self.length)
        ends[-1] = self.length
        copies = np.diff(np.floor(ends + generator.random()), prepend=0).astype(np.int64)
        number = np.arange(copies.sum()) - np.repeat(np.cumsum(copies) - copies, copies)
        mixed = generator.permutation(len(number))
        return np.repeat(places, copies)[mixed], number[mixed]


class ClassFocus:
    """The class for which a sample is taken, so that its crop can show it.

    Args:
        preference: how likely each class of each sample is.
    """

    def __init__(self, preference: Preference) -> None:
        order = np.argsort(preference.labels.sample_ids, kind="stable")
        self._ends = np.searchsorted(preference.labels.sample_ids[order], np.arange(preference.labels.samples + 1))
        self._class_ids = preference.labels.class_ids[order]
        self._shares = preference.shares[order]

    def draw(self, place: int) -> int | None:
        """A class of a sample, by torch's random generator; None where the sample has none."""
        own = slice(self._ends[place], self._ends[place + 1])
        shares = self._shares[own]
        if not shares.sum() > 0:
            return None
        chosen = np.searchsorted(np.cumsum(shares) / shares.sum(), float(torch.rand((), dtype=torch.float64)), "right")
        return int(self._class_ids[own][min(int(chosen), len(shares) - 1)])


@runtime_checkable
class Focused(Protocol):
    """A training set that can cut a sample where a class is."""

    focus: ClassFocus | None


class Chosen(NamedTuple):
    """What a sampling makes of the labels of a set.

    Attributes:
        repeats: how often each sample comes.
        focus: the class for which a sample is taken; None where samples are taken as they are.
        line: both in words.
    """

    repeats: Repeats
    focus: ClassFocus | None
    line: str

    @classmethod
    def of(cls, labels: SampleLabels, sampling: Sampling) -> Chosen:
        """Count once for all processes."""
        preference = None
        if sampling.name == "class_balanced":
            preference = balanced(labels)
        elif sampling.name == "rare_class":
            preference = preferring_rare(labels, sampling.spread)
        counts = repeat_factors(labels, sampling.rare) if preference is None else preference.repeats()
        repeats = Repeats(counts, sampling.name)
        most = float(repeats.counts.max(initial=0))
        line = (
            f"sampling {sampling.name}: a pass takes {repeats.length:,} samples of {labels.samples:,} images, one of "
            f"them {most:.1f} times"
        )
        return cls(repeats, None if preference is None else ClassFocus(preference), line)
