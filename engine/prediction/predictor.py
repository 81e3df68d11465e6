"""From images to answers: the one path for Python, the command line, videos and clusters of machines.

An image takes two steps. `Predictor.prepare` is done by a worker of the loader, on the CPU and without the network;
`Predictor.run` computes several prepared images and gives answers in pixels of the original images.

    predictor = detection.load("best.ckpt")
    found = predictor.predict("street.jpg")
"""

from __future__ import annotations

import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from engine.errors import InputError
from engine.reading.images import UInt8Array
from engine.reading.options import Reading
from engine.reading.pixels import Source, pixels_of
from engine.reading.reader import IMAGENET_MEAN_COLOR, PixelReader
from engine.video.frames import Frames, TimedFrame


class PreparedImage(Protocol):
    """An image as a worker prepared it: a named tuple with the image among its fields."""

    @property
    def image(self) -> Tensor:
        """(H, W, 3) uint8 RGB, as the network will see it."""
        ...

    def _replace(self, *, image: Tensor) -> Self:
        """A copy with another image."""
        ...


Prepared = TypeVar("Prepared", bound=PreparedImage)
Prepared_co = TypeVar("Prepared_co", bound=PreparedImage, covariant=True)
Answer = TypeVar("Answer")


class Preparation(Protocol[Prepared_co]):
    """The first step. It holds plain values, which are sent to the processes of a loader without the network."""

    def __call__(self, image: UInt8Array) -> Prepared_co:
        """Prepare an (H, W, 3) uint8 RGB image."""
        ...


@runtime_checkable
class Folding(Protocol):
    """A network that can be rewritten for prediction (`backbones.folding`).

    Attributes:
        folded: whether it is so already, as that of another runtime is.
    """

    folded: bool

    def fold(self) -> object:
        """Fold it in place."""
        ...


