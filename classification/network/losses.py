"""The losses of classification, of each image: cross-entropy, and binary cross-entropy for several labels.

torch's and timm's own functions; here is only which of them is meant.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from timm.loss import BinaryCrossEntropy
from torch import Tensor

from engine.checked import Checked
from engine.errors import InputError
from engine.numbers import PositiveFloat, ZeroToBelowOne

LossName = Literal["auto", "cross_entropy", "binary"]


@dataclass(frozen=True)
class ClassificationLoss(Checked):
    """Which loss, and its settings.

    Args:
        name: `cross_entropy` for one label an image; `binary` is a cross-entropy for each class by itself, for several
            labels, or for one (Wightman et al., "ResNet strikes back", arXiv 2110.00476); `auto` takes the first for
            one label and the second for several.
        smoothing: share of the label that is spread over all classes, for one label an image.
        class_weights: `balanced` weights a class by its rarity in the training set: N / (K n) for one label, and
            (N - n) / n of what it is in for several; or a weight for each class.
    """

    name: LossName = "auto"
    smoothing: ZeroToBelowOne = 0.0
    class_weights: Literal["balanced"] | tuple[PositiveFloat, ...] | None = None
    group: ClassVar[str] = "loss"

    def unsmoothed(self) -> ClassificationLoss:
        """The same for labels that are smoothed already."""
        return dataclasses.replace(self, smoothing=0.0)

    def chosen(self, several: bool) -> Literal["cross_entropy", "binary"]:
        """The loss that is meant.

        Raises:
            InputError: it cannot be that of several labels.
        """
        if self.name == "auto":
            return "binary" if several else "cross_entropy"
        if several and self.name == "cross_entropy":
            msg = "loss.name is cross_entropy, but images have several labels. Leave it out, or give binary."
            raise InputError(msg)
        if several and self.smoothing:
            msg = f"loss.smoothing is {self.smoothing}, which is for one label an image. Leave it out."
            raise InputError(msg)
        return self.name


def image_losses(
    logits: Tensor, targets: Tensor, settings: ClassificationLoss, *, several: bool, weights: Tensor | None = None
) -> Tensor:
    """The loss (B,) of each image.

    Args:
        logits: (B, K).
        targets: (B,) int64 rows, or (B, K) shares of each class.
        settings: which loss.
        several: whether an image may have several labels.
        weights: (K,) weights of the classes.
    """
    logits = logits.float()
    if settings.chosen(several) == "cross_entropy":
        return F.cross_entropy(logits, targets, weights, reduction="none", label_smoothing=settings.smoothing)
    # Of one label an image, the mixing has smoothed shares already (timm's own reading).
    binary = BinaryCrossEntropy(smoothing=settings.smoothing, pos_weight=weights, reduction="none")
    each: Tensor = binary(logits, targets)
    return each.mean(1)


def balanced_weights(images: int, counts: npt.NDArray[np.int64], *, several: bool) -> Tensor:
    """(K,) weights by the rarity of classes: N / (K n), or (N - n) / n where images have several labels.

    Args:
        images: N.
        counts: (K,) images of each class; a class without images counts as one.
        several: whether images may have several labels.
    """
    found = torch.from_numpy(counts).double().clamp(min=1)
    return ((images - found).clamp(min=1) / found if several else images / (len(found) * found)).float()


def check_weights(settings: ClassificationLoss, names: tuple[str, ...]) -> None:
    """Do nothing if there are no weights or one for each class.

    Raises:
        InputError: there are more or fewer.
    """
    given = settings.class_weights
    if isinstance(given, tuple) and len(given) != len(names):
        msg = f"loss.class_weights has {len(given)} weights for {len(names)} classes. Give one for each."
        raise InputError(msg)
