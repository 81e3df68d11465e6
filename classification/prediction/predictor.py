"""Classification of images: load a network, give it a picture, and get its classes, or a vector of it.

classifier = load("runs/classification/mine/checkpoints/last.ckpt")
found = classifier.predict("cell.jpg")
found.label, found.top(3)
vectors = classifier.embed(["cell.jpg", "other.jpg"])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from classification.data.classes import LabelClasses
from classification.data.framing import Framing
from classification.network.model import Classifier
from classification.prediction.classified import Classified
from classification.spec import SPEC
from classification.weights.exported import load_exported
from classification.weights.imagenet import load_imagenet
from classification.weights.load import load_network
from engine.exports.files import check_exported_use, is_exported
from engine.prediction.predictor import Predictor, check_many, check_numbers
from engine.reading.images import UInt8Array
from engine.reading.pixels import Source, pixels_of
from engine.sharing.shareable import Origin, Shareable
from engine.training.checkpoint_files import found_source
from engine.training.checkpoints import is_checkpoint, read_checkpoint


class FramedImage(NamedTuple):
    """An image as the network sees it.

    Attributes:
        image: (S, S, 3) uint8 RGB.
    """

    image: Tensor


@dataclass(frozen=True)
class Framed:
    """Makes the square that the network sees; it holds plain values.

    Attributes:
        framing: how.
    """

    framing: Framing

    def __call__(self, image: UInt8Array) -> FramedImage:
        """The square of an (H, W, 3) uint8 RGB image."""
        return FramedImage(self.framing(image))


class ClassificationPredictor(Shareable, Predictor[FramedImage, Classified]):
    """A classifier with everything that prediction needs.

    Args:
        network: the classifier.
        threshold: where images have several labels, classes of this probability or more are found.
    """

    spec = SPEC
    part = "classifier"
    network: Classifier

    def __init__(self, network: Classifier, threshold: float = 0.5) -> None:
        super().__init__(network, network.reading)
        self.threshold = threshold

    @property
    def classes(self) -> LabelClasses:
        """The class list."""
        return self.network.classes

    @property
    def fill_color(self) -> tuple[int, int, int]:
        """RGB of pixels that show nothing."""
        return self.network.fill_color

    def settings(self) -> dict[str, object]:
        """Member, architecture and classes, and where a class is found."""
        return {**self.network.settings(), "threshold": self.threshold}

    @property
    def prepare(self) -> Framed:
        """Makes the square that the network sees."""
        return Framed(self.network.framing)

    def compute(self, images: Tensor, samples: Sequence[FramedImage]) -> list[Classified]:
        """The classes of images of one size."""
        found = self.network.probabilities(images)
        check_numbers(found)
        rows = found.cpu().numpy()
        return [Classified(row, self.classes, self.threshold, self.reader) for row in rows]

    @torch.no_grad()
    def embed(self, images: Sequence[Source], *, batch_size: int = 8) -> npt.NDArray[np.float32]:
        """The vectors (N, F) that the last layer classifies, to compare or to search images by.

        Args:
            images: paths, or what else `predict` takes.
            batch_size: images that are read, prepared and computed at a time.

        Raises:
            InputError: as `predict_many`.
        """
        check_many(images, batch_size)
        self.network.eval()
        parts: list[npt.NDArray[np.float32]] = []
        for start in range(0, len(images), batch_size):
            pixels = (pixels_of(image, self.reader) for image in images[start : start + batch_size])
            squares = torch.stack([self.prepare(image).image for image in pixels]).permute(0, 3, 1, 2)
            vectors = self.network.features(squares.to(self.device)).float()
            check_numbers(vectors)
            parts.append(vectors.cpu().numpy())
        return np.concatenate(parts) if parts else np.zeros((0, self.network.width), np.float32)


def load(
    source: str | Path, device: str | torch.device = "cpu", *, fold: bool = True, member: str | None = None
) -> ClassificationPredictor:
    """A network ready to predict.

    Args:
        source: a checkpoint written by `python -m classification fit`, `best` or `last` of the latest run, a folder
            that `save_pretrained` wrote, `hf://owner/name` of a model hub, a file that `python -m deployment export`
            wrote, or with `member` ImageNet weights: `imagenet`, `package:NAME` or a file.
        device: where it computes; exported files compute on the CPU.
        fold: fold its batch norms, which is faster; leave this out to train it further.
        member: the family member that ImageNet weights are of.

    Raises:
        InputError: the file is missing, damaged or of another kind.
    """
    source = found_source(source, "classification")
    if is_exported(source):
        check_exported_use(source, device, fold=fold)
        exported = load_exported(source)
        return ClassificationPredictor(exported, exported.threshold)
    own = is_checkpoint(source)
    if member is not None and not own:
        network = load_imagenet(member, str(source))
        threshold = 0.5
    else:
        network = load_network(source)
        stored = read_checkpoint(source, "classification").model
        threshold = float(stored.get("threshold", 0.5))
    network = network.to(device)
    predictor = ClassificationPredictor(network.fold() if fold else network, threshold)
    predictor.origin = Origin.of(source) if own else None
    return predictor
