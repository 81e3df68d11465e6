"""What every detector is to the rest of the project, whichever head it has: losses to train, boxes to answer.

Data, training, scores, prediction and reports know this class only. `detection.network.model` has EfficientDet,
`detection.network.heads.detector` a detector with one of torchvision's heads.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.contract import Features, Freezing, chosen_features, given_name
from backbones.features import EfficientNetFeatures
from backbones.folding import Foldable
from backbones.grid import size_hw
from backbones.slimming import refuse_whole_weights
from detection.data.batch import DetectionBatch, Detections
from detection.data.classes import BoxClasses
from detection.network.family import DetectorArchitecture, architecture, replaced
from detection.network.loss_settings import DetectionLoss
from detection.network.postprocess import Postprocess
from engine.errors import InputError
from engine.reading.options import Reading

COARSEST = 5  # level of the backbone; the pyramid's coarser ones are computed from it
Predictions: TypeAlias = tuple[Tensor, ...]


class LossTerms(NamedTuple):
    """What the sums of a loss are called, and how the loss is made of them.

    Attributes:
        names: S words, such as "class" and "box".
        weights: S numbers, by which the sums are multiplied in the loss.
        start: what the divisor is before anything is counted; above 0 it is never divided by nothing.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]
    start: float = 0.0

    def of(self, packed: Tensor) -> LossSums:
        """The sums of (S + 1,) numbers, of which the last is the count."""
        return LossSums(packed[:-1], packed[-1], self)


@dataclass(frozen=True)
class LossSums:
    """Sums over a batch, not yet divided by what is counted: positive anchors, or images.

    Attributes:
        sums: (S,) not yet weighted.
        count: () what they are divided by, over all devices.
        terms: their names and weights.
    """

    sums: Tensor
    count: Tensor
    terms: LossTerms

    @property
    def divisor(self) -> Tensor:
        """What the sums are divided by, once the count is that of all devices."""
        return self.count + self.terms.start

    def total(self, divisor: Tensor) -> Tensor:
        """The number to minimise."""
        first, *others = (part * weight for part, weight in zip(self.sums.unbind(), self.terms.weights, strict=True))
        return sum(others, start=first) / divisor

    def named(self, divisor: Tensor) -> dict[str, Tensor]:
        """Each part of the loss, not weighted, by its name."""
        return dict(zip(self.terms.names, (self.sums / divisor).unbind(), strict=True))

    def over_devices(self, sum_up: Callable[[Tensor], Tensor]) -> LossSums:
        """The sums over the batches of all devices, without gradient.

        Args:
            sum_up: the element-wise sum of a tensor over the devices; called once.
        """
        packed: Tensor = sum_up(torch.cat([self.sums, self.count[None]]).detach())
        return self.terms.of(packed)