def places_by_shape(samples: Sequence[PreparedImage]) -> list[list[int]]:
    """The places of the samples, those with images of one shape together."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, sample in enumerate(samples):
        groups.setdefault(tuple(sample.image.shape), []).append(place)
    return list(groups.values())


def check_numbers(*outputs: Tensor) -> None:
    """Do nothing if a network's outputs are numbers. This waits for the device, as reading the answers does.

    Raises:
        InputError: some are NaN, of which every answer would be made up.
    """
    # A sum is NaN if any value is, and takes no second tensor of the outputs' size.
    if outputs and bool(torch.stack([output.sum(dtype=torch.float32).isnan() for output in outputs]).any()):
        msg = (
            "the network's answers are not numbers (NaN): its training diverged, or its file is damaged. Give an "
            "earlier checkpoint."
        )
        raise InputError(msg)


def check_many(images: Sequence[Source], batch_size: int) -> None:
    """Do nothing if these are several images, to be computed at least one at a time.

    Raises:
        InputError: it is one image, or `batch_size` is out of range.
    """
    if isinstance(images, str | Path | bytes | np.ndarray | Image.Image):
        msg = "predict_many takes a list of images, and got one. Give [image], or call predict."
        raise InputError(msg)
    if batch_size < 1:
        msg = f"batch_size is {batch_size}; it must be at least 1."
        raise InputError(msg)


class Predictor(ABC, Generic[Prepared, Answer]):
    """A network with everything else that prediction needs; it is not a module itself.

    The predictor of a task holds its settings, says how one image is prepared, and computes images of one shape.

    Args:
        network: the network.
        reading: how rasters are read, as the network was trained.
    """

    network: nn.Module

    def __init__(self, network: nn.Module, reading: Reading = Reading()) -> None:
        self.network = network
        self.reading = reading

    @property
    def fill_color(self) -> tuple[int, int, int]:
        """RGB of pixels that show nothing; ImageNet's mean where the predictor of a task has no colour of its own."""
        return IMAGENET_MEAN_COLOR

    @property
    @abstractmethod
    def prepare(self) -> Preparation[Prepared]:
        """The preparation of each image before the network; it does not hold the network."""

    @abstractmethod
    def compute(self, images: Tensor, samples: Sequence[Prepared]) -> list[Answer]:
        """The answers for images of one shape, without gradients.

        Args:
            images: (B, 3, H, W) uint8 RGB on the network's device.
            samples: the prepared images that `images` was made of.
        """

    def original(self, sample: Prepared) -> UInt8Array | None:
        """The (H, W, 3) pixels of the original image if the sample still holds them, else None."""
        return None

    @property
    def reader(self) -> PixelReader:
        """Reads files as the network was trained on them; it does not hold the network."""
        return PixelReader(self.reading, self.fill_color)

    def with_reading(self, reading: Reading) -> Self:
        """A predictor of the same network that reads rasters as asked; an option that is None stays as it is."""
        other = copy.copy(self)
        other.reading = reading.over(self.reading)
        return other

    @property
    def device(self) -> torch.device:
        """The device that the network is on."""
        # A network that another runtime computes has no parameters.
        return next(itertools.chain(self.network.parameters(), self.network.buffers())).device

    def to(self, device: str | torch.device) -> Self:
        """Move the network to another device; returns this predictor."""
        self.network.to(device)
        return self

    def folded(self) -> Self:
        """A copy of this predictor with a network that is folded for prediction; this predictor does not change.

        A network that is folded already is shared: what another runtime computes cannot be copied.
        """
        other = copy.copy(self)
        if isinstance(self.network, Folding) and self.network.folded:
            return other
        other.network = copy.deepcopy(self.network)
        if isinstance(other.network, Folding):
            other.network.fold()
        return other

    @torch.no_grad()
    def run(self, samples: Sequence[Prepared]) -> list[Answer]:
        """The answers for prepared images in their order; images of one shape are computed together.

        Args:
            samples: images that `prepare` made; the network must be in eval mode.
        """
        answers: dict[int, Answer] = {}
        for places in places_by_shape(samples):
            members = [samples[place] for place in places]
            # A view: channels lie last in memory, as they were decoded, and as the convolutions want them.
            images = torch.stack([sample.image for sample in members]).permute(0, 3, 1, 2)
            answers |= zip(places, self.compute(images.to(self.device), members), strict=True)
        return [answers[place] for place in range(len(samples))]

    def predict(self, image: Source) -> Answer:
        """The answer for one image: a path, the bytes of a file, an image of Pillow or an array (`pixels_of`).

        Raises:
            InputError: the image is missing or cannot be read, or is an array of another kind.
        """
        return self.predict_many([image])[0]

    def predict_many(self, images: Sequence[Source], *, batch_size: int = 8) -> list[Answer]:
        """The answers for several images, in their order.

        Args:
            images: what `predict` takes, of any sizes.
            batch_size: images that are read, prepared and computed at a time.

        Raises:
            InputError: an image is missing or cannot be read, or is an array of another kind; or `batch_size` is out
                of range.
        """
        check_many(images, batch_size)
        self.network.eval()
        answers: list[Answer] = []
        for start in range(0, len(images), batch_size):
            pixels = (pixels_of(image, self.reader) for image in images[start : start + batch_size])
            answers += self.run([self.prepare(image) for image in pixels])
        return answers


@dataclass(frozen=True)
class AnsweredFrame(Generic[Answer]):
    """A frame with what was found in it.

    Attributes:
        frame: its picture, place and time.
        answer: what was found.
    """

    frame: TimedFrame
    answer: Answer


def answered(
    predictor: Predictor[Prepared, Answer], frames: Frames, batch_size: int, *, progress: bool = True
) -> Iterator[list[AnsweredFrame[Answer]]]:
    """The frames in order with their answers, in lists of those that are computed together.

    Args:
        predictor: the predictor, whose network is in eval mode.
        frames: the frames; of a live stream one is computed at a time, so that it is the newest.
        batch_size: frames that are computed together.
        progress: whether to show a progress bar.

    Raises:
        UnreadableError: no frame can be read.
    """
    name = frames.name.rpartition("/")[2].rstrip("'")
    shown = iter(tqdm(frames.timed(), name, frames.count or None, unit="frame", disable=not progress))
    while some := list(itertools.islice(shown, 1 if frames.live else batch_size)):
        answers = predictor.run([predictor.prepare(frame.picture) for frame in some])
        yield [AnsweredFrame(*both) for both in zip(some, answers, strict=True)]
