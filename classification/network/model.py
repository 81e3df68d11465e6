"""Images in, one number for each class out: the EfficientNet extractor with its classification head.

Source: Tan and Le, "EfficientNet" (arXiv 1905.11946), table 1, last row: convolution 1 x 1, pooling, one linear layer.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NotRequired, TypedDict, cast

import torch
from timm.layers import BatchNormAct2d, SelectAdaptivePool2d, create_conv2d
from torch import Tensor, nn

from backbones.contract import Features, Freezing, chosen_features, given_name
from backbones.features import EfficientNetFeatures
from backbones.folding import Foldable
from backbones.slimming import refuse_whole_weights, slim
from backbones.weights.load import head_channels
from classification.data.classes import LabelClasses, StoredLabelClasses
from classification.data.framing import Framing
from classification.network.family import ClassifierArchitecture, architecture
from engine.distributed import is_main
from engine.errors import InputError
from engine.reading.options import Reading

_log = logging.getLogger(__name__)
LEVELS = (5,)
_OTHER_CHANNELS = 1280  # of the head on a backbone that is no EfficientNet, as that of B0


class StoredClassifier(TypedDict):
    """The settings of a classifier as a checkpoint stores them."""

    member: str
    architecture: Mapping[str, object]
    classes: StoredLabelClasses
    threshold: NotRequired[float]


class ClassHead(nn.Module):
    """From the coarsest map to one number for each class; the names of its layers are timm's.

    Args:
        in_channels: channels of the map.
        channels: channels of the vector that is classified.
        classes: K.
        dropout: probability of dropout before the last layer.
        norm: a norm of the backbone, whose kind, activation and epsilon the head takes.
    """

    def __init__(self, in_channels: int, channels: int, classes: int, dropout: float, norm: nn.Module | None) -> None:
        super().__init__()
        self.conv_head = create_conv2d(in_channels, channels, 1)
        given = norm if isinstance(norm, BatchNormAct2d) else None
        act = nn.SiLU if given is None else type(given.act)
        self.bn2 = BatchNormAct2d(channels, eps=1e-3 if given is None else given.eps, act_layer=act)
        if given is not None:
            self.bn2.momentum = given.momentum
        self.global_pool = SelectAdaptivePool2d(pool_type="avg", flatten=True)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, classes)
        # As timm initialises its EfficientNets: no class is preferred at first.
        nn.init.zeros_(self.classifier.bias)

    def features(self, coarsest: Tensor) -> Tensor:
        """The vector (B, channels) of a map (B, in_channels, h, w)."""
        vectors: Tensor = self.global_pool(self.bn2(self.conv_head(coarsest)))
        return vectors

    def forward(self, coarsest: Tensor) -> Tensor:
        """Class logits (B, K) of a map (B, in_channels, h, w)."""
        logits: Tensor = self.classifier(self.dropout(self.features(coarsest)))
        return logits


class Classifier(Foldable):
    """A network of the family.

    Args:
        member: `b0` ... `b7`, `lite0` ... `lite4`, `v2_s`, `v2_m`, `v2_l`, or a complete `ClassifierArchitecture`.
        classes: the names of the K rows.
        backbone: a timm EfficientNet in place of the member's, or a network that meets `backbones.contract.Features`
            at level 5; one given as an object has to be given to `from_settings` again.
        backbone_weights: ImageNet weights for the backbone, see `backbones.weights.load`; None starts at random.
        overrides: any other field of `ClassifierArchitecture` in place of the member's own value.

    Raises:
        InputError: unknown member or field, or a value out of range.
    """

    backbone: Features
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        member: str | ClassifierArchitecture = "b0",
        *,
        classes: LabelClasses,
        backbone: str | Features | None = None,
        backbone_weights: str | Path | None = None,
        frozen_stages: int = 0,
        freeze_norm: bool = False,
        grad_checkpointing: bool = False,
        **overrides: object,
    ) -> None:
        super().__init__()
        name = backbone if isinstance(backbone, str) else None if backbone is None else given_name(backbone)
        if isinstance(member, str):
            config = architecture(member, **{"backbone": name, **overrides})
        elif overrides or isinstance(backbone, str):
            msg = "give overrides with a member's name, or a complete ClassifierArchitecture, not both."
            raise InputError(msg)
        else:
            config = member if name is None else dataclasses.replace(member, backbone=name)
        self.config = config
        self.classes = classes
        freezing: Freezing = {
            "frozen_stages": frozen_stages,
            "freeze_norm": freeze_norm,
            "grad_checkpointing": grad_checkpointing,
        }
        refuse_whole_weights(config.widths, backbone_weights)
        make = partial(
            EfficientNetFeatures,
            config.backbone,
            levels=LEVELS,
            drop_path=config.drop_path,
            norm_momentum=config.norm_momentum,
            norm_eps=config.norm_eps,
            weights=backbone_weights,
            **freezing,
        )
        self.backbone = chosen_features(
            backbone, make, config.backbone, levels=LEVELS, weights=backbone_weights, freezing=freezing
        )
        norm: nn.Module | None = None
        channels = _OTHER_CHANNELS
        if isinstance(self.backbone, EfficientNetFeatures):
            norm, channels = self.backbone.bn1, head_channels(self.backbone.name)
        self.head = ClassHead(self.backbone.channels[-1], channels, len(classes), config.dropout, norm)
        image_norm = self.backbone.image_norm
        mean, std = config.mean or image_norm.mean, config.std or image_norm.std
        self.register_buffer("mean", 255 * torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std)[:, None, None], persistent=False)
        slim(self, config.widths, 2 * self.stride)

    def forward(self, images: Tensor) -> Tensor:
        """Class logits.

        Args:
            images: (B, 3, H, W) RGB in 0..255, uint8 or float, of any height and width.

        Returns:
            (B, K).
        """
        logits: Tensor = self.head(self.backbone(self.normalise(images))[-1])
        return logits

    def features(self, images: Tensor) -> Tensor:
        """The vectors (B, F) that the last layer classifies, of images as for `forward`."""
        vectors: Tensor = self.head.features(self.backbone(self.normalise(images))[-1])
        return vectors

    def probabilities(self, images: Tensor) -> Tensor:
        """(B, K) float32 in [0, 1]; over the classes they sum to 1 where an image has one label."""
        logits: Tensor = self(images).float()
        return logits.sigmoid() if self.classes.several else logits.softmax(1)

    def normalise(self, images: Tensor) -> Tensor:
        """0..255 to the backbone's range."""
        normal = (images.to(self.mean.dtype) - self.mean) / self.std
        return normal.contiguous(memory_format=torch.channels_last)

    def set_classes(self, classes: LabelClasses) -> None:
        """Take another class list; if its rows differ, only the last layer gets new random values."""
        if classes.names != self.classes.names:
            last = self.head.classifier
            self.head.classifier = nn.Linear(last.in_features, len(classes)).to(last.weight)
            nn.init.zeros_(self.head.classifier.bias)
            if is_main():
                kept = "all weights are kept except the last layer, which gets new random values"
                _log.warning("class list changed from %d to %d rows: %s", len(self.classes), len(classes), kept)
        self.classes = classes

    def settings(self) -> StoredClassifier:
        """Plain values from which `from_settings` builds the same network, for checkpoints."""
        stored = cast("StoredClassifier", self.config.to_settings())
        return {**stored, "classes": self.classes.to_dict()}

    @classmethod
    def from_settings(cls, settings: StoredClassifier, backbone: Features | None = None) -> Classifier:
        """The network that `settings` describes, with random weights.

        Args:
            settings: see `settings`.
            backbone: replaces the one described; needed if that was given as an object.

        Raises:
            InputError: the settings do not say how the backbone is built, and none is given.
        """
        config = ClassifierArchitecture.from_settings(settings)
        return cls(config, classes=LabelClasses.from_dict(settings["classes"]), backbone=backbone)

    @property
    def reading(self) -> Reading:
        """How rasters become the 8-bit RGB that the network is trained on."""
        return self.config.reading

    @property
    def width(self) -> int:
        """F, the length of the vectors that the last layer classifies."""
        return self.head.classifier.in_features

    @property
    def framing(self) -> Framing:
        """How a picture becomes the square that the network sees in validation and prediction."""
        config, mean = self.config, tuple(float(value) for value in (self.mean / 255).flatten())
        return Framing(config.image_size, config.crop_pct, config.crop_mode, config.interpolation, mean)

    @property
    def fill_color(self) -> tuple[int, int, int]:
        """The mean colour in 0..255, which fills what is beside the picture."""
        red, green, blue = (round(value) for value in self.mean.flatten().tolist())
        return red, green, blue

    @property
    def stride(self) -> int:
        """The number of pixels that the sides of images should be multiples of; other sides work too."""
        return 32