class Detector(Foldable):
    """A backbone, with what a subclass puts on it.

    Args:
        member: `d0` ... `d7x`, `lite0` ... `lite4`, or a complete `DetectorArchitecture`.
        num_classes: K; not needed with `classes`.
        classes: names and category ids of the K rows.
        backbone: a timm EfficientNet in place of the member's; or a network that meets `backbones.contract.Features`
            at levels 3, 4 and 5 (with `min_level` 2 at 2 too), EfficientNet or not. A file that the detector is saved
            to holds the weights of such a network, but not what it is: `from_settings` has to be given one like it.
        backbone_weights: ImageNet weights for the backbone, see `backbones.weights.load`; None starts at random.
        overrides: any other field of `DetectorArchitecture` in place of the member's own value.

    Raises:
        InputError: unknown member or field, a value out of range, or a class count that contradicts `classes`.
    """

    backbone: Features
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        member: str | DetectorArchitecture = "d0",
        num_classes: int | None = None,
        *,
        classes: BoxClasses | None = None,
        backbone: str | Features | None = None,
        backbone_weights: str | Path | None = None,
        frozen_stages: int = 0,
        freeze_norm: bool = False,
        grad_checkpointing: bool = False,
        **overrides: Any,
    ) -> None:
        super().__init__()
        name = backbone if isinstance(backbone, str) else None if backbone is None else given_name(backbone)
        if isinstance(member, str):
            config = architecture(member, backbone=name, **overrides)
        elif overrides or isinstance(backbone, str):
            msg = "give overrides with a member's name, or a complete DetectorArchitecture, not both."
            raise InputError(msg)
        else:
            config = replaced(member, backbone=name)
        self.config = config
        levels = tuple(range(config.min_level, COARSEST + 1))
        self.classes = _class_list(num_classes, classes)
        freezing: Freezing = {
            "frozen_stages": frozen_stages,
            "freeze_norm": freeze_norm,
            "grad_checkpointing": grad_checkpointing,
        }
        refuse_whole_weights(config.widths, backbone_weights)
        make = partial(
            EfficientNetFeatures,
            config.backbone,
            levels=levels,
            drop_path=config.drop_path,
            norm_momentum=config.norm_momentum,
            weights=backbone_weights,
            **freezing,
        )
        self.backbone = chosen_features(
            backbone, make, config.backbone, levels=levels, weights=backbone_weights, freezing=freezing
        )
        given = {key for key, value in overrides.items() if value is not None}
        if isinstance(member, str) and name and not given & {"mean", "std"}:
            norm = self.backbone.image_norm
            self.config = DetectorArchitecture.from_dict(config.to_dict() | {"mean": norm.mean, "std": norm.std})
        self.register_scale()
        self.put_on()

    @abstractmethod
    def put_on(self) -> None:
        """Make what stands on the backbone."""

    def register_scale(self) -> None:
        """Keep mean and deviation of the pixels, in 0..255, where the weights are."""
        self.register_buffer("mean", 255 * torch.tensor(self.config.mean)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(self.config.std)[:, None, None], persistent=False)

    @abstractmethod
    def predictions(self, images: Tensor) -> Predictions:
        """What the network computes of images; `detections` and `image_losses` read it, nothing else does.

        Args:
            images: (B, 3, H, W) RGB in 0..255, uint8 or float, any size.
        """

    @abstractmethod
    def detections(self, predictions: Predictions, batch: DetectionBatch, config: Postprocess) -> Detections:
        """The boxes of a letter-boxed batch, in pixels of the original images.

        Args:
            predictions: of the batch's images.
            batch: the batch; its boxes are not looked at.
            config: thresholds.
        """

    @abstractmethod
    def loss_sums(self, batch: DetectionBatch, config: DetectionLoss) -> LossSums:
        """Loss sums of a batch, with gradient; divide by what is counted on all devices."""

    @abstractmethod
    def image_losses(self, predictions: Predictions, batch: DetectionBatch, config: DetectionLoss) -> Tensor | None:
        """The sums of `LossSums` and the count for each image alone, (B, S + 1) float32, without gradient.

        None for a head whose loss is drawn by chance, so that two passes over a set give two losses.
        """

    def for_training(self, config: DetectionLoss) -> Detector:
        """The network itself, with the layers that only the training with this loss needs."""
        return self

    @abstractmethod
    def loss_terms(self, config: DetectionLoss) -> LossTerms:
        """The names and weights of the loss's parts."""

    @abstractmethod
    def set_classes(self, classes: BoxClasses) -> None:
        """Take another class list; if its rows differ, only the layers that give classes get new random values."""

    @torch.no_grad()
    def detect(self, batch: DetectionBatch, config: Postprocess) -> Detections:
        """Detections of a letter-boxed batch, in pixels of the original images."""
        return self.detections(self.predictions(batch.images), batch, config)

    def normalise(self, images: Tensor) -> Tensor:
        """0..255 to the backbone's range, padded at the right and below to multiples of `padded_to`."""
        if self.padded_to == 1:
            return self._scaled(images).contiguous(memory_format=torch.channels_last)
        height, width = size_hw(images)
        pads = (0, -width % self.padded_to, 0, -height % self.padded_to)
        black = self.config.fill == "black"
        normal = self._scaled(F.pad(images, pads)) if black else F.pad(self._scaled(images), pads)
        return normal.contiguous(memory_format=torch.channels_last)

    def _scaled(self, images: Tensor) -> Tensor:
        return (images.to(self.mean.dtype) - self.mean) / self.std

    @property
    def padded_to(self) -> int:
        """The number of pixels that the network pads the sides of canvases to multiples of; 1 pads none."""
        return self.config.stride if self.config.pads_canvas else 1

    @property
    def takes_pictures(self) -> bool:
        """Whether it lays pictures on its canvas itself, and answers in their pixels, as some exported files do."""
        return False

    @property
    def suppresses(self) -> bool:
        """Whether the network itself gives boxes, and no logits, as one in an exported file may."""
        return False

    def settings(self) -> dict[str, object]:
        """Plain values from which the same network is built again, for checkpoints."""
        return {**self.config.to_settings(), "classes": self.classes.to_dict()}

    @property
    def title(self) -> str:
        """What messages and reports call it."""
        if self.config.head == "efficientdet":
            return f"EfficientDet {self.config.name}"
        return f"{self.config.head} on {self.config.name}"

    @property
    def stride(self) -> int:
        """The coarsest stride: canvases whose sides are multiples of it have anchors of the same sizes."""
        return self.config.stride

    @property
    def reading(self) -> Reading:
        """How rasters become the 8-bit RGB that the network is trained on."""
        return self.config.reading

    @property
    def fill_color(self) -> tuple[int, int, int]:
        """What fills canvases beside the image, in 0..255: the mean colour, or black."""
        if self.config.fill == "black":
            return 0, 0, 0
        red, green, blue = (round(255 * value) for value in self.config.mean)
        return red, green, blue


def _class_list(num_classes: int | None, classes: BoxClasses | None) -> BoxClasses:
    if classes is None:
        count = 90 if num_classes is None else num_classes
        if count < 1:
            msg = f"num_classes is {count}; give at least 1."
            raise InputError(msg)
        return BoxClasses.numbered(count)
    if num_classes is not None and num_classes != len(classes):
        msg = f"num_classes is {num_classes}, but the class list has {len(classes)} rows. Leave num_classes out."
        raise InputError(msg)
    return classes
