"""Images in, one class per pixel out: the EfficientNet extractor with the DeepLabv3+ head, or another decoder.

Source: Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation"
(arXiv 1802.02611), figure 2.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Generator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.contract import Features, Freezing, check_named, chosen_features, given_name
from backbones.features import EfficientNetFeatures
from backbones.folding import Foldable
from backbones.grid import Grid, size_hw
from backbones.slimming import refuse_whole_weights, slim
from engine.distributed import is_main
from engine.errors import InputError
from engine.reading.options import Reading
from segmentation.data.cityscapes.labels import CITYSCAPES
from segmentation.data.classes import MaskClasses
from segmentation.network.decoders import SmpHead
from segmentation.network.deeplab import AuxiliaryHead, DeepLabHead
from segmentation.network.family import OutputStride, SegmenterArchitecture, architecture

_log = logging.getLogger(__name__)


class Outputs(NamedTuple):
    """The network's results for a batch.

    Attributes:
        logits: (B, K, H, W).
        aux_logits: (B, K, H, W) of the auxiliary head; None in evaluation, or without one. A joint network that
            `torch.jit.trace` runs has no image there in place of None, which no trace can return.
    """

    logits: Tensor
    aux_logits: Tensor | None


class Segmenter(Foldable):
    """A network of the family.

    Args:
        member: `b0` ... `b7`, `lite0` ... `lite4`, `v2_s`, `v2_m`, `v2_l`, or a complete `SegmenterArchitecture`.
        num_classes: K, for classes without names; not needed with `classes`.
        classes: names, mask values and colours of the K rows; Cityscapes' 19 if neither is given.
        backbone: a timm EfficientNet in place of the member's; or a network that meets `backbones.contract.Features`
            at the levels of the decoder, EfficientNet or not. A file that the segmenter is saved to holds the weights
            of such a network, but not what it is: `from_settings` has to be given one like it.
        backbone_weights: ImageNet weights for the backbone, see `backbones.weights.load`; None starts at random.
        overrides: any other field of `SegmenterArchitecture` in place of the member's own value.

    Raises:
        InputError: unknown member or field, a value out of range, or a class count that contradicts `classes`.
    """

    backbone: Features
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        member: str | SegmenterArchitecture = "b0",
        num_classes: int | None = None,
        *,
        classes: MaskClasses | None = None,
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
            msg = "give overrides with a member's name, or a complete SegmenterArchitecture, not both."
            raise InputError(msg)
        else:
            config = member if name is None else dataclasses.replace(member, backbone=name)
        self.config = config
        self.classes = _class_list(num_classes, classes)
        freezing: Freezing = {
            "frozen_stages": frozen_stages,
            "freeze_norm": freeze_norm,
            "grad_checkpointing": grad_checkpointing,
        }
        levels = _levels(config)
        refuse_whole_weights(config.widths, backbone_weights)
        make = partial(
            EfficientNetFeatures,
            config.backbone,
            levels=levels,
            output_stride=config.output_stride,
            exact_gates=config.exact_gates,
            drop_path=config.drop_path,
            norm_momentum=config.norm_momentum,
            norm_eps=config.norm_eps,
            weights=backbone_weights,
            **freezing,
        )
        self.backbone = chosen_features(
            *(backbone, make, config.backbone),
            levels=levels,
            coarsest=config.output_stride,
            weights=backbone_weights,
            freezing=freezing,
        )
        channels, rows = self.backbone.channels, len(self.classes)
        self.head: DeepLabHead | SmpHead
        if config.decoder == "deeplabv3plus":
            self.head = DeepLabHead(channels[0], channels[-1], rows, config)
        else:
            self.head = SmpHead(config.decoder, self.backbone.channels, rows, config.output_stride)
        _set_norm_momentum(self.head, config.norm_momentum)
        self.aux_head = self._auxiliary_head(rows) if config.aux_head else None
        norm = self.backbone.image_norm
        self.register_buffer("mean", 255 * torch.tensor(config.mean or norm.mean)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(config.std or norm.std)[:, None, None], persistent=False)
        slim(self, config.widths, 2 * self.stride)

    def forward(self, images: Tensor) -> Tensor:
        """Class logits of every pixel.

        Args:
            images: (B, 3, H, W) RGB in 0..255, uint8 or float, of any height and width.

        Returns:
            (B, K, H, W).
        """
        return self.outputs(images).logits

    def outputs(self, images: Tensor) -> Outputs:
        """As `forward`, in training with the auxiliary head's logits."""
        image_hw = size_hw(images)
        normal = self.normalise(images)
        maps = self.backbone(normal)
        if isinstance(self.head, SmpHead):
            return Outputs(self.head(normal, maps)[..., : image_hw[0], : image_hw[1]], None)
        return self.outputs_from(maps, self.backbone.grids(image_hw), image_hw)

    def outputs_from(self, maps: list[Tensor], grids: list[Grid], image_hw: tuple[int, int]) -> Outputs:
        """As `outputs` with DeepLabv3+, from the backbone's maps.

        Args:
            maps: of stride 4, of level 4 if there is an auxiliary head, and of the output stride.
            grids: where their cells lie.
            image_hw: H and W.
        """
        assert isinstance(self.head, DeepLabHead)
        aux = self.aux_head(maps[1], grids[1], image_hw) if self.aux_head and self.training else None
        return Outputs(self.head(maps, grids, image_hw), aux)

    @property
    def gives_rows(self) -> bool:
        """Whether the network itself gives classes, and no logits, as one in an exported file may."""
        return False

    def rows(self, images: Tensor) -> Tensor:
        """The most likely class of each pixel, (B, H, W) uint8, of images as for `forward`."""
        found: Tensor = self(images).argmax(1).to(torch.uint8)
        return found

    def strips(self, images: Tensor, rows: int) -> Generator[Tensor, None, None]:
        """As `forward`, from top to bottom, for images whose logits are too many to be held at once.

        Another decoder than DeepLabv3+, and the alignment "corners", give all rows at once.

        Args:
            images: as for `forward`.
            rows: rows of a strip, at least 1; the last may have fewer.

        Yields:
            (B, K, rows, W): the next rows, equal to those of `forward`.
        """
        if isinstance(self.head, SmpHead):
            yield self(images)
            return
        image_hw = size_hw(images)
        grids = self.backbone.grids(image_hw)
        coarse = self.head.coarse(self.backbone(self.normalise(images)), grids)  # no map outlives this line
        yield from self.head.strips(coarse, grids[0], image_hw, rows)

    def normalise(self, images: Tensor) -> Tensor:
        """0..255 to the backbone's range; for decoders that need it, zeros up to a multiple of 32 pixels."""
        normal = (images.to(self.mean.dtype) - self.mean) / self.std
        if isinstance(self.head, SmpHead):
            height, width = size_hw(images)
            least = self.head.least_side
            pads = [max(least - side, -side % 32) for side in (width, height)]
            normal = F.pad(normal, (0, pads[0], 0, pads[1]))
        return normal.contiguous(memory_format=torch.channels_last)

    def at_stride(self, output_stride: OutputStride) -> Segmenter:
        """A network with the same weights at another output stride, with its rates adapted; the two share nothing.

        Raises:
            InputError: the network is folded.
        """
        if self.folded:
            msg = "this network is folded for prediction and keeps its output stride. Load it with fold=False."
            raise InputError(msg)
        check_named(self.config.backbone)
        other = Segmenter(self.config.at_stride(output_stride), classes=self.classes)
        other.load_state_dict(self.state_dict())
        return other.train(self.training).to(self.mean.device).to(memory_format=torch.channels_last)

    def set_classes(self, classes: MaskClasses) -> None:
        """Take another class list; if its rows differ, only the last layer gets new random values."""
        if classes.names != self.classes.names:
            last = [module for module in self.head.classifier.modules() if isinstance(module, nn.Conv2d)][-1]
            fresh = nn.Conv2d(last.in_channels, len(classes), last.kernel_size, padding=last.padding)  # type: ignore[arg-type]
            if isinstance(self.head, DeepLabHead):
                self.head.classifier = fresh.to(last.weight)
            else:
                self.head.classifier[0] = fresh.to(last.weight)
            if self.aux_head is not None:
                self.aux_head.set_classes(len(classes))
            if is_main():
                kept = "all weights are kept except the last layer, which gets new random values"
                _log.warning("class list changed from %d to %d rows: %s", len(self.classes), len(classes), kept)
        self.classes = classes

    def _auxiliary_head(self, rows: int) -> AuxiliaryHead:
        head = AuxiliaryHead(self.backbone.channels[1], rows, self.config.alignment)
        _set_norm_momentum(head, self.config.norm_momentum)
        return head

    def settings(self) -> dict[str, object]:
        """Plain values from which `from_settings` builds the same network, for checkpoints."""
        return {**self.config.to_settings(), "classes": self.classes.to_dict()}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], backbone: Features | None = None) -> Segmenter:
        """The network that `settings` describes, with random weights.

        Args:
            settings: see `settings`.
            backbone: replaces the one described; needed if that was given as an object.

        Raises:
            InputError: the settings do not say how the backbone is built, and none is given.
        """
        config = SegmenterArchitecture.from_settings(settings)
        return cls(config, classes=MaskClasses.from_dict(settings["classes"]), backbone=backbone)

    @property
    def reading(self) -> Reading:
        """How rasters become the 8-bit RGB that the network is trained on."""
        return self.config.reading

    @property
    def fill_color(self) -> tuple[int, int, int]:
        """The mean colour in 0..255, which fills crops beside the image."""
        red, green, blue = (round(value) for value in self.mean.flatten().tolist())
        return red, green, blue

    @property
    def stride(self) -> int:
        """An image shifted by a multiple of this many pixels gives the same maps, only shifted."""
        return 32


def _levels(config: SegmenterArchitecture) -> tuple[int, ...]:
    if config.decoder != "deeplabv3plus":
        return (1, 2, 3, 4, 5)
    return (2, 4, 5) if config.aux_head else (2, 5)


def _set_norm_momentum(module: nn.Module, momentum: float) -> None:
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = momentum


def _class_list(num_classes: int | None, classes: MaskClasses | None) -> MaskClasses:
    if classes is None:
        classes = CITYSCAPES if num_classes is None else MaskClasses.numbered(num_classes)
    if len(classes) < 2:
        msg = "one class is everywhere; what is not of the class needs a row of its own. Add one, such as 'background'."
        raise InputError(msg)
    if num_classes not in (None, len(classes)):
        msg = f"num_classes is {num_classes}, but the class list has {len(classes)} rows. Leave num_classes out."
        raise InputError(msg)
    return classes
