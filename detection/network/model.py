"""EfficientDet: images in, class logits and box deltas out; or letter-boxed batches in, boxes out.

Source: Tan, Pang, Le, "EfficientDet: Scalable and Efficient Object Detection" (arXiv 1911.09070), figure 3.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.contract import Features, Freezing, check_features, check_named, check_untouched, given_name
from backbones.features import EfficientNetFeatures
from backbones.folding import Foldable
from backbones.grid import size_hw
from backbones.slimming import cut, inside, refuse_whole_weights, slim
from detection.data.batch import DetectionBatch, Detections
from detection.data.classes import BoxClasses
from detection.network.anchors import AnchorCache, Lattice
from detection.network.bifpn import BiFPN, initialise_pyramid
from detection.network.family import DetectorArchitecture, architecture, replaced
from detection.network.heads import CLASS_BIAS, Head, initialise_head
from detection.network.loss_settings import DetectionLoss
from detection.network.losses import Losses, detection_losses
from detection.network.postprocess import Postprocess, postprocess, to_original_pixels
from engine.distributed import is_main
from engine.errors import InputError
from engine.reading.options import Reading

_log = logging.getLogger(__name__)

COARSEST = 5  # level of the backbone; the pyramid's coarser ones are computed from it


class Answers(NamedTuple):
    """The network's results for a batch, with the maps that its heads read.

    Attributes:
        pyramid: maps (B, C, H_l, W_l), finest first.
        class_logits: (B, R, K).
        box_deltas: (B, R, 4), in the order ty, tx, th, tw.
        anchors_xyxy: (R, 4) canvas pixels.
    """

    pyramid: list[Tensor]
    class_logits: Tensor
    box_deltas: Tensor
    anchors_xyxy: Tensor

    @property
    def predictions(self) -> tuple[Tensor, Tensor, Tensor]:
        """As the method of the network that has this name."""
        return self.class_logits, self.box_deltas, self.anchors_xyxy


class EfficientDet(Foldable):
    """A network of the family.

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
        if backbone is None or isinstance(backbone, str):
            check_named(config.backbone)
            refuse_whole_weights(config.widths, backbone_weights)
            self.backbone = EfficientNetFeatures(
                config.backbone,
                levels=levels,
                drop_path=config.drop_path,
                norm_momentum=config.norm_momentum,
                weights=backbone_weights,
                **freezing,
            )
        else:
            check_features(backbone, levels)
            check_untouched(backbone_weights, freezing)
            self.backbone = backbone
        given = {key for key, value in overrides.items() if value is not None}
        if isinstance(member, str) and name and not given & {"mean", "std"}:
            norm = self.backbone.image_norm
            config = self.config = DetectorArchitecture.from_dict(
                config.to_dict() | {"mean": norm.mean, "std": norm.std}
            )
        self.fpn = BiFPN(self.backbone.channels, config)
        self.class_head = Head(len(self.classes), config)
        self.box_head = Head(4, config)
        initialise_pyramid(self.fpn)
        initialise_head(self.class_head, last_bias=CLASS_BIAS)
        initialise_head(self.box_head)
        self.anchors = AnchorCache(config)
        self.register_buffer("mean", 255 * torch.tensor(config.mean)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(config.std)[:, None, None], persistent=False)
        slim(self, config.widths, self.stride)

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits and box deltas by level, finest first.

        Args:
            images: (B, 3, H, W) RGB in 0..255, uint8 or float, any size.

        Returns:
            Maps (B, A * K, H_l, W_l) and (B, A * 4, H_l, W_l), anchor-major; deltas in the order ty, tx, th, tw. Each
            level has half the height and width of the one below, rounded up.
        """
        pyramid = self.fpn(self.backbone(self.normalise(images)))
        return self.class_head(pyramid), self.box_head(pyramid)

    def normalise(self, images: Tensor) -> Tensor:
        """0..255 to the backbone's range; with `pads_canvas` up to a multiple of the coarsest stride."""
        if not self.config.pads_canvas:
            return self._scaled(images).contiguous(memory_format=torch.channels_last)
        height, width = size_hw(images)
        pads = (0, -width % self.config.stride, 0, -height % self.config.stride)
        black = self.config.fill == "black"
        normal = self._scaled(F.pad(images, pads)) if black else F.pad(self._scaled(images), pads)
        return normal.contiguous(memory_format=torch.channels_last)

    def _scaled(self, images: Tensor) -> Tensor:
        return (images.to(self.mean.dtype) - self.mean) / self.std

    def predictions(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits (B, R, K), box deltas (B, R, 4) and their anchors (R, 4) xyxy in canvas pixels."""
        return self.answers(images).predictions

    def answers(self, images: Tensor) -> Answers:
        """As `predictions`, with the maps of the pyramid."""
        normal = self.normalise(images)
        return self._answers_from(self.backbone(normal), size_hw(normal))

    def predictions_from(self, features: list[Tensor], canvas_hw: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """As `predictions`, from the backbone's maps of levels 3, 4 and 5, with `min_level` 2 of 2 too.

        Args:
            features: maps (B, C_l, H_l, W_l), finest first.
            canvas_hw: height and width of the normalised images that they were computed from.
        """
        return self._answers_from(features, canvas_hw).predictions

    def _answers_from(self, features: list[Tensor], canvas_hw: tuple[int, int]) -> Answers:
        pyramid = self.fpn(features)
        class_maps, box_maps = self.class_head(pyramid), self.box_head(pyramid)
        # A view, because tracing takes as an output only what an operation gave.
        anchors = self.anchors(canvas_hw, class_maps[0].device).view(-1, 4)
        return Answers(pyramid, self.class_head.flatten(class_maps), self.box_head.flatten(box_maps), anchors)

    @property
    def takes_pictures(self) -> bool:
        """Whether it lays pictures on its canvas itself, and answers in their pixels, as some exported files do."""
        return False

    @property
    def suppresses(self) -> bool:
        """Whether the network itself gives boxes, and no logits, as one in an exported file may."""
        return False

    def losses(self, batch: DetectionBatch, config: DetectionLoss) -> Losses:
        """Loss sums of a batch; divide by the positives of all devices."""
        return self.losses_of(self.predictions(batch.images), batch, config)

    def losses_of(
        self, predictions: tuple[Tensor, Tensor, Tensor], batch: DetectionBatch, config: DetectionLoss
    ) -> Losses:
        """As `losses`, from the result of `predictions` for the batch's images."""
        lattice = self.lattice(size_hw(batch.images))
        return detection_losses(*predictions, batch.boxes_xyxy, batch.class_ids, config, lattice)

    def lattice(self, image_hw: tuple[int, int]) -> Lattice:
        """The order of the anchors of images of this height and width."""
        multiple = self.config.stride if self.config.pads_canvas else 1
        height, width = (-(-side // multiple) * multiple for side in image_hw)
        return Lattice.of((height, width), self.config)

    @torch.no_grad()
    def detect(self, batch: DetectionBatch, config: Postprocess) -> Detections:
        """Detections of a letter-boxed batch, in pixels of the original images."""
        return self.detections(self.predictions(batch.images), batch, config)

    @staticmethod
    def detections(
        predictions: tuple[Tensor, Tensor, Tensor], batch: DetectionBatch, config: Postprocess
    ) -> Detections:
        """As `detect`, from the result of `predictions` for the batch's images."""
        class_logits, box_deltas, anchors = predictions
        limits_hw = batch.sizes_hw * batch.scales[:, None]
        found = postprocess(class_logits, box_deltas, anchors, config, limits_hw)
        return to_original_pixels(found, batch.scales, batch.sizes_hw)

    def set_classes(self, classes: BoxClasses) -> None:
        """Take another class list; if its rows differ, only the class head's last layer gets new random values."""
        if classes == self.classes:
            return
        if is_main():
            kept = "all weights are kept except the last class layer, which gets new random values"
            _log.warning("class list changed from %d to %d rows: %s", len(self.classes), len(classes), kept)
        fresh = Head(len(classes), self.config)
        initialise_head(fresh, last_bias=CLASS_BIAS)
        cut(fresh, inside(self.config.widths, "class_head"))
        self.class_head.predict = fresh.predict.to(self.mean)
        self.class_head.outputs = len(classes)
        self.classes = classes

    def settings(self) -> dict[str, object]:
        """Plain values from which `from_settings` builds the same network, for checkpoints."""
        return {**self.config.to_settings(), "classes": self.classes.to_dict()}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], backbone: Features | None = None) -> EfficientDet:
        """The network that `settings` describes, with random weights.

        Args:
            settings: see `settings`.
            backbone: replaces the one described; needed if that was given as an object.

        Raises:
            InputError: the settings do not say how the backbone is built, and none is given.
        """
        config = DetectorArchitecture.from_settings(settings)
        return cls(config, classes=BoxClasses.from_dict(settings["classes"]), backbone=backbone)

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
