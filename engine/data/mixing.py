"""Training samples made of several: mosaic, mixup, and objects pasted from another image.

They are made of finished samples, which lie on canvases of one size, so that boxes and masks are right by simple
arithmetic, whatever happened to each image before. The last part of a training goes without them, because no real image
looks so (Ge et al., "YOLOX", arXiv 2107.08430, section 2.1, for the last 15 of 300 epochs).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from engine.data.augment import Mixing
from engine.reading.images import FloatArray, UInt8Array

Sample = TypeVar("Sample")
_Sample_co = TypeVar("_Sample_co", covariant=True)

NEAREST, FARTHEST = (
    0.25,
    0.75,
)  # of the canvas: where the four parts of a mosaic meet, half of YOLOX's range on its 2 x 2
HIDDEN = 0.7  # an object of which pasted ones cover more is no longer to be found


class Parts(NamedTuple):
    """What is mixed of a sample.

    Attributes:
        image: (H, W, 3) uint8.
        boxes_xyxy: (N, 4) float32, pixels of the canvas.
        class_ids: (N,) int64.
        mask: (H, W) uint8 labels, or None.
    """

    image: UInt8Array
    boxes_xyxy: FloatArray
    class_ids: npt.NDArray[np.int64]
    mask: UInt8Array | None = None


class Sized(Protocol[_Sample_co]):
    """A data set with a known number of samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> _Sample_co: ...


@runtime_checkable
class Visited(Protocol[_Sample_co]):
    """A data set whose samples depend on how often all of them were seen before."""

    def at(self, place: int, visit: int) -> _Sample_co:
        """The sample of a place in a pass over the set, counted from 0."""
        ...


