"""Images and labels as training samples and as whole images, and batches of both."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from classification.data.augment import TrainingTransform
from classification.data.batch import ClassificationBatch, EvaluationBatch
from classification.data.classes import LabelClasses
from classification.data.framing import Framing
from classification.data.sources import LabelSource, Targets
from classification.training.progressive import Progressive
from engine.data.bad_images import ReadableImages
from engine.data.mixing import Paced
from engine.data.sampling.labels import SampleLabels
from engine.distributed import is_main
from engine.errors import InputError, SampleError
from engine.names import known_places, respelled
from engine.reading.reader import PixelReader

_log = logging.getLogger(__name__)


class LabelledImage(NamedTuple):
    """A training image: as its file has it, and then augmented.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        target: () int64 row of the model, or (K,) float32 of 0 and 1.
        stage: how far the training has grown.
    """

    image: Tensor
    target: Tensor
    stage: int = 0


class WholeSample(NamedTuple):
    """An image as it is scored.

    Attributes:
        image: (S, S, 3) uint8 RGB.
        target: as in `LabelledImage`.
        place: its index in the data set.
    """

    image: Tensor
    target: Tensor
    place: int


class LabelledImages(Dataset[LabelledImage]):
    """The images of a set as they are.

    Args:
        files: the set.
        classes: rows of the model, among which the set's classes are looked up by name.
        read: reads the images.

    Raises:
        InputError: the model has no row for a class, or other kinds of labels.
    """

    def __init__(self, files: LabelSource, classes: LabelClasses, read: PixelReader = PixelReader()) -> None:
        self.files = files
        self.read = read
        self.targets = torch.from_numpy(model_targets(files, classes))

    @property
    def name(self) -> str:
        """What messages call the set."""
        return self.files.source

    def image_path(self, index: int) -> Path:
        """The file of an image."""
        return self.files.image_path(index)

    def labels(self) -> SampleLabels:
        """Which classes the images show: rows of the model."""
        targets = self.targets.numpy()
        if targets.ndim == 2:
            return SampleLabels.of_table(targets.astype(np.int64))
        return SampleLabels.counted(len(targets), np.arange(len(targets)), targets)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> LabelledImage:
        try:
            image = self.files.read_image(index, self.read)
        except InputError as error:
            raise SampleError(str(error)) from None
        return LabelledImage(torch.from_numpy(image), self.targets[index])


class WholeImages(Dataset[WholeSample]):
    """The images of a set as the network sees them in validation.

    Args:
        images: the set.
        framing: makes the square that the network sees.
    """

    def __init__(self, images: LabelledImages, framing: Framing) -> None:
        self.images = images
        self.framing = framing

    @property
    def name(self) -> str:
        """What messages call the set."""
        return self.images.name

    def image_path(self, index: int) -> Path:
        """The file of an image."""
        return self.images.image_path(index)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> WholeSample:
        sample = self.images[index]
        return WholeSample(self.framing(sample.image.numpy()), sample.target, index)


class GrowingImages(Paced[LabelledImage]):
    """The augmented images of a set, by the stages of a training.

    The stage follows from how often the set was seen, so that neither workers nor an interruption change it.

    Args:
        plain: the images as they are.
        transforms: of each stage.
        progressive: says which stage it is.
    """

    def __init__(
        self,
        plain: ReadableImages[LabelledImage],
        transforms: Sequence[TrainingTransform],
        progressive: Progressive,
    ) -> None:
        self.plain = plain
        self.transforms = list(transforms)
        self.progressive = progressive
        self.passes: float | None = None

    def __len__(self) -> int:
        return len(self.plain)

    def __getitem__(self, index: int) -> LabelledImage:
        return self.at(index, 0)

    def at(self, place: int, visit: int) -> LabelledImage:
        """The sample of a place in a pass over the set."""
        sample = self.plain[place]
        stage = self.progressive.number(visit, self.passes)
        return LabelledImage(self.transforms[stage](sample.image.numpy()), sample.target, stage)

    def close_after(self, passes: float) -> None:
        """Take note that the training sees the whole set so many times."""
        self.passes = passes


def collate_training(samples: Sequence[LabelledImage]) -> ClassificationBatch:
    """Stack images, whose memory is channels-last.

    Where a stage begins within a batch, all have the size and the stage of the first.
    """
    first = min(samples, key=lambda sample: sample.stage)
    images = torch.stack([_of_side(sample.image, first.image.shape[0]) for sample in samples]).permute(0, 3, 1, 2)
    return ClassificationBatch(images, torch.stack([sample.target for sample in samples]), first.stage)


def _of_side(image: Tensor, side: int) -> Tensor:
    if image.shape[0] == side:
        return image
    planes = image.permute(2, 0, 1)[None]
    return F.interpolate(planes, (side, side), mode="bilinear", antialias=True)[0].permute(1, 2, 0)


def collate_whole(samples: Sequence[WholeSample]) -> EvaluationBatch:
    """Stack images with their places; the images' memory is channels-last."""
    return EvaluationBatch(
        torch.stack([sample.image for sample in samples]).permute(0, 3, 1, 2),
        torch.tensor([sample.place for sample in samples], dtype=torch.int64),
        torch.stack([sample.target for sample in samples]),
    )


def model_targets(files: LabelSource, classes: LabelClasses) -> Targets:
    """The labels of a set in the model's rows.

    Classes are matched by name; capitals, spaces, hyphens and underscores do not count where no row has the very name,
    and one line says so.

    Raises:
        InputError: the model has no class with one of the names, or images have other kinds of labels.
    """
    if files.classes.several != classes.several:
        kinds = {True: "several labels", False: "one label"}
        msg = (
            f"images of '{files.source}' have {kinds[files.classes.several]}, but the model gives "
            f"{kinds[classes.several]}. Give data of the same kind, or train a model for these."
        )
        raise InputError(msg)
    names = files.classes.names
    places = known_places(files.source, names, classes.names)
    note = respelled(files.source, [(name, classes.names[place]) for name, place in zip(names, places, strict=True)])
    if note and is_main():
        _log.warning(note)
    rows = np.array(places, np.int64)
    if not classes.several:
        return rows[files.targets.astype(np.int64)]
    targets = np.zeros((len(files), len(classes)), np.float32)
    targets[:, rows] = files.targets
    return targets
