"""A classifier in a file of another runtime, with the interface of the network that it was exported from."""

from __future__ import annotations

from pathlib import Path
from typing import Self, cast

import torch
from torch import Tensor, nn

from backbones.grid import size_hw
from classification.data.classes import LabelClasses
from classification.network.family import ClassifierArchitecture
from classification.network.model import Classifier, StoredClassifier
from engine.errors import InputError
from engine.exports.files import Runtime, computed, open_exported

_LEAST = 1e-12  # probability: that of no file is smaller by more than rounding


class ExportedClassifier(Classifier):
    """A classifier that a runtime computes. It has no weights and cannot be trained.

    Args:
        runtime: the opened file.

    Raises:
        InputError: the file does not describe a classifier.
    """

    folded = True

    def __init__(self, runtime: Runtime) -> None:
        nn.Module.__init__(self)  # no layers
        settings = cast("StoredClassifier", runtime.about.model)
        try:
            self.config = ClassifierArchitecture.from_settings(settings)
            self.classes = LabelClasses.from_dict(settings["classes"])
        except (KeyError, TypeError, ValueError) as error:
            msg = f"'{runtime.path}' does not describe a classifier: {error}. Export it again."
            raise InputError(msg) from error
        self.runtime = runtime
        self.register_buffer("mean", 255 * torch.tensor(runtime.about.mean)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(runtime.about.std)[:, None, None], persistent=False)

    @property
    def threshold(self) -> float:
        """Where images have several labels, classes of this probability or more are found."""
        return float(cast("StoredClassifier", self.runtime.about.model).get("threshold", 0.5))

    @property
    def width(self) -> int:
        """See `Classifier`; an image is computed for it."""
        height, width = self.runtime.about.image_hw or (self.config.image_size, self.config.image_size)
        return self.features(torch.zeros((1, 3, height, width), dtype=torch.uint8)).shape[1]

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) that give the file's probabilities.

        Raises:
            InputError: the file takes no images of this size.
        """
        found = self.probabilities(images).double().clamp(_LEAST, 1 - _LEAST)
        return (found.logit() if self.classes.several else found.log()).float()

    def probabilities(self, images: Tensor) -> Tensor:
        """See `Classifier`."""
        return self._computed(images)["probabilities"]

    def features(self, images: Tensor) -> Tensor:
        """See `Classifier`."""
        return self._computed(images)["embeddings"]

    def train(self, mode: bool = True) -> Self:
        """Nothing changes: there are no layers with a mode."""
        return self

    def _computed(self, images: Tensor) -> dict[str, Tensor]:
        return computed(self.runtime, images, torch.tensor([size_hw(images)] * len(images)))


def load_exported(source: str | Path) -> ExportedClassifier:
    """The classifier of an exported file.

    Raises:
        InputError: the file is missing, damaged, of another program or of another task.
    """
    return ExportedClassifier(open_exported(source, "classification"))