class Paced(Dataset[Sample], ABC, Generic[Sample]):
    """A data set whose samples depend on how far the training is."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def at(self, place: int, visit: int) -> Sample:
        """The sample of a place in a pass over the set, counted from 0."""

    @abstractmethod
    def close_after(self, passes: float) -> None:
        """Take note that the training sees the whole set so many times."""


class MixedImages(Paced[Sample]):
    """The samples of a set, mixed. All that is drawn comes from torch's generator.

    Args:
        plain: samples on canvases of one size.
        mixing: how often, and how.
        take: the parts of a sample that are mixed.
        put: the sample with other parts.
    """

    def __init__(
        self,
        plain: Sized[Sample],
        mixing: Mixing,
        take: Callable[[Sample], Parts],
        put: Callable[[Sample, Parts], Sample],
    ) -> None:
        self.plain = plain
        self.mixing = mixing
        self.take = take
        self.put = put
        self.passes: int | None = None  # from this pass on nothing is mixed; None mixes to the end

    def __len__(self) -> int:
        return len(self.plain)

    def __getitem__(self, index: int) -> Sample:
        return self.at(index, 0)

    def at(self, place: int, visit: int) -> Sample:
        """The sample of a place in a pass over the set."""
        sample = self.plain[place]
        if self.passes is not None and visit >= self.passes:
            return sample
        mixing, parts = self.mixing, self.take(sample)
        if _happens(mixing.mosaic):
            four = [parts, *(self._other() for _ in range(3))]
            shares = torch.rand(4, 2, dtype=torch.float64).numpy()
            parts = _left(*mosaic(four, _meeting(parts.image), shares), mixing)
        if _happens(mixing.copy_paste):
            other = self._other()
            chosen = torch.rand(len(other.class_ids)).numpy() < 0.5
            parts = paste(parts, other, chosen)
        if _happens(mixing.mixup):
            parts = blend(parts, self._other())
        return self.put(sample, parts)

    def close_after(self, passes: float) -> None:
        """Mix until the closing share of a training that sees the whole set so many times."""
        self.passes = round(passes * (1 - self.mixing.closing))

    def _other(self) -> Parts:
        return self.take(self.plain[int(torch.randint(len(self.plain), ()))])


def _happens(probability: float) -> bool:
    return probability > 0 and float(torch.rand(())) < probability


def _meeting(image: UInt8Array) -> tuple[int, int]:
    """Row and column where the parts of a mosaic meet."""
    shares = NEAREST + (FARTHEST - NEAREST) * torch.rand(2)
    return int(shares[0] * image.shape[0]), int(shares[1] * image.shape[1])


def mosaic(
    samples: Sequence[Parts], meeting_yx: tuple[int, int], shares_yx: npt.NDArray[np.float64]
) -> tuple[Parts, FloatArray]:
    """Four samples around a point, each cut to its quarter.

    Args:
        samples: top left, top right, bottom left, bottom right.
        meeting_yx: row and column of the point.
        shares_yx: (4, 2) where each is cut, from 0 at its top and left to 1 at its bottom and right.

    Returns:
        The mosaic, and which share of each of its boxes is seen.
    """
    height, width = samples[0].image.shape[:2]
    row, column = meeting_yx
    rows, columns = (slice(0, row), slice(row, height)), (slice(0, column), slice(column, width))
    image = np.empty_like(samples[0].image)
    mask = None if samples[0].mask is None else np.empty_like(samples[0].mask)
    boxes, class_ids, seen = [], [], []
    places = [(down, across) for down in rows for across in columns]
    for sample, (down, across), share in zip(samples, places, shares_yx, strict=True):
        tall, wide = down.stop - down.start, across.stop - across.start
        top, left = int(share[0] * (height - tall)), int(share[1] * (width - wide))
        there = (slice(top, top + tall), slice(left, left + wide))
        image[down, across] = sample.image[there]
        if mask is not None and sample.mask is not None:
            mask[down, across] = sample.mask[there]
        shift = np.array([across.start - left, down.start - top] * 2, np.float32)
        moved = sample.boxes_xyxy + shift
        low, high = np.array([across.start, down.start] * 2), np.array([across.stop, down.stop] * 2)
        cut = np.clip(moved, low, high).astype(np.float32)
        boxes.append(cut)
        class_ids.append(sample.class_ids)
        seen.append(_areas(cut) / np.maximum(_areas(moved), 1e-9))
    parts = Parts(image, np.concatenate(boxes), np.concatenate(class_ids), mask)
    return parts, np.concatenate(seen).astype(np.float32)


def paste(sample: Parts, other: Parts, chosen: npt.NDArray[np.bool_]) -> Parts:
    """A sample with objects of another, each with all that its box shows, at the same place.

    Objects of which the pasted ones hide most are no longer objects of the sample.

    Args:
        sample: the sample.
        other: where the objects come from; it has a mask if the sample has one.
        chosen: (M,) which of its boxes.
    """
    height, width = sample.image.shape[:2]
    hidden = np.zeros((height, width), bool)
    pasted = other.boxes_xyxy[chosen]
    for left, top, right, bottom in pasted.round().astype(int):
        hidden[top:bottom, left:right] = True
    if not hidden.any():
        return sample
    image = np.where(hidden[..., None], other.image, sample.image)
    mask = sample.mask
    if mask is not None and other.mask is not None:
        mask = np.where(hidden, other.mask, mask)
    left = _shares(hidden, sample.boxes_xyxy) < HIDDEN
    boxes = np.concatenate([sample.boxes_xyxy[left], pasted])
    class_ids = np.concatenate([sample.class_ids[left], other.class_ids[chosen]])
    return Parts(image, boxes, class_ids, mask)


def blend(sample: Parts, other: Parts) -> Parts:
    """The mean of two images, with the boxes of both (YOLOX's mixup for detection; labels keep their full weight)."""
    image = ((sample.image.astype(np.uint16) + other.image + 1) // 2).astype(np.uint8)
    boxes = np.concatenate([sample.boxes_xyxy, other.boxes_xyxy])
    return Parts(image, boxes, np.concatenate([sample.class_ids, other.class_ids]), sample.mask)


def _left(parts: Parts, seen: FloatArray, mixing: Mixing) -> Parts:
    """The parts without the boxes that are too small or hardly seen."""
    sides = parts.boxes_xyxy[:, 2:] - parts.boxes_xyxy[:, :2]
    left = (sides >= max(mixing.min_side, 1e-3)).all(1) & (seen >= mixing.min_visible)
    return parts._replace(boxes_xyxy=parts.boxes_xyxy[left], class_ids=parts.class_ids[left])


def _areas(boxes: FloatArray) -> FloatArray:
    areas: FloatArray = (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(1)
    return areas


def _shares(hidden: npt.NDArray[np.bool_], boxes: FloatArray) -> npt.NDArray[np.float64]:
    """(N,) which share of each box's pixels is hidden, by sums over rectangles."""
    sums = np.pad(hidden.cumsum(0, dtype=np.int64).cumsum(1), ((1, 0), (1, 0)))
    height, width = hidden.shape
    left, top, right, bottom = boxes.round().astype(int).clip(0, [width, height] * 2).T
    inside = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    shares: npt.NDArray[np.float64] = inside / np.maximum((right - left) * (bottom - top), 1)
    return shares
